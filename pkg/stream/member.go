package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
)

// member is one membership of the group, from joining to leaving: it owns tasks and moves them on, one
// transaction after the other. One goroutine runs it; Kafka's callbacks and restores only leave notes and
// wake it.
type member struct {
	top     *Topology
	cfg     Config
	clock   clock.Clock
	logger  *slog.Logger
	metrics *metrics
	tracing tracer
	restore *restorer
	// standbys are the copies of partitions that others own; held is what this instance has on its disk.
	standbys *standbySet
	held     *holdings
	janitor  *janitor
	dir      string

	session session
	own     *ownership
	tasks   map[int32]*ownedTask
	ready   *readiness
	health  *health
	outputs *outputLimits
	// limitsAt is the revision of outputs that the tasks have.
	limitsAt int

	wakeups    chan struct{}
	deadline   time.Time  // when the batch in hand takes no more records
	rollbacks  int        // transactions in a row that did not commit
	failMu     sync.Mutex // guards produceErr
	produceErr error
}

// ownedTask is a task of this member.
type ownedTask struct {
	partition int32
	stint     uint64
	task      *task        // nil until the first restore is done
	store     *pebbleStore // nil until then, too
	offsets   map[string]kgo.EpochOffset
	active    bool // takes records; false while its state is being restored
	restoring chan restored
	upgrading bool // its state is of an earlier version; it is not active until it has been upgraded
	cancel    context.CancelFunc

	input    []kgo.FetchTopicPartition // of the poll in hand, and what the batch before had no time for
	heldBack bool                      // nothing is fetched until the input is done
	backlog  backlog                   // what had gathered before the task began
	used     bool                      // has part in the transaction in hand
	lag      int64                     // of the last poll: records that the broker has and this task has not seen
	endMu    sync.Mutex                // guards logEnd
	logEnd   int64                     // after the last changelog record of the transaction in hand
	samples  taskCount
	pending  pending // of the store; changed by whoever has the store
}

// errRebuild says that the session is of no more use and a new one has to be made.
var errRebuild = errors.New("the session with Kafka has to be rebuilt")

// run works until ctx is done, which it answers by finishing the transaction in hand, or until the session
// is of no more use.
func (m *member) run(ctx context.Context) error {
	defer m.closeTasks()
	if err := m.session.open(ctx); err != nil {
		return fmt.Errorf("%w: %w", errRebuild, err)
	}
	for ctx.Err() == nil {
		m.syncTasks(ctx)
		if err := m.upgradeTasks(ctx); err != nil {
			return err
		}
		m.readBacklogs()
		fetches, err := m.wait(ctx)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if !m.hasWork(fetches) {
			m.skipMarkers(fetches)
			continue
		}
		if err := m.transact(ctx, fetches); err != nil {
			return err
		}
		m.pause(ctx)
	}
	return nil
}

// wake makes wait return.
func (m *member) wake() {
	select {
	case m.wakeups <- struct{}{}:
	default:
	}
}

