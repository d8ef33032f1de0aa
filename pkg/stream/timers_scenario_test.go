package stream

import (
	"context"
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
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
)

// TestMillionTimers is R11. Half of the timers are due together, half spread over three days; some are
// moved, some cancelled. The clock jumps three days ahead; while they fire the instance is restarted, the
// clock goes an hour back, and the instance is restarted again without its disk. Each timer fires once, at
// the due time that it had last, those of a key in order; cancelled ones never; and events come through
// while the sweeps go on. `make faults` runs it with a million, here it has twenty thousand.
func TestMillionTimers(t *testing.T) {
	n := 20_000
	if os.Getenv("SILLAGE_FAULTS") == "full" {
		n = 1_000_000
	}
	s := newTimerScenario(t, n)
	s.setAll()
	s.instance.start(t)

	const day = 24 * time.Hour
	s.clock.Advance(3 * day)
	s.fired.waitFor(t, n/10)
	s.restart("the disk is there")
	s.clock.Advance(-time.Hour)
	s.fired.waitFor(t, n/4)
	s.instance.dir = t.TempDir()
	s.restart("the disk is lost")
	s.events(1)
	s.fired.waitFor(t, n/2)
	s.events(2)
	s.clock.Advance(2 * time.Hour)
	s.fired.waitFor(t, s.expected())
	s.events(3) // what fires twice or ought not to fire has time to show
	s.check()
}

const (
	scenarioSpread    = 3 * 24 * 3600 // seconds over which timers are due
	scenarioTogether  = 3600          // when half of them are
	scenarioCancelled = -1
)

// timerScenario knows what must fire.
type timerScenario struct {
	t        *testing.T
	rng      *rand.Rand
	brokers  []string
	clock    *clock.Manual
	start    time.Time
	keys     int
	due      []int // seconds after start, by number; scenarioCancelled
	writer   *writerClient
	fired    *firedTimers
	instance *timerInstance
}

type timerInstance struct {
	cfg    Config
	deps   Deps
	dir    string
	braked bool
	runner *Runner
}

func (i *timerInstance) start(t *testing.T) {
	t.Helper()
	cfg := i.cfg
	cfg.DataDir = i.dir
	top := alarmTopology()
	top.New = func() Processor { return &brake{on: i.braked} }
	i.runner = startRunner(t, top, cfg, i.deps)
}

// brake makes few timers take as long as many, so that there are some left to be interrupted.
type brake struct {
	alarm
	on    bool
	fired int
}

func (b *brake) Timer(ctx *Context, timer Timer) error {
	if b.fired++; b.on && b.fired%16 == 0 {
		<-time.After(2 * time.Millisecond)
	}
	return b.alarm.Timer(ctx, timer)
}

func newTimerScenario(t *testing.T, n int) *timerScenario {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	start := time.Unix(1_700_000_000, 0)
	s := &timerScenario{
		t: t, rng: newSeed(t), brokers: brokers, clock: clock.NewManual(start), start: start,
		keys: max(500, n/20), due: make([]int, n), writer: newWriter(t, brokers),
	}
	s.fired = tailTimers(t, brokers, s.start, n)
	deps := testDeps(t)
	deps.Clock = s.clock
	s.instance = &timerInstance{cfg: Config{Kafka: kafkaConfig(brokers)}, deps: deps, dir: t.TempDir(), braked: n < 100_000}
	return s
}

func (s *timerScenario) key(i int) string { return fmt.Sprint("k", i%s.keys) }

// setAll writes the records that set, move and cancel timers.
func (s *timerScenario) setAll() {
	for i := range s.due {
		s.due[i] = scenarioTogether
		if i%2 == 1 {
			s.due[i] = 1 + s.rng.IntN(scenarioSpread)
		}
		s.writer.send("in", s.key(i), fmt.Sprintf("t%d %d", i, s.due[i]))
		switch s.rng.IntN(20) {
		case 0:
			s.due[i] = scenarioCancelled
			s.writer.send("in", s.key(i), fmt.Sprintf("t%d off", i))
		case 1:
			s.due[i] = 1 + s.rng.IntN(scenarioSpread)
			s.writer.send("in", s.key(i), fmt.Sprintf("t%d %d", i, s.due[i]))
		}
	}
	s.writer.flush()
	s.instance.start(s.t)
	s.events(0) // what is behind everything else in each partition
	stopRunner(s.t, s.instance.runner)
}

func (s *timerScenario) expected() (n int) {
	for _, due := range s.due {
		if due != scenarioCancelled {
			n++
		}
	}
	return n
}

// events sends records and waits until what comes of them is there: each sets a timer that is due already.
func (s *timerScenario) events(round int) {
	const each = 40 // over all partitions
	for i := range each {
		s.writer.send("in", fmt.Sprint("event", i), fmt.Sprintf("e%d 0", round*each+i))
	}
	s.writer.flush()
	s.fired.waitForEvents(s.t, (round+1)*each)
}

