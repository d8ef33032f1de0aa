package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// task is one partition of a topology: its processor and its store, without Kafka. A batch begins, takes
// records and timers, hands out what is to be written to Kafka, and ends in commit or abort. One
// goroutine at a time uses it.
type task struct {
	top       *Topology
	partition int32
	proc      Processor
	store     store
	over      *overlay
	limits    limits
	tracing   tracer
	logger    *slog.Logger
	handover  string // topics of its own that it reads
	replays   string

	now     time.Time
	ctx     Context
	outputs []output  // of the batch, not handed out yet
	writes  []write   // scratch of commit
	count   taskCount // of the batch
	timers  timerCursor
	late    func() bool      // says that the time of a sweep is over; nil: it has any
	dead    func(DeadLetter) // also told of dead letters; may be nil

	panicked time.Time // when the last panic was logged
}

// limits bound what one record may do.
type limits struct {
	// recordBytes bounds key and value of what is emitted, and of each name of state.
	recordBytes int
	// outputs has the outputs that take less than recordBytes.
	outputs map[string]int
	// partBytes is where the state of a key that ends is split over several hand-over records.
	partBytes int
	// held bounds the records that wait for announced state, for each key.
	held int
	// wait bounds how long they wait.
	wait time.Duration
}

func newLimits(top *Topology) limits {
	wait := top.MergeWait
	if wait <= 0 {
		wait = 10 * time.Second
	}
	return limits{recordBytes: maxRecordBytes, partBytes: 512 << 10, held: 1000, wait: wait}
}

// taskCount counts what a batch did.
type taskCount struct {
	records, outputs, timers, merges, replays int
	bytes                                     int
	held                                      int // records held for merges, less those let go
	deadLetters                               [len(allClasses)]int
	lateness                                  []time.Duration // of each timer that fired
}

// output is a record to be written. Its bytes live until the batch ends.
type output struct {
	topic   string
	key     []byte
	value   []byte
	headers []Header
}

func newTask(top *Topology, partition int32, s store) *task {
	t := &task{
		top: top, partition: partition, proc: top.New(), store: s, over: newOverlay(s),
		limits: newLimits(top), logger: slog.New(slog.DiscardHandler),
		handover: top.HandoverTopic(), replays: top.ReplayTopic(),
	}
	t.ctx.task = t
	return t
}

// begin starts a batch at the given time of the injected clock.
func (t *task) begin(now time.Time) { t.now = now.UTC().Truncate(time.Millisecond) }

// fault is the first error of the store in this batch. After one the batch can only be aborted.
func (t *task) fault() error { return t.over.err }

// process handles one input record. It never fails for what is in the record: that goes to the dead letters.
func (t *task) process(rec *Record) {
	t.count.records++
	t.count.bytes += len(rec.Key) + len(rec.Value)
	switch rec.Topic {
	case t.handover:
		t.receive(rec)
	case t.replays:
		t.replay(rec)
	default:
		t.route(&envelope{rec: *rec})
	}
}

// handle gives a record to the processor under the given key; what it did is undone if it fails.
func (t *task) handle(k *keyOverlay, env *envelope) {
	rec := env.rec
	rec.Key = k.key
	span := t.tracing.start(t.top.Name, rec.Headers)
	err := t.guard(k, span.parent(), func(ctx *Context) error { return t.proc.Process(ctx, rec) })
	span.end(err)
	if err != nil && t.over.err == nil {
		t.deadLetter(DeadLetter{Record: env.rec}, err)
	}
}

// guard calls fn in a savepoint: an error, a misuse of the context or a panic undoes all that it did.
func (t *task) guard(k *keyOverlay, trace string, fn func(*Context) error) (err error) {
	t.over.savepoint()
	emitted := len(t.outputs)
	t.ctx.key, t.ctx.trace, t.ctx.err = k, trace, nil
	defer func() {
		if p := recover(); p != nil {
			err = classified{classPanic, fmt.Errorf("panic: %v", p)}
			t.logPanic(p)
		}
		if err == nil && t.ctx.err != nil {
			err = classified{classMisuse, t.ctx.err}
		}
		if err != nil {
			t.over.rollback()
			clear(t.outputs[emitted:])
			t.outputs = t.outputs[:emitted]
		}
	}()
	return fn(&t.ctx)
}

func (t *task) emit(topic string, key, value []byte, trace string) {
	out := output{topic: topic}
	if key != nil {
		out.key = t.over.mem.copy(key)
	}
	if value != nil {
		out.value = t.over.mem.copy(value)
	}
	if trace != "" {
		out.headers = []Header{{Key: headerTrace, Value: []byte(trace)}}
	}
	t.outputs = append(t.outputs, out)
}

func (t *task) isOutput(topic string) bool { return slices.Contains(t.top.Outputs, topic) }

// takeOutputs hands out what has been emitted since the last call. The slice is valid until the next one.
func (t *task) takeOutputs() []output {
	outs := t.outputs
	t.count.outputs += len(outs)
	t.outputs = t.outputs[:0]
	return outs
}

// changes are the changelog records of the batch: one for each entry that changed, with its last value.
func (t *task) changes() []write {
	t.writes = t.over.changes(t.writes[:0])
	return t.writes
}

// commit takes the batch into the store, which then stands at the given changelog offset.
func (t *task) commit(position int64) error {
	writes := t.changes()
	writes, lowest := t.over.dueChanges(writes, t.timers.cleared())
	t.writes = writes
	if err := t.store.apply(writes, position); err != nil {
		return fmt.Errorf("applying a committed batch: %w", err)
	}
	t.timers.committed(lowest)
	t.reset()
	return nil
}

// abort drops the batch; the store stays as it was.
func (t *task) abort() {
	t.timers.aborted()
	t.reset()
}

func (t *task) reset() {
	t.over.reset()
	clear(t.outputs)
	t.outputs = t.outputs[:0]
	clear(t.writes)
	t.writes = t.writes[:0]
	t.count = taskCount{lateness: t.count.lateness[:0]}
}

// checkEntry refuses names and values that no changelog record could hold.
func (t *task) checkEntry(name string, value []byte) error {
	if len(name) > maxNameBytes {
		return fmt.Errorf("a name of %d bytes is over the limit of %d", len(name), maxNameBytes)
	}
	if len(value) > t.limits.recordBytes {
		return fmt.Errorf("a value of %d bytes is over the limit of %d", len(value), t.limits.recordBytes)
	}
	return nil
}

var errKeyTooLong error = classified{classSize, errors.New("the record's key is longer than 4 KiB")}
