// Package kafkatest gives tests a Kafka to talk to.
//
// Three ways, from quick to real:
//
//   - [StartEmbedded] starts franz-go's kfake broker in memory. It is up in a
//     millisecond and speaks the whole protocol, transactions included.
//     [StartCluster] returns the same broker with its control surface, to
//     inject faults.
//   - [StartApache] starts Apache Kafka itself, one KRaft node (broker and
//     controller in one process) run with java from jars that
//     "make engines-kafka" fetches. It can be stopped, killed with SIGKILL and
//     started again on the same log.
//   - [SharedApache] is one such node for the whole test process, for tests
//     that only need their own topics.
//
// [Each] runs a test on kfake always and on Apache Kafka too when the
// environment variable SILLAGE_TEST_KAFKA is "apache".
//
// A started broker never outlives its test process: a watcher process ends
// Apache Kafka when the pipe to the test process closes, even if the test
// process is killed.
//
// The package's own tests run a transaction end to end on both brokers, and on
// Apache Kafka across a SIGKILL.
package kafkatest
