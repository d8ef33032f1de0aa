package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
)

// alarms sets the timers that a record asks for ("set <milliseconds> ..."), tells of each that fires, and
// answers a "probe".
type alarms struct {
	start time.Time
	out   string
	watch *watch
}

func (a alarms) Process(ctx *stream.Context, rec stream.Record) error {
	fields := strings.Fields(string(rec.Value))
	if fields[0] == "probe" {
		a.watch.probe(rec.Partition)
		return nil
	}
	for j, field := range fields[1:] {
		ms, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return err
		}
		id := fmt.Sprintf("%s-%d", ctx.Key(), j)
		ctx.SetTimer(id, a.start.Add(time.Duration(ms)*time.Millisecond), []byte(id))
	}
	return nil
}

func (a alarms) Timer(ctx *stream.Context, timer stream.Timer) error {
	if ctx.Now().Before(timer.Due) {
		return fmt.Errorf("timer %s of %s fired at %s", timer.ID, timer.Due, ctx.Now())
	}
	a.watch.fired(ctx.Key())
	ctx.Emit(a.out, ctx.Key(), timer.Payload)
	return nil
}

func (alarms) Merge(*stream.Context, *stream.Source) error {
	return errors.New("keys do not merge here")
}

// watch notes when the first timer fires, and how many fire in a partition between two of its records.
type watch struct {
	partitionOf func(key []byte) int32

	mu     sync.Mutex // guards what follows
	first  time.Time
	gap    map[int32]int
	worst  int
	probes int
	brake  int // how many may fire before the others take their time; 0: all
	count  int
}

func newWatch(partitions int) *watch {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("")
	return &watch{gap: make(map[int32]int), partitionOf: func(key []byte) int32 {
		return int32(partitioner.Partition(&kgo.Record{Key: key}, partitions))
	}}
}

func (w *watch) fired(key []byte) {
	if w.note(key) {
		<-time.After(20 * time.Millisecond)
	}
}

// slow lets so many timers fire, and every hundredth of those after them take its time, so that there is a
// middle to stop in; 0 ends it.
func (w *watch) slow(after int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.brake, w.count = after, 0
}

func (w *watch) note(key []byte) (slow bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	if w.first.IsZero() {
		w.first = time.Now()
	}
	if p := w.partitionOf(key); w.gap[p] > 0 {
		w.gap[p]++
	}
	return w.brake > 0 && w.count > w.brake && w.count%100 == 0
}

// probe ends a gap and begins the next. Timers before the first probe do not count: it was not there yet.
// Probes take their time, so that they are there when the clock jumps.
func (w *watch) probe(partition int32) {
	w.mu.Lock()
	w.worst = max(w.worst, w.gap[partition]-1)
	w.gap[partition] = 1
	w.probes++
	slow := w.probes%20 == 0
	w.mu.Unlock()
	if slow {
		<-time.After(5 * time.Millisecond)
	}
}

// begin forgets what was seen.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first, w.worst, w.probes = time.Time{}, 0, 0
	clear(w.gap)
}

func (w *watch) begun() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

func (w *watch) worstGap() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.worst
}

func (w *watch) probed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probes > 0
}

const (
	alarmPartitions = 4
	alarmsPerRecord = 20
	// alarmSweep is how many timers a task may fire before it looks at its records again.
	alarmSweep = 100
	// alarmProbes are records that are there when the clock jumps.
	alarmProbes = 2000
	alarmTopic  = "alarms.in"
	alarmOut    = "alarms.out"
)

// alarmPlan is when each timer is due, after the start: half of them together, some over the three days of
// the jump, the others later.
func alarmPlan(rng *rand.Rand, timers int) (records []*kgo.Record, due map[string]time.Duration) {
	due = make(map[string]time.Duration, timers)
	for i := range timers / alarmsPerRecord {
		key := fmt.Sprint("k", i)
		value := []byte("set")
		for j := range alarmsPerRecord {
			after := 48 * time.Hour
			switch rng.IntN(10) {
			case 0, 1, 2:
				after = time.Hour + time.Duration(rng.Int64N(int64(71*time.Hour)))
			case 3:
				after = 71*time.Hour + time.Duration(rng.Int64N(int64(time.Hour)))
			case 4:
				after = 72*time.Hour + 1 + time.Duration(rng.Int64N(int64(24*time.Hour)))
			}
			after = after.Truncate(time.Millisecond)
			due[fmt.Sprintf("%s-%d", key, j)] = after
			value = fmt.Appendf(value, " %d", after.Milliseconds())
		}
		records = append(records, &kgo.Record{Topic: alarmTopic, Key: []byte(key), Value: value})
	}
	return records, due
}

