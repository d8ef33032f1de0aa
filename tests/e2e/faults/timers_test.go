package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
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

const (
	alarmPartitions = 4
	alarmsPerRecord = 20
	// alarmSweep is how many timers a task may fire before it looks at its records again.
	alarmSweep = 100
	// alarmProbes are records that are there when the clock jumps.
	alarmProbes = 2000
	alarmTopic  = "alarms.in"
	alarmOut    = "alarms.out"
	// alarmEvents are how many events a round sends, over all partitions.
	alarmEvents = 40
)

// alarmDue is half of the times together, some over the three days of the jump, the others later.
func alarmDue(rng *rand.Rand) time.Duration {
	after := 48 * time.Hour
	switch rng.IntN(10) {
	case 0, 1, 2:
		after = time.Hour + time.Duration(rng.Int64N(int64(71*time.Hour)))
	case 3:
		after = 71*time.Hour + time.Duration(rng.Int64N(int64(time.Hour)))
	case 4:
		after = 72*time.Hour + 1 + time.Duration(rng.Int64N(int64(24*time.Hour)))
	}
	return after.Truncate(time.Millisecond)
}

// alarmPlan is the records that set timers, move some and cancel some (at once for half of the keys, for the
// others when all timers are set), and when each is due last, after the start. Cancelled ones are not in it.
func alarmPlan(rng *rand.Rand, timers int) (records []*kgo.Record, due map[string]time.Duration) {
	due = make(map[string]time.Duration, timers)
	var later []*kgo.Record
	for i := range timers / alarmsPerRecord {
		key := fmt.Sprint("k", i)
		set, change := []byte("set"), []byte("set")
		for j := range alarmsPerRecord {
			id := fmt.Sprintf("%s-%d", key, j)
			due[id] = alarmDue(rng)
			set = fmt.Appendf(set, " %d", due[id].Milliseconds())
			switch rng.IntN(20) {
			case 0:
				delete(due, id)
				change = append(change, " off"...)
			case 1:
				due[id] = alarmDue(rng)
				change = fmt.Appendf(change, " %d", due[id].Milliseconds())
			default:
				change = append(change, " -"...)
			}
		}
		records = append(records, &kgo.Record{Topic: alarmTopic, Key: []byte(key), Value: set})
		after := &later
		if rng.IntN(2) == 0 {
			after = &records
		}
		*after = append(*after, &kgo.Record{Topic: alarmTopic, Key: []byte(key), Value: change})
	}
	return append(records, later...), due
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
	fired  map[string]int // timers of the plan
	seen   map[string]int // what events came to
	events int            // sent
	behind map[int32]int64
	first  time.Time // when an output behind those ends came
	row    report.Row
}

// TestR11Timers sets very many timers, moves some and cancels some. The clock jumps three days ahead; in the
// middle of firing the stage is restarted, the clock goes an hour back, and the stage is restarted without
// its disk. Each timer fires once, never early, at the due time that it had last, those of a key in order;
// cancelled ones never; events come through while the sweeps go on.
//
// Between two records that the client has fetched together, a task fires no more than MaxTimers timers: that
// is held here from the client's buffer on, however slow the machine; TestSweepsAreBounded of pkg/stream
// holds the sweep itself. How long an answer of the broker takes, and so how many sweeps there are between
// two fetches, is nobody's promise.
func TestR11Timers(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		timers := 20_000
		if rig.Full() {
			timers = 1_000_000
		}
		start := time.UnixMilli(1_700_000_000_000).UTC()
		manual := clock.NewManual(start)
		r := &alarmRun{
			t: t, broker: broker, start: start, clock: manual, fired: make(map[string]int), seen: make(map[string]int),
			watch: newWatch(alarmPartitions, func() { manual.Set(start.Add(72 * time.Hour)) }),
		}
		r.row = report.Row{
			Scenario: "R11", What: "timers, the clock 3 days ahead and an hour back, restarts with the disk and without", Broker: broker.Kind, Seed: seed, Events: timers,
			Injected: map[string]int{"clock jumps": 2, "restarts": 2, "disks wiped": 1}, Measured: make(map[string]float64),
		}
		begun := time.Now()
		t.Cleanup(func() {
			r.row.Seconds, r.row.Failed = time.Since(begun).Seconds(), t.Failed()
			t.Logf("measured %v", r.row.Measured)
			require.NoError(t, report.Write(r.row))
		})
		records, due := alarmPlan(rand.New(rand.NewPCG(seed, 11)), timers)
		r.due = due
		r.prepare()
		r.set(records)
		r.jump(timers / 10)
		r.restart("with the disk", timers/4)
		r.clock.Set(r.start.Add(71 * time.Hour))
		r.stage.stop()
		require.NoError(t, os.RemoveAll(r.stage.dir))
		r.restart("without the disk", timers/3)
		r.send()
		r.goOn()
		r.check()
	})
}

