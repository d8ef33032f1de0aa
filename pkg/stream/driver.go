package stream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// DriverConfig says how the virtual world of a Driver begins.
type DriverConfig struct {
	// Start is the time that the virtual clock shows first. Default: the Unix epoch.
	Start time.Time
	// Partitions is the partition count of every topic. Default 1.
	Partitions int32
}

// maxSteps bounds what one call of Send or Advance may set off, so that processors that feed each other
// for ever end in an error.
const maxSteps = 50_000_000

// Driver runs topologies in memory on a virtual clock, without Kafka: the same engine as the Runner's,
// merging and dead letters included, with an ordered map for a store. It is deterministic: the same calls
// give the same outputs in the same order. Records go to partitions by the same hash of their key as in
// Kafka; a record without a key goes to partition 0.
//
// A Driver is for one goroutine.
type Driver struct {
	partitions  int32
	now         time.Time
	stages      []*driverStage
	readers     map[string][]*driverStage
	logs        map[string]*driverTopic
	deadLetters []DeadLetter
	partitioner kgo.TopicPartitioner
}

// driverStage is one topology with a task for each partition.
type driverStage struct {
	top   *Topology
	tasks []*task
	queue [][]Record // by partition
}

// driverTopic is all that was written to a topic.
type driverTopic struct {
	records []Record
	drained int
	offsets []int64
}

// NewDriver returns a driver of the given topologies, which share topics: what one emits to the input of
// another is fed on to it.
func NewDriver(cfg DriverConfig, topologies ...Topology) (*Driver, error) {
	if cfg.Start.IsZero() {
		cfg.Start = time.Unix(0, 0)
	}
	if cfg.Partitions <= 0 {
		cfg.Partitions = 1
	}
	d := &Driver{
		partitions: cfg.Partitions, now: cfg.Start.UTC().Truncate(time.Millisecond),
		readers: make(map[string][]*driverStage), logs: make(map[string]*driverTopic),
		partitioner: kgo.StickyKeyPartitioner(nil).ForTopic(""),
	}
	for i := range topologies {
		top := topologies[i]
		if err := top.Validate(); err != nil {
			return nil, err
		}
		if d.stage(top.Name) != nil {
			return nil, fmt.Errorf("topology %q is there twice", top.Name)
		}
		d.addStage(&top)
	}
	return d, nil
}

func (d *Driver) addStage(top *Topology) {
	stage := &driverStage{top: top, queue: make([][]Record, d.partitions)}
	for p := range d.partitions {
		t := newTask(top, p, newMemStore())
		t.dead = func(dl DeadLetter) { d.deadLetters = append(d.deadLetters, cloneDeadLetter(dl)) }
		stage.tasks = append(stage.tasks, t)
	}
	d.stages = append(d.stages, stage)
	for _, topic := range top.consumed() {
		d.readers[topic] = append(d.readers[topic], stage)
	}
}

func (d *Driver) stage(name string) *driverStage {
	for _, s := range d.stages {
		if s.top.Name == name {
			return s
		}
	}
	return nil
}

// Send writes a record and runs until nothing is left to do at the present time. It is an error if no
// topology reads the topic.
func (d *Driver) Send(topic string, key, value []byte) error {
	return d.SendRecord(Record{Topic: topic, Key: key, Value: value, Timestamp: d.now})
}

// SendRecord is Send for a record with headers or a timestamp of its own. Partition and offset are set
// by the driver.
func (d *Driver) SendRecord(rec Record) error {
	if len(d.readers[rec.Topic]) == 0 {
		return fmt.Errorf("sending to %q: no topology reads it", rec.Topic)
	}
	d.write(cloneRecord(rec))
	return d.run()
}

// Advance moves the clock to the given time and fires the timers that become due, in order of their due
// time, each at its due time; what they emit is handled before the next. Going back is an error.
func (d *Driver) Advance(to time.Time) error {
	to = to.UTC().Truncate(time.Millisecond)
	if to.Before(d.now) {
		return fmt.Errorf("advancing to %s: the clock shows %s already", to, d.now)
	}
	for range maxSteps {
		t, due := d.firstDue()
		if t == nil || due.After(to) {
			d.now = to
			return nil
		}
		if due.After(d.now) {
			d.now = due
		}
		t.begin(d.now)
		t.fireTimers(1)
		if err := d.finish(t); err != nil {
			return err
		}
		if err := d.run(); err != nil {
			return err
		}
	}
	return errors.New("timers keep setting timers: giving up")
}