// wait blocks until there are records, a timer is due, or something has changed. Nothing here turns round
// while idle: the wait is as long as the first timer is away.
func (m *member) wait(ctx context.Context) (kgo.Fetches, error) {
	due, waiting := m.firstDue()
	now := m.clock.Now()
	if m.behind() || waiting && !due.After(now) {
		return m.poll(nil, m.cfg.MaxBatchRecords) //nolint:staticcheck // kgo: without a context it takes what is there
	}
	m.health.rest(true)
	defer m.health.rest(false)
	ctx, cancel := context.WithCancel(ctx)
	if m.hasBacklog() {
		ctx, cancel = context.WithTimeout(ctx, time.Second)
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	helpers.Go(func() {
		defer cancel()
		select {
		case <-m.wakeups:
		case <-ctx.Done():
		}
	})
	if waiting {
		helpers.Go(func() {
			// A jump of the wall clock is noticed after a minute at the latest.
			// How long is asked anew: the clock may have been moved while this goroutine began.
			if m.clock.Sleep(ctx, min(due.Sub(m.clock.Now()), m.longestSleep())) == nil {
				cancel()
			}
		})
	}
	return m.poll(ctx, m.cfg.MaxBatchRecords)
}

// longestSleep is a minute of the wall in the clock's own time.
func (m *member) longestSleep() time.Duration {
	wall := m.clock.Wall(time.Hour)
	if wall <= 0 {
		return time.Minute
	}
	return time.Duration(float64(time.Hour) * float64(time.Minute) / float64(wall))
}

const pollRecords = 4096

func (m *member) poll(ctx context.Context, atMost int) (kgo.Fetches, error) {
	fetches := m.session.client().PollRecords(ctx, min(pollRecords, atMost))
	for _, e := range fetches.Errors() {
		var group *kgo.ErrGroupSession
		var loss *kgo.ErrDataLoss
		switch {
		case errors.Is(e.Err, context.Canceled), errors.Is(e.Err, context.DeadlineExceeded):
		case errors.Is(e.Err, kerr.FencedInstanceID):
			return nil, fmt.Errorf("%w: another instance has the id %q: %w", errRebuild, m.cfg.InstanceID, e.Err)
		case permanent(e.Err):
			return nil, fmt.Errorf("polling %s: %w", e.Topic, e.Err)
		case errors.As(e.Err, &group):
			// The client joins again by itself; until then nothing it does can commit.
			m.logger.WarnContext(ctx, "the consumer group session ended; joining again", slog.String("error", e.Err.Error()))
		case errors.As(e.Err, &loss):
			m.logger.ErrorContext(ctx, "records were gone before they were read", slog.String("error", e.Err.Error()))
		default:
			return nil, fmt.Errorf("%w: polling %s: %w", errRebuild, e.Topic, e.Err)
		}
	}
	return fetches, nil
}

func (m *member) firstDue() (first time.Time, found bool) {
	for _, t := range m.tasks {
		if !t.active {
			continue
		}
		if due, ok := t.nextDue(); ok && (!found || due.Before(first)) {
			first, found = due, true
		}
	}
	return first, found
}

func (m *member) hasWork(fetches kgo.Fetches) bool {
	if dataRecords(fetches) > 0 || m.behind() {
		return true
	}
	due, waiting := m.firstDue()
	return waiting && !due.After(m.clock.Now())
}

// transact collects records and timers in one transaction, for as long as CommitInterval and the bounds
// of a batch allow and there is something to do, and ends it.
func (m *member) transact(ctx context.Context, fetches kgo.Fetches) error {
	m.health.begin()
	m.refreshLimits()
	if err := m.session.begin(); err != nil {
		return fmt.Errorf("%w: beginning a transaction: %w", errRebuild, err)
	}
	begun := time.Now()
	m.deadline = begun.Add(m.cfg.CommitInterval + overtime)
	records := 0
	var failure error
	for {
		records += fetches.NumRecords()
		if failure = m.work(fetches); failure != nil {
			break
		}
		m.holdBack()
		m.readBacklogs()
		if time.Since(begun) >= m.cfg.CommitInterval || records >= m.cfg.MaxBatchRecords || m.batchBytes() >= m.cfg.MaxBatchBytes || ctx.Err() != nil {
			break
		}
		var err error
		if fetches, err = m.pollMore(ctx, m.cfg.CommitInterval-time.Since(begun), m.cfg.MaxBatchRecords-records); err != nil {
			failure = err
			break
		}
		if !m.hasWork(fetches) {
			m.skipMarkers(fetches)
			break
		}
	}
	return m.finish(ctx, failure, begun)
}

// behindRecords is how far a task may be behind without its transaction waiting for more records: the
// markers of other transactions at the end of a log look like records that have not come.
const behindRecords = 64

// pollMore takes what is there. When nothing is, but the broker has more, it waits for that as long as
// the transaction may last: many small transactions under load would cost more than they bring.
func (m *member) pollMore(ctx context.Context, atMost time.Duration, records int) (kgo.Fetches, error) {
	fetches, err := m.poll(nil, records) //nolint:staticcheck // kgo: without a context it takes what is there
	if err != nil || fetches.NumRecords() > 0 || atMost <= 0 {
		return fetches, err
	}
	for _, t := range m.tasks {
		if t.active && t.lag > behindRecords {
			ctx, cancel := context.WithTimeout(ctx, atMost)
			defer cancel()
			return m.poll(ctx, records)
		}
	}
	return fetches, nil
}

// batchBytes is about the memory that the transaction in hand takes.
func (m *member) batchBytes() int {
	n := 0
	for _, t := range m.tasks {
		if t.used {
			n += t.task.over.mem.bytes
		}
	}
	return n
}

// work gives polled records to their tasks and fires what is due. Tasks run in parallel.
func (m *member) work(fetches kgo.Fetches) error {
	var misrouted error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		t := m.tasks[p.Partition]
		if t == nil || !t.active {
			misrouted = fmt.Errorf("records of partition %d came while it was not ours to work on", p.Partition)
			return
		}
		t.input = append(t.input, p)
	})
	if misrouted != nil {
		for _, t := range m.tasks {
			t.input = nil
		}
		return misrouted
	}
	for _, t := range m.tasks {
		t.inOrder(m.top)
	}
	now := m.clock.Now()
	m.each(func(t *ownedTask) bool {
		due, waiting := t.nextDue()
		return len(t.input) > 0 || (waiting && !due.After(now))
	}, func(t *ownedTask) { m.workTask(t, now) })
	for _, t := range m.tasks {
		if t.active && t.task.fault() != nil {
			return t.task.fault()
		}
	}
	return m.takeProduceErr()
}