func (r *alarmRun) prepare() {
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
	r.stage.clock, r.stage.hooks = r.clock, []kgo.Hook{r.watch}
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
	produce(r.t, r.client, records)
	r.workOff()
	r.row.Measured["least timers set/s"] = float64(len(r.due)) / time.Since(begun).Seconds()
}

// workOff waits until all records have been worked off.
func (r *alarmRun) workOff() {
	r.t.Helper()
	begun, admin := time.Now(), kadm.NewClient(r.client)
	ends, err := admin.ListEndOffsets(context.Background(), alarmTopic)
	require.NoError(r.t, err)
	for !workedOff(admin, r.stage.topology.Group(), ends) {
		require.Less(r.t, time.Since(begun), 10*time.Minute)
		<-time.After(20 * time.Millisecond)
	}
}

func produce(t *testing.T, client *kgo.Client, records []*kgo.Record) {
	t.Helper()
	for _, rec := range records {
		client.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	require.NoError(t, client.Flush(context.Background()))
}

// jump moves the clock three days ahead while records wait, and returns when so many timers have fired.
func (r *alarmRun) jump(fire int) {
	r.t.Helper()
	r.send()
	r.untilSeen(2 * r.events)
	var keys [][]byte
	for i := 0; len(keys) < alarmProbes; i++ {
		if key := []byte(fmt.Sprint("k", i)); r.watch.partitionOf(key) == 0 {
			keys = append(keys, key)
		}
	}
	r.watch.slow(fire)
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addrs...), kgo.DefaultProduceTopic(alarmTopic), kgo.ManualFlushing())
	require.NoError(r.t, err)
	defer client.Close()
	// Once the client knows the topic, what is flushed is one batch, and one fetch of the stage has all of it.
	produce(r.t, client, []*kgo.Record{{Key: keys[0], Value: []byte("probe")}})
	r.workOff()
	begun, worst, gaps := time.Now(), 0, 0
	for value := "jump"; gaps == 0; value = "probe" {
		// After a transaction that was aborted, what waits is a backlog, and no timer fires before that is read.
		require.Less(r.t, time.Since(begun), 4*stuckAfter, "no timer fired while records waited")
		before := r.watch.probed()
		batch := []*kgo.Record{{Key: keys[0], Value: []byte(value)}}
		for _, key := range keys {
			batch = append(batch, &kgo.Record{Key: key, Value: []byte("probe")})
		}
		produce(r.t, client, batch)
		require.Eventually(r.t, func() bool { return r.watch.probed() >= before+len(batch) }, 4*stuckAfter, time.Millisecond)
		worst, gaps = r.watch.worstGap()
	}
	r.row.Measured["timers between records"] = float64(worst)
	require.LessOrEqual(r.t, worst, alarmSweep, "records that were there waited for more than a sweep")
	r.until(fire, 72*time.Hour)
}

// send sends events.
func (r *alarmRun) send() {
	r.t.Helper()
	var records []*kgo.Record
	for range alarmEvents {
		records = append(records, &kgo.Record{Topic: alarmTopic, Key: fmt.Append(nil, "event", r.events), Value: fmt.Append(nil, "event ", r.events)})
		r.events++
	}
	produce(r.t, r.client, records)
}

