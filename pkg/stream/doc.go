// Package stream runs keyed, stateful processors on Kafka, exactly once.
//
// A [Topology] names a stage: the topics that it reads and writes, and a [Processor]. The processor is
// pure: it sees one record or one due timer of one key at a time and acts through its [Context] alone. A
// [Runner] runs a topology on Kafka, one member of its consumer group for each instance; a [Driver] runs
// topologies in memory on a virtual clock, for tests and simulations, with the same engine.
//
// # What is promised, and which test would catch its loss
//
//  1. Exactly once within Kafka. Input offsets, outputs and changelog records of a batch commit in one
//     transaction; state is applied only after the commit. An aborted batch leaves no trace
//     (TestAbortLeavesNoTrace); kills, lost requests, lost answers and errors at the end of a transaction
//     neither lose nor double a record (TestKillNine, TestLostRequestsAndAnswers, TestBrokerErrors), and
//     each transaction says where it stands in every input (TestEveryInputIsCommitted).
//  2. One owner a partition. Partition i of all inputs is one task and goes to one member
//     (TestBalanceIsTaskByTask, TestBalanceProperties, TestOwnershipNoticesATaskThatWentAndCame); members
//     that come, go and freeze disturb nothing (TestInstancesComeAndGo, TestZombieIsFenced).
//  3. State follows the partition. A new owner opens its store or rebuilds it from the changelog, and is
//     not ready before (TestStoreIsRebuilt, TestDamageFoundAtWork, TestUnusableStoresBeginAnew,
//     TestRestoreWaitsForOpenTransaction,
//     TestRunnerCountsExactlyOnceAcrossRestart).
//  4. Durable timers: each fires once, in order of due time, by the injected clock, in bounded sweeps
//     (TestTimersFireOnceInOrder, TestSweepsAreBounded, TestR11Timers of tests/e2e/faults,
//     TestTimersOfAnEarlierRunAreNotSkipped).
//  5. No record stops a partition: what cannot be handled is undone and goes to the dead letters in the
//     same transaction, with its reason, place and bytes (TestDriverDeadLettersUndoTheRecordAlone; the
//     poison in TestKillNine and its like). That holds for what an output does not take and for records
//     too large to be kept whole (TestOutputTooLarge, TestLargeInputThatFails). A letter can be put back, to
//     this stage alone (TestReplay; package dlq does it at most once).
//  6. Merging: the state of a key that ends follows to the key that goes on, records wait for announced
//     state within bounds, late records follow, chains and cycles end in one place
//     (TestMergesEndInOnePlace, TestMergeSplitsLargeState, TestMergeHoldsNoMoreThanItsLimit,
//     TestDriverMergeWaitIsBounded, TestRunnerMerges), whatever happens in between
//     (TestMergesUnderFaults).
//  7. Bounded memory and latency: batches are bounded in records, bytes and time, and nothing is polled
//     while they are worked on (TestBatchesAreBounded, BenchmarkStage).
//  8. The same processors run without Kafka (TestDriverKeepsStatePerKey and all tests of merging;
//     TestRunnerEqualsDriver compares the two).
//  9. What goes wrong is seen: metrics count what has committed, once (TestMetricsAreExact); a stage that
//     cannot get on says why, in Ready, a metric and one line of its log at a bounded rate
//     (TestOutputDeleted, TestNotAuthorizedToWrite, TestHealth).
//
// # Limits
//
// Keys and names of state are at most 4 KiB; a value or an emitted record (key and value) at most 900 KiB.
// The order of records is kept for each key within one input topic; between topics there is none. The
// partition count of the inputs cannot change: keys would not meet their state. Exactly once needs brokers
// that get transactions right: Kafka 4.0 or newer with transaction.version=2. Below that, a request that a
// broker handles late can tear a transaction (KAFKA-17754), and with it a batch; the runtime warns when it
// starts, and sends the end of each transaction once, which leaves the rarer ways.
package stream