// alarmRun is one repetition.
type alarmRun struct {
	t      *testing.T
	broker rig.Broker
	clock  *clock.Manual
	start  time.Time
	stage  *inside
	watch  *watch
	due    map[string]time.Duration
	client *kgo.Client
	fired  map[string]int
	row    report.Row
}

// TestR11Timers sets very many timers, lets the clock jump three days ahead, stops the stage in the middle
// of firing, lets the clock jump an hour back and starts the stage again, now and then on an empty disk:
// each timer fires once and never early, and records that are there do not wait for the sweep.
func TestR11Timers(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		timers := 20_000
		if rig.Full() {
			timers = 1_000_000
		}
		rng := rand.New(rand.NewPCG(seed, 11))
		r := &alarmRun{t: t, broker: broker, start: time.UnixMilli(1_700_000_000_000).UTC(), watch: newWatch(alarmPartitions), fired: make(map[string]int)}
		r.row = report.Row{
			Scenario: "R11", What: "timers, the clock 3 days ahead and an hour back, a restart", Broker: broker.Kind, Seed: seed, Events: timers,
			Injected: map[string]int{"clock jumps": 2, "restarts": 1}, Measured: make(map[string]float64),
		}
		begun := time.Now()
		t.Cleanup(func() {
			r.row.Seconds, r.row.Failed = time.Since(begun).Seconds(), t.Failed()
			t.Logf("measured %v", r.row.Measured)
			require.NoError(t, report.Write(r.row))
		})
		records, due := alarmPlan(rng, timers)
		r.due = due
		r.prepare()
		r.set(records)
		r.jump()
		r.restart(rng.IntN(2) == 0)
		r.goOn()
		r.check()
	})
}

func (r *alarmRun) prepare() {
	r.clock = clock.NewManual(r.start)
	topology := stream.Topology{
		Name: "alarms", Inputs: []string{alarmTopic}, Outputs: []string{alarmOut},
		New: func() stream.Processor { return alarms{start: r.start, out: alarmOut, watch: r.watch} },
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addrs...), kgo.ConsumeTopics(alarmOut), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MaxBufferedRecords(50_000), kgo.KeepControlRecords())
	require.NoError(r.t, err)
	r.t.Cleanup(client.Close)
	r.client = client
	for _, topic := range []string{alarmTopic, alarmOut} {
		_, err := kadm.NewClient(client).CreateTopic(context.Background(), alarmPartitions, -1, nil, topic)
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			require.NoError(r.t, err)
		}
	}
	r.stage = newInside(r.t, topology, r.broker.Addrs)
	r.stage.clock = r.clock
	r.stage.tune = func(cfg *stream.Config) {
		cfg.MaxTimers, cfg.MaxBatchRecords = alarmSweep, 200
		// Nobody dies here: a machine that is slow must not look like it.
		cfg.SessionTimeout, cfg.TransactionTimeout = 10*time.Second, 10*time.Second
	}
}

// set feeds the records and waits until all timers are set.
func (r *alarmRun) set(records []*kgo.Record) {
	r.t.Helper()
	r.stage.start()
	begun := time.Now()
	r.produce(records)
	ends, err := kadm.NewClient(r.client).ListEndOffsets(context.Background(), alarmTopic)
	require.NoError(r.t, err)
	for !workedOff(kadm.NewClient(r.client), r.stage.topology.Group(), ends) {
		require.Less(r.t, time.Since(begun), 10*time.Minute)
		<-time.After(20 * time.Millisecond)
	}
	r.row.Measured["least timers set/s"] = float64(len(r.due)) / time.Since(begun).Seconds()
}