// restart stops the instance and says how long another takes from its start to its first timer.
func (s *timerScenario) restart(what string) {
	stopRunner(s.t, s.instance.runner)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...))
	require.NoError(s.t, err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(s.t.Context(), "out")
	require.NoError(s.t, err)
	first := s.fired.firstAfter(ends)
	begun := time.Now()
	s.instance.start(s.t)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for time.Since(begun) < 2*time.Minute {
		select {
		case at := <-first:
			s.t.Logf("restart with about %d timers left, %s: %s until the first fires", s.expected()-s.fired.count(), what, at.Sub(begun).Round(time.Millisecond))
			return
		case <-ticker.C:
			if s.fired.count() == s.expected() {
				s.t.Logf("restart, %s: everything had fired before", what)
				return
			}
		}
	}
	require.Fail(s.t, "no timer fires after a restart")
}

func (s *timerScenario) check() {
	s.fired.mu.Lock()
	defer s.fired.mu.Unlock()
	require.Empty(s.t, s.fired.wrong)
	lost, doubled, wrong := 0, 0, 0
	for i, due := range s.due {
		switch got := s.fired.times[i]; {
		case due == scenarioCancelled && got > 0:
			wrong++
		case due != scenarioCancelled && got == 0:
			lost++
		case got > 1:
			doubled++
		case got == 1 && s.fired.due[i] != due:
			wrong++
		}
	}
	require.Zero(s.t, lost, "timers lost")
	require.Zero(s.t, doubled, "timers fired twice")
	require.Zero(s.t, wrong, "timers fired that were cancelled, or at a time that they were moved from")
	require.Zero(s.t, s.fired.disorder, "timers of a key fired out of order")
}

// firedTimers is what a read-committed reader has seen fire.
type firedTimers struct {
	start time.Time

	mu       sync.Mutex // guards what follows
	times    []int      // how often each fired
	due      []int      // what it said
	latest   map[string]int
	disorder int
	seen     int
	events   int
	wrong    []string
	after    map[int32]int64
	first    chan time.Time
}

func tailTimers(t *testing.T, brokers []string, start time.Time, n int) *firedTimers {
	f := &firedTimers{start: start, times: make([]int, n), due: make([]int, n), latest: make(map[string]int)}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("out"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			f.mu.Lock()
			fetches.EachRecord(f.take)
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		client.Close()
	})
	return f
}

func (f *firedTimers) take(r *kgo.Record) {
	id, at, _ := strings.Cut(string(r.Value), " ")
	unix, err := strconv.ParseInt(at, 10, 64)
	i, errID := strconv.Atoi(id[1:])
	if id[0] == 'e' {
		f.events++
		return
	}
	if err != nil || errID != nil || i < 0 || i >= len(f.times) {
		f.wrong = append(f.wrong, string(r.Value))
		return
	}
	due := int(unix - f.start.Unix())
	f.times[i]++
	f.due[i] = due
	f.seen++
	if last, ok := f.latest[string(r.Key)]; ok && due < last {
		f.disorder++
	}
	f.latest[string(r.Key)] = due
	if end, ok := f.after[r.Partition]; ok && r.Offset >= end {
		f.after = nil
		f.first <- time.Now()
	}
}

// firstAfter tells when the first timer fires whose output stands behind the given ends.
func (f *firedTimers) firstAfter(ends kadm.ListedOffsets) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after, f.first = make(map[int32]int64), make(chan time.Time, 1)
	ends.Each(func(o kadm.ListedOffset) { f.after[o.Partition] = o.Offset })
	return f.first
}

func (f *firedTimers) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

func (f *firedTimers) countEvents() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events
}

func (f *firedTimers) waitFor(t *testing.T, n int) {
	t.Helper()
	f.waitProgress(t, n, f.count)
}

func (f *firedTimers) waitForEvents(t *testing.T, n int) {
	t.Helper()
	f.waitProgress(t, n, f.countEvents)
	require.Equal(t, n, f.countEvents(), "events came through twice")
}

// waitProgress waits until count comes to n, however slow the machine, as long as it gets on. Behind an
// event there may be as many records as there are timers, and a few times that.
func (f *firedTimers) waitProgress(t *testing.T, n int, count func() int) {
	t.Helper()
	patience := 2*time.Minute + time.Duration(len(f.times))*time.Millisecond
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	have, since := count(), time.Now()
	for have < n {
		<-ticker.C
		if now := count(); now != have {
			have, since = now, time.Now()
		}
		require.Less(t, time.Since(since), patience, "nothing comes any more: %d of %d", have, n)
	}
}
