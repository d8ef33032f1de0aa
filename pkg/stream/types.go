package stream

import (
	"time"
)

// Record is one message of a topic.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []Header
	// Timestamp is the record's own, as written by its producer.
	Timestamp time.Time
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Timer is a timer that is due.
type Timer struct {
	// ID is the name that the processor gave it, unique for its key.
	ID string
	// Due is the time that it was set for; never after Context.Now.
	Due time.Time
	// Payload is what the processor gave with it.
	Payload []byte
}

// Processor is the pure heart of a stage. It sees one record or one due timer of one key at a time and
// acts only through the Context that it is given: it reads and writes that key's state, sets timers and
// emits records. It does no I/O, reads no clock, starts no goroutine and keeps nothing in memory that
// could not be lost at any moment. The runtime may call it for different keys from different goroutines
// only if they belong to different partitions; each partition has a Processor of its own.
//
// Slices in arguments are valid during the call only; copy what is kept.
//
// An error means that this record or timer cannot be handled, now or ever: whatever the call did is
// undone and the record goes to the dead-letter topic with the error as its reason.
type Processor interface {
	// Process handles one record whose key is ctx.Key().
	Process(ctx *Context, rec Record) error
	// Timer handles one timer of key ctx.Key() that is due.
	Timer(ctx *Context, timer Timer) error
	// Merge folds the state of a key that ended (src) into the key that goes on (dst). What it does not
	// take over is gone when it returns. Timers of src do not fire any more unless they are set anew on dst.
	Merge(dst *Context, src *Source) error
}

// MergeKind says what a record means for merging.
type MergeKind int

const (
	// NoMerge marks an ordinary record.
	NoMerge MergeKind = iota
	// MergeAnnounced marks, on the surviving key, that the state of Merge.Other is on its way: records of
	// this key wait for it (bounded in time).
	MergeAnnounced
	// MergeInto marks, on the ending key, that its state goes to Merge.Other and later records follow it.
	MergeInto
)

// Merge is what a record means for merging.
type Merge struct {
	Kind MergeKind
	// Other is the record key of the other side: the ending key for MergeAnnounced, the surviving one for MergeInto.
	Other []byte
	// ID names the merge, the same on both sides.
	ID string
}

// Topology describes a stage: what it reads, what it writes, and its processor.
type Topology struct {
	// Name names the stage and with it its consumer group, transactional ids, changelog and internal
	// topics. Lower-case letters, digits and '-'. Changing it starts from nothing.
	Name string
	// Inputs are the topics that it reads. All have the same number of partitions and the same partitioner,
	// so that partition i of each holds the same keys.
	Inputs []string
	// First, if set, is the input that the records of the others follow from: after a time in which nobody
	// worked, the others wait until First has been read as far as it had come, and of what is read at once
	// First is handled first. Without it nothing is said about the order of records of two inputs.
	First string
	// Outputs are the topics that it may emit to. Emitting to any other is an error.
	Outputs []string
	// New makes the processor of one partition.
	New func() Processor
	// Merges tells which records announce or carry out merges of keys; nil if keys never merge.
	// A merge record is handed to Process as well: on MergeInto before the state leaves, on
	// MergeAnnounced when it comes. It must be pure.
	Merges func(Record) Merge
	// MergeWait bounds how long records of a surviving key wait for announced state, by the injected clock. Default 10s.
	MergeWait time.Duration
	// StateVersion is the version of what the processor keeps: of the names and values of its state and of
	// the ids and payloads of its timers. Raise it, and give Upgrade, when New's processors could not read
	// what earlier ones have written. Default 0.
	//
	// A partition is of one version, which its changelog says. Before an instance with a higher one works on
	// it, Upgrade is called once for each key, in transactions that commit what it did and how far it came
	// together: whoever goes on after a crash, on whichever instance, begins behind it. Meanwhile the
	// partition takes no records and fires no timers, and Ready says so; the others go on. State that is
	// handed over to a key of another partition by a merge carries its version and is upgraded when it
	// comes. Records that wait for a merge are input, and stay as they are.
	//
	// There is no way back: an instance of a lower version refuses the partition (it is not ready and says
	// why), and the group gives it to one that does not, if there is one. In a rolling restart every
	// partition is upgraded when it first comes to an instance of the new version. To undo a release, give
	// the state a higher version again whose Upgrade turns it back.
	StateVersion int
	// Upgrade rewrites what one key holds, from the version that it says to StateVersion. It is needed when
	// StateVersion is not 0, and has to know every version that may be out there still. It must be pure. If
	// it returns an error, the partition stands still as it was, until an instance comes whose Upgrade
	// does not.
	Upgrade func(*Upgrade) error
}