func (r *alarmRun) produce(records []*kgo.Record) {
	r.t.Helper()
	for _, rec := range records {
		r.client.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	require.NoError(r.t, r.client.Flush(context.Background()))
}

// jump moves the clock three days ahead while records wait, and returns when a part of what is due has
// fired.
func (r *alarmRun) jump() {
	r.t.Helper()
	probes := make([]*kgo.Record, 0, alarmProbes)
	for i := 0; len(probes) < cap(probes); i++ {
		// All in one partition: a poll takes from one after the other.
		if key := []byte(fmt.Sprint("k", i)); r.watch.partitionOf(key) == 0 {
			probes = append(probes, &kgo.Record{Topic: alarmTopic, Key: key, Value: []byte("probe")})
		}
	}
	r.produce(probes)
	r.watch.begin()
	r.watch.slow(1)
	r.produce(probes)
	require.Eventually(r.t, r.watch.probed, stuckAfter, time.Millisecond)
	r.clock.Set(r.start.Add(72 * time.Hour))
	r.until(min(len(r.due)/10, 5000), 72*time.Hour)
	worst := r.watch.worstGap()
	r.row.Measured["timers between records"] = float64(worst)
	// A task looks at its records between any two sweeps, which are of alarmSweep timers each; how many of
	// these pass while the client fetches is the machine's. Without the bound all of them would pass.
	due := 0
	for id, after := range r.due {
		if key, _, _ := strings.Cut(id, "-"); after <= 72*time.Hour && r.watch.partitionOf([]byte(key)) == 0 {
			due++
		}
	}
	require.LessOrEqual(r.t, worst, due*3/4, "records waited for all timers that were due")
}

// restart stops the stage, moves the clock an hour back and starts it.
func (r *alarmRun) restart(wipe bool) {
	r.t.Helper()
	r.stage.stop()
	r.clock.Set(r.start.Add(71 * time.Hour))
	if wipe {
		require.NoError(r.t, os.RemoveAll(r.stage.dir))
		r.row.Injected["disks wiped"]++
	}
	r.watch.begin()
	r.watch.slow(0)
	begun := time.Now()
	r.stage.start()
	r.until(r.count(71*time.Hour), 72*time.Hour)
	first := r.watch.begun()
	require.False(r.t, first.IsZero(), "nothing was left to fire after the restart")
	r.row.Measured["restart to first fire s"] = first.Sub(begun).Seconds()
}

// goOn moves the clock to where it was, and then to the end.
func (r *alarmRun) goOn() {
	r.t.Helper()
	begun, before := time.Now(), len(r.fired)
	r.clock.Set(r.start.Add(72 * time.Hour))
	r.until(r.count(72*time.Hour), 72*time.Hour)
	r.clock.Set(r.start.Add(97 * time.Hour))
	r.until(len(r.due), 97*time.Hour)
	r.row.Measured["least timers fired/s"] = float64(len(r.fired)-before) / time.Since(begun).Seconds()
	r.stage.stop()
}

// count is how many timers are due until a time after the start.
func (r *alarmRun) count(after time.Duration) int {
	n := 0
	for _, due := range r.due {
		if due <= after {
			n++
		}
	}
	return n
}

// until reads until so many timers have fired. None of them may be due after the given time.
func (r *alarmRun) until(timers int, latest time.Duration) {
	r.t.Helper()
	for len(r.fired) < timers {
		ctx, cancel := context.WithTimeout(context.Background(), 4*stuckAfter)
		fetches := r.client.PollFetches(ctx)
		err := ctx.Err()
		cancel()
		require.NoError(r.t, err, "stuck with %d of %d fired\n%s", len(r.fired), timers, goroutines())
		r.take(fetches, latest)
	}
}

func (r *alarmRun) take(fetches kgo.Fetches, latest time.Duration) {
	r.t.Helper()
	fetches.EachRecord(func(rec *kgo.Record) {
		if rec.Attrs.IsControl() {
			return
		}
		id := string(rec.Value)
		due, ok := r.due[id]
		require.True(r.t, ok, "nobody set %s", id)
		require.LessOrEqual(r.t, due, latest, "timer %s fired early", id)
		r.fired[id]++
		if r.fired[id] > 1 {
			r.row.Doubled++
		}
	})
}

// check reads what is left: each timer fired once, none is left in the state, nothing is in the dead letters.
func (r *alarmRun) check() {
	r.t.Helper()
	r.fired = make(map[string]int, len(r.due))
	r.row.Doubled, r.row.Checked = 0, len(r.due)
	for _, rec := range readAll(r.t, r.broker.Addrs, alarmOut) {
		id := string(rec.Value)
		if r.fired[id]++; r.fired[id] > 1 {
			r.row.Doubled++
		}
	}
	r.row.Lost = len(r.due) - len(r.fired)
	require.Zero(r.t, r.row.Lost, "timers that never fired")
	require.Zero(r.t, r.row.Doubled, "timers that fired twice")
	require.Empty(r.t, readAll(r.t, r.broker.Addrs, "alarms.dlq"))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	log, err := oracle.ReadChangelog(ctx, r.broker.Addrs, "alarms.changelog")
	require.NoError(r.t, err)
	state, err := log.Replay()
	require.NoError(r.t, err)
	require.Empty(r.t, state, "timers are left in the state")
	verdict, err := log.Stores("alarms", []string{r.stage.dir})
	require.NoError(r.t, err)
	require.True(r.t, verdict.Clean(), verdict.String())
}
