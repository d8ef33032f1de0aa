// Package clickhouse is ClickHouse inside this process, behind ClickHouse's own HTTP interface: the
// product's analytical engine where no server is to be run, and the real ClickHouse of its tests.
//
// [Open] checks, [Engine.Start] brings the engine up, and from then on clickhouse-go (Protocol
// HTTP), curl and any other client of the HTTP interface find a ClickHouse on [Engine.Addr]. The
// engine is libchdb, loaded without cgo; [Locate] says where it is looked for.
//
// It promises:
//   - An insert that was acknowledged survives kill -9 (TestAcknowledgedInsertsSurviveKill), and a
//     deduplication token inserts once, also across a kill. It is in the page cache then, not
//     necessarily on the disk: a loss of power is another matter, as with any ClickHouse server
//     without fsync_after_insert, which a table may set.
//   - Errors, formats, settings, parameters, compression and sessions are those of ClickHouse's
//     HTTP interface (http_test.go); columns of every kind go both ways (types_test.go).
//   - Nothing is unbounded: statements that run, statements that wait, bodies, results held in
//     memory and the engine's own memory have limits ([Config], TestLimits).
//   - A client that goes away ends its statement (TestLeavingClientEndsItsStatement).
//   - The Go runtime keeps its signal handlers (TestGoKeepsItsSignalHandlers), and Stop is bounded
//     (TestStopIsBoundedAndFreesTheDirectory).
//
// Its limits are the library's: one engine in the life of a process, one process to a data
// directory, one user without password and therefore no roles or row policies. Whoever reaches the
// port reads and writes every table; what lies outside the tables is closed unless
// Config.ExternalSources opens it. README.md lists what works and what is refused.
package clickhouse