// Now is the time of the virtual clock.
func (d *Driver) Now() time.Time { return d.now }

// Output returns everything that was ever written to a topic, in order; records that were sent included.
func (d *Driver) Output(topic string) []Record {
	if log := d.logs[topic]; log != nil {
		return slices.Clone(log.records)
	}
	return nil
}

// Drain returns what was written to a topic since the last call of Drain for it.
func (d *Driver) Drain(topic string) []Record {
	log := d.logs[topic]
	if log == nil {
		return nil
	}
	records := slices.Clone(log.records[log.drained:])
	log.drained = len(log.records)
	return records
}

// State reads what a topology keeps under a name of a key. A key that was merged away has no state.
func (d *Driver) State(topology string, key []byte, name string) ([]byte, bool) {
	stage := d.stage(topology)
	if stage == nil {
		return nil, false
	}
	t := stage.tasks[d.partition(key)]
	v, ok, err := t.store.get(appendStoreKey(nil, kindState, key, name), nil)
	return slices.Clone(v), ok && err == nil
}

// DeadLetters returns every record and timer that could not be handled so far.
func (d *Driver) DeadLetters() []DeadLetter { return slices.Clone(d.deadLetters) }

func (d *Driver) partition(key []byte) int32 {
	if key == nil {
		return 0
	}
	return int32(d.partitioner.Partition(&kgo.Record{Key: key}, int(d.partitions)))
}

// write appends a record to its topic and to the queues of those that read it.
func (d *Driver) write(rec Record) {
	log := d.logs[rec.Topic]
	if log == nil {
		log = &driverTopic{offsets: make([]int64, d.partitions)}
		d.logs[rec.Topic] = log
	}
	rec.Partition = d.partition(rec.Key)
	rec.Offset = log.offsets[rec.Partition]
	log.offsets[rec.Partition]++
	log.records = append(log.records, rec)
	for _, stage := range d.readers[rec.Topic] {
		stage.queue[rec.Partition] = append(stage.queue[rec.Partition], rec)
	}
}

// run handles queued records, and the timers that they set to fire at once, until nothing is left.
func (d *Driver) run() error {
	for range maxSteps {
		t, rec, ok := d.next()
		if ok {
			t.begin(d.now)
			t.process(&rec)
			if err := d.finish(t); err != nil {
				return err
			}
			continue
		}
		due, at := d.firstDue()
		if due == nil || at.After(d.now) {
			return nil
		}
		due.begin(d.now)
		due.fireTimers(1)
		if err := d.finish(due); err != nil {
			return err
		}
	}
	return errors.New("records keep setting off records: giving up")
}

// next takes the first queued record, by topology and partition.
func (d *Driver) next() (*task, Record, bool) {
	for _, s := range d.stages {
		for p := range s.queue {
			if len(s.queue[p]) > 0 {
				rec := s.queue[p][0]
				s.queue[p] = s.queue[p][1:]
				return s.tasks[p], rec, true
			}
		}
	}
	return nil, Record{}, false
}

// firstDue returns the task whose timer is due first.
func (d *Driver) firstDue() (first *task, at time.Time) {
	for _, s := range d.stages {
		for _, t := range s.tasks {
			if due, ok := t.nextDue(); ok && (first == nil || due.Before(at)) {
				first, at = t, due
			}
		}
	}
	return first, at
}

// finish commits a batch and writes what it emitted.
func (d *Driver) finish(t *task) error {
	if err := t.fault(); err != nil {
		return fmt.Errorf("topology %s: %w", t.top.Name, err)
	}
	for _, out := range t.takeOutputs() {
		d.write(cloneRecord(Record{Topic: out.topic, Key: out.key, Value: out.value, Headers: out.headers, Timestamp: d.now}))
	}
	return t.commit(t.store.position() + 1)
}

func cloneRecord(rec Record) Record {
	rec.Key = slices.Clone(rec.Key)
	rec.Value = slices.Clone(rec.Value)
	headers := rec.Headers
	rec.Headers = nil
	for _, h := range headers {
		rec.Headers = append(rec.Headers, Header{Key: h.Key, Value: slices.Clone(h.Value)})
	}
	return rec
}

func cloneDeadLetter(d DeadLetter) DeadLetter {
	d.Record = cloneRecord(d.Record)
	return d
}