// restart stops the stage if it runs, starts it and returns when so many timers have fired, with more of
// them left.
func (r *alarmRun) restart(what string, fire int) {
	r.t.Helper()
	r.stage.stop()
	ends, err := kadm.NewClient(r.client).ListEndOffsets(context.Background(), alarmOut)
	require.NoError(r.t, err)
	r.behind, r.first = make(map[int32]int64), time.Time{}
	ends.Each(func(o kadm.ListedOffset) { r.behind[o.Partition] = o.Offset })
	r.watch.slow(max(1, fire-len(r.fired)))
	begun := time.Now()
	r.stage.start()
	r.read(func() bool { return len(r.fired) >= fire && !r.first.IsZero() }, 72*time.Hour)
	require.Less(r.t, len(r.fired), r.count(71*time.Hour), "nothing is left to fire")
	r.row.Measured["restart "+what+" to first fire s"] = r.first.Sub(begun).Seconds()
}

// goOn has all fire that is due by the clock as it is, moves it to where it was, and then to the end.
func (r *alarmRun) goOn() {
	r.t.Helper()
	r.untilSeen(r.events + alarmEvents) // events come through while the sweeps go on; their timers need not yet
	r.watch.slow(0)
	r.until(r.count(71*time.Hour), 72*time.Hour)
	begun, before := time.Now(), len(r.fired)
	r.clock.Set(r.start.Add(72 * time.Hour))
	r.until(r.count(72*time.Hour), 72*time.Hour)
	r.clock.Set(r.start.Add(97 * time.Hour))
	r.until(len(r.due), 97*time.Hour)
	r.row.Measured["least timers fired/s"] = float64(len(r.fired)-before) / time.Since(begun).Seconds()
	r.send() // what fires twice or ought not to fire has time to show
	r.untilSeen(2 * r.events)
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
	r.read(func() bool { return len(r.fired) >= timers }, latest)
}

// untilSeen reads until events have come to so much: each to itself and then to its timer.
func (r *alarmRun) untilSeen(n int) {
	r.t.Helper()
	r.read(func() bool { return len(r.seen) >= n }, 97*time.Hour)
}

func (r *alarmRun) read(enough func() bool, latest time.Duration) {
	r.t.Helper()
	for !enough() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*stuckAfter)
		fetches := r.client.PollFetches(ctx)
		err := ctx.Err()
		cancel()
		require.NoError(r.t, err, "stuck with %d of %d fired\n%s", len(r.fired), len(r.due), goroutines())
		fetches.EachRecord(func(rec *kgo.Record) {
			if !rec.Attrs.IsControl() {
				r.take(rec, latest)
			}
		})
	}
}

// take counts an output.
func (r *alarmRun) take(rec *kgo.Record, latest time.Duration) {
	r.t.Helper()
	id, at, _ := strings.Cut(string(rec.Value), " ")
	ms, err := strconv.ParseInt(at, 10, 64)
	require.NoError(r.t, err, "%s", rec.Value)
	counts := r.seen
	if id[0] == 'k' {
		counts = r.fired
		due, ok := r.due[id]
		require.True(r.t, ok, "nobody set %s, or it was cancelled", id)
		require.Equal(r.t, due.Milliseconds(), ms, "timer %s fired at a time that it was moved from", id)
		require.LessOrEqual(r.t, due, latest, "timer %s fired early", id)
		if end, ok := r.behind[rec.Partition]; ok && rec.Offset >= end && r.first.IsZero() {
			r.first = time.Now()
		}
	}
	if counts[id]++; counts[id] > 1 {
		r.row.Doubled++
	}
}

// check reads everything anew: each timer fired once, those of a key in order; none is left in the state and
// nothing is in the dead letters.
func (r *alarmRun) check() {
	r.t.Helper()
	r.fired, r.seen = make(map[string]int, len(r.due)), make(map[string]int)
	r.row.Doubled, r.row.Checked = 0, len(r.due)
	latest := make(map[string]time.Duration) // of each key
	for _, rec := range readAll(r.t, r.broker.Addrs, alarmOut) {
		r.take(rec, 97*time.Hour)
		id, _, _ := strings.Cut(string(rec.Value), " ")
		if due := r.due[id]; id[0] == 'k' {
			if due < latest[string(rec.Key)] {
				r.row.Swapped++
			}
			latest[string(rec.Key)] = due
		}
	}
	r.row.Lost = len(r.due) - len(r.fired)
	require.Zero(r.t, r.row.Lost, "timers that never fired")
	require.Zero(r.t, r.row.Doubled, "timers or events that came twice")
	require.Zero(r.t, r.row.Swapped, "timers of a key that fired out of order")
	require.Len(r.t, r.seen, 2*r.events, "events or their timers")
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