// each runs fn for the active tasks that match, at most one goroutine a processor.
func (m *member) each(match func(*ownedTask) bool, fn func(*ownedTask)) {
	var chosen []*ownedTask
	for _, t := range m.tasks {
		if t.active && match(t) {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) == 1 {
		fn(chosen[0])
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, t := range chosen {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			fn(t)
		})
	}
	wg.Wait()
}

func (m *member) workTask(t *ownedTask, now time.Time) {
	t.used = true
	t.task.begin(now)
	m.takeRecords(t)
	m.sweep(t)
}

func toRecord(r *kgo.Record, rec *Record) {
	*rec = Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Key: r.Key, Value: r.Value, Timestamp: r.Timestamp,
	}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, Header{Key: h.Key, Value: h.Value})
	}
}

// emit hands what the task has emitted to the client. The bytes stay as they are until the transaction
// has ended.
func (m *member) emit(t *ownedTask) {
	outs := t.task.takeOutputs()
	if len(outs) == 0 {
		return
	}
	client := m.session.client()
	records := make([]kgo.Record, len(outs))
	done := m.produced // made once: it would be an allocation for each record
	for i := range outs {
		r := &records[i]
		r.Topic, r.Key, r.Value = outs[i].topic, outs[i].key, outs[i].value
		for _, h := range outs[i].headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if m.outputs.oneByOne(r.Topic) {
			m.produceAlone(client, r)
			continue
		}
		client.Produce(context.Background(), r, done)
	}
}

// produceAlone writes a record in a batch of its own.
func (m *member) produceAlone(client *kgo.Client, r *kgo.Record) {
	m.outputs.writing.Lock()
	defer m.outputs.writing.Unlock()
	err := client.ProduceSync(context.Background(), r).FirstErr()
	if errors.Is(err, kerr.MessageTooLarge) {
		m.outputs.refused(r.Topic, len(r.Key)+len(r.Value), true)
	}
	m.produced(r, err)
}

func (m *member) produced(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, kerr.MessageTooLarge) {
		m.outputs.refused(r.Topic, len(r.Key)+len(r.Value), false)
	}
	m.failMu.Lock()
	defer m.failMu.Unlock()
	if m.produceErr == nil {
		m.produceErr = fmt.Errorf("writing to %s: %w", r.Topic, err)
	}
}

func (m *member) takeProduceErr() error {
	m.failMu.Lock()
	defer m.failMu.Unlock()
	err := m.produceErr
	m.produceErr = nil
	return err
}

func (m *member) storeDir() string { return filepath.Join(m.dir, m.top.Name) }
