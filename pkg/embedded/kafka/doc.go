// Package kafka is a Kafka broker inside the process, on a data directory:
// franz-go's kfake, which speaks Kafka's protocol, transactions included, so
// that clients and code paths are those of production.
//
// What this package adds is that the directory survives the death of the
// process at any instant. kfake alone tears the transaction whose commit was
// under way: it writes the commit markers partition by partition and the
// group's offsets after them, and takes what has no marker for aborted at the
// next start. Here each commit is noted before kfake handles it, and [Open]
// completes it or aborts it as a whole before any client is served. The same
// repair rebuilds what kfake writes at a clean end alone (the sequences by which
// retries are recognised, the start of partitions) and what it writes in two
// steps (segments and their indexes).
//
// Promises, after kill -9 and reopening: every acknowledged record is there,
// once if its producer is idempotent; a read-committed consumer sees each
// transaction whole or not at all, with the offsets that belong to it; no
// transaction stays open. TestKillBroker and TestKillAllInOne kill the broker
// under full load and would see the loss of any of these.
//
// Limits: one broker, no replication; without [Config.SyncWrites] what was
// acknowledged can be lost with the machine, not with the process. See
// README.md for the file formats and for how disk space is bounded.
package kafka
