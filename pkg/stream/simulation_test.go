//go:build synctests

// The tag is franz-go's: with it, its locks are ones that testing/synctest can see through. `make sim` sets it.

package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// envSimulations is how many simulations are run, of seeds that follow each other.
const envSimulations = "SILLAGE_SIM_RUNS"

// TestSimulation runs a whole stage in fake time: several runners and kfake in a bubble, on its virtual
// network. While records flow, instances join, leave, crash (with their disk lost or set back), freeze and
// come back, requests and answers get lost, the broker errs, and the clock jumps ahead and back. What a
// read-committed reader sees must be the oracle's. Minutes pass in well under a second.
//
// The seed fixes the records, the faults and when they come; which goroutine runs first it does not.
func TestSimulation(t *testing.T) {
	first, runs := seedOf(t), 10
	if text := os.Getenv(envSimulations); text != "" {
		var err error
		runs, err = strconv.Atoi(text)
		require.NoError(t, err, envSimulations)
	}
	for i := range runs {
		seed := first + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			dirs := t.TempDir()
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, dirs) })
		})
	}
}

const (
	simRecords = 2000
	simSteps   = 60
)

// simulation is one run.
type simulation struct {
	t       *testing.T
	rng     *rand.Rand
	begun   time.Time
	story   []string // what was done, for whoever looks for the reason of a failure
	network kfake.VirtualNetwork
	cluster *kfake.Cluster
	brokers []string
	clock   *jumpClock
	calm    atomic.Bool // no more faults

	faultMu  sync.Mutex // guards what follows: asked from the broker's and the clients' goroutines
	faultRng *rand.Rand
	faults   int

	dirs    string
	folders int
	live    []*simInstance
	gone    []*simInstance // whose folder is there still
}

// simInstance is one instance: a folder, and a runner while it lives.
type simInstance struct {
	dir     string
	runner  *Runner
	network *badNetwork
	older   string // a copy of the folder from earlier
}

func simulate(t *testing.T, seed uint64, dirs string) {
	s := &simulation{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), faultRng: rand.New(rand.NewPCG(seed, 2)),
		begun: time.Now(), clock: newJumpClock(), dirs: dirs,
	}
	defer s.tell()
	s.startBrokers()
	w := newWorkload(s.rng, simRecords)
	out := tailWith(t, kgo.SeedBrokers(s.brokers...), kgo.Dialer(s.network.DialContext), kgo.ConsumeTopics("chain-out", "chain-fired", "chain.dlq"))
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.Dialer(s.network.DialContext))
	require.NoError(t, err)
	defer client.Close()
	s.join()
	sent := 0
	for step := range simSteps {
		n := min(s.rng.IntN(2*simRecords/simSteps+1), simRecords-sent)
		if step == simSteps-1 {
			n = simRecords - sent
		}
		require.NoError(t, client.ProduceSync(context.Background(), w.records[sent:sent+n]...).FirstErr())
		sent += n
		<-time.After(time.Duration(s.rng.IntN(4000)) * time.Millisecond)
		s.step()
	}
	s.settle()
	// Every timer is due at the latest now.
	s.clock.jump(24 * time.Hour)
	s.waitFor(out, w.outputs())
	<-time.After(10 * time.Second) // what is doubled comes late
	w.check(t, out.all())
	for len(s.live) > 0 {
		s.leave(0)
	}
}

func (s *simulation) note(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf("%8.3fs  ", time.Since(s.begun).Seconds())+fmt.Sprintf(format, args...))
}

func (s *simulation) tell() {
	s.faultMu.Lock()
	faults := s.faults
	s.faultMu.Unlock()
	if s.t.Failed() {
		s.t.Logf("what was done:\n%s", strings.Join(s.story, "\n"))
	}
	s.t.Logf("%d events, %d requests and answers lost or failed, %s simulated", len(s.story), faults, time.Since(s.begun).Round(time.Second))
}

func (s *simulation) startBrokers() {
	ports := []int{19092, 19093, 19094}[:1+2*s.rng.IntN(2)]
	cluster, err := kfake.NewCluster(kfake.NumBrokers(len(ports)), kfake.Ports(ports...), kfake.ListenFn(s.network.Listen),
		kfake.SeedTopics(testPartitions, "chain-in", "chain-in2", "chain-out", "chain-fired"), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	require.NoError(s.t, err)
	s.t.Cleanup(cluster.Close)
	s.cluster, s.brokers = cluster, cluster.ListenAddrs()
	s.note("%d brokers", len(ports))
	fail := func(key kmsg.Key, errs ...*kerr.Error) {
		cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if i, ok := s.fault(40, len(errs)); ok {
				return answerWith(req, errs[i]), nil, true
			}
			return nil, nil, false
		})
	}
	fail(kmsg.EndTxn, kerr.UnknownServerError, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions,
		kerr.InvalidTxnState, kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.NotCoordinator)
	fail(kmsg.TxnOffsetCommit, kerr.UnknownServerError, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress,
		kerr.CoordinatorLoadInProgress, kerr.InvalidProducerEpoch)
}

// fault says whether something fails now, one time in odds, and which of n ways.
func (s *simulation) fault(odds, n int) (way int, fails bool) {
	if s.calm.Load() {
		return 0, false
	}
	s.faultMu.Lock()
	defer s.faultMu.Unlock()
	if s.faultRng.IntN(odds) != 0 {
		return 0, false
	}
	s.faults++
	return s.faultRng.IntN(n), true
}

// lose loses requests and answers, those of transactions more often.
func (s *simulation) lose(key int16) loss {
	odds := 400
	switch kmsg.Key(key) {
	case kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn, kmsg.AddPartitionsToTxn:
		odds = 40
	default:
	}
	if way, ok := s.fault(odds, 2); ok {
		return loss(1 + way)
	}
	return loseNothing
}

// step is one event in the life of the group.
func (s *simulation) step() {
	at := 0
	if len(s.live) > 0 {
		at = s.rng.IntN(len(s.live))
	}
	switch what := s.rng.IntN(12); {
	case what < 3 && len(s.live) < 4 || len(s.live) == 0:
		s.join()
	case what < 5 && len(s.live) > 1:
		s.leave(at)
	case what < 7:
		s.crash(at)
	case what < 9:
		in := s.live[at]
		frozen := !in.network.cut.Load()
		s.note("%s frozen: %t", filepath.Base(in.dir), frozen)
		in.network.setCut(frozen)
	case what == 9:
		s.jump(time.Duration(s.rng.IntN(3*24*3600)) * time.Second)
	case what == 10:
		s.jump(-time.Duration(s.rng.IntN(3600)) * time.Second)
	default:
		s.note("nothing")
	}
}

func (s *simulation) jump(d time.Duration) {
	s.note("the clock jumps by %s", d)
	s.clock.jump(d)
}

// join starts a new instance or one that has gone, whatever has become of its disk.
func (s *simulation) join() {
	var in *simInstance
	if n := len(s.gone); n > 0 && s.rng.IntN(3) > 0 {
		i := s.rng.IntN(n)
		in = s.gone[i]
		s.gone = append(s.gone[:i], s.gone[i+1:]...)
	} else {
		s.folders++
		in = &simInstance{dir: filepath.Join(s.dirs, fmt.Sprint("instance-", s.folders))}
	}
	s.note("%s joins", filepath.Base(in.dir))
	in.network = newBadNetwork(s.lose)
	in.network.via = s.network.DialContext
	deps := Deps{Clock: s.clock, Logger: testLogger(s.t), Telemetry: telemetry.Nop(), KafkaOptions: []kgo.Opt{kgo.Dialer(in.network.dial)}}
	r, err := NewRunner(chainTopology(), quickConfig(s.brokers, in.dir), deps)
	require.NoError(s.t, err)
	in.runner = r
	s.live = append(s.live, in)
	// A first request may be lost like any other; whoever starts a runner tries again.
	for range 10 {
		if err = r.Start(context.Background()); err == nil {
			return
		}
		s.note("starting failed: %v", err)
		s.stop(in)
		r, err = NewRunner(chainTopology(), quickConfig(s.brokers, in.dir), deps)
		require.NoError(s.t, err)
		in.runner = r
	}
	require.NoError(s.t, err)
}

func (s *simulation) stop(in *simInstance) error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	err := in.runner.Stop(ctx)
	require.NotErrorIs(s.t, err, context.DeadlineExceeded, "an instance hangs")
	return err
}

func (s *simulation) take(at int) *simInstance {
	in := s.live[at]
	s.live = append(s.live[:at], s.live[at+1:]...)
	s.gone = append(s.gone, in)
	return in
}

// leave stops an instance in good order.
func (s *simulation) leave(at int) {
	in := s.take(at)
	s.note("%s leaves", filepath.Base(in.dir))
	in.network.setCut(false)
	if err := s.stop(in); err != nil {
		s.note("leaving failed: %v", err) // an answer was lost: the group finds out by itself
	}
}

// crash takes the network from an instance for good, and leaves its disk as it was, as it was earlier
// (what a store without a log loses with the process), or without anything.
func (s *simulation) crash(at int) {
	in := s.take(at)
	in.network.setCut(true)
	err := s.stop(in)
	stores := filepath.Join(in.dir, "chain")
	what := "its disk as it was"
	switch s.rng.IntN(4) {
	case 0:
		what = "its disk is lost"
		require.NoError(s.t, os.RemoveAll(stores))
		in.older = ""
	case 1:
		if in.older != "" {
			what = "its disk as it was earlier"
			require.NoError(s.t, os.RemoveAll(stores))
			require.NoError(s.t, os.Rename(in.older, stores))
			in.older = ""
		}
	case 2:
		what = "its disk as it was, and copied"
		s.folders++
		in.older = filepath.Join(s.dirs, fmt.Sprint("copy-", s.folders))
		require.NoError(s.t, os.CopyFS(in.older, os.DirFS(stores)))
	}
	s.note("%s crashed: %s (%v)", filepath.Base(in.dir), what, err)
}

// settle ends the faults and sees to it that somebody works.
func (s *simulation) settle() {
	s.note("calm")
	s.calm.Store(true)
	for _, in := range s.live {
		in.network.setCut(false)
	}
	if len(s.live) == 0 {
		s.join()
	}
}

// waitFor waits up to five simulated minutes for the outputs.
func (s *simulation) waitFor(out *tail, n int) {
	for range 300 {
		if len(out.all()) >= n {
			return
		}
		<-time.After(time.Second)
	}
	require.GreaterOrEqual(s.t, len(out.all()), n, "records are missing after five minutes")
}

// jumpClock is the bubble's clock, ahead of it or behind it.
type jumpClock struct {
	mu      sync.Mutex
	ahead   time.Duration
	changed chan struct{}
}

func newJumpClock() *jumpClock { return &jumpClock{changed: make(chan struct{})} }

func (c *jumpClock) jump(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += by
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *jumpClock) look() (time.Time, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead).UTC(), c.changed
}

// Now is the bubble's time and what the clock is ahead of it.
func (c *jumpClock) Now() time.Time {
	now, _ := c.look()
	return now
}

// Sleep waits until the clock shows d more, by passing or by a jump.
func (c *jumpClock) Sleep(ctx context.Context, d time.Duration) error {
	now, changed := c.look()
	until := now.Add(d)
	for now.Before(until) {
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now, changed = c.look()
	}
	return nil
}

// Wall is d: the clock runs at the bubble's speed.
func (c *jumpClock) Wall(d time.Duration) time.Duration { return d }

// slow takes 20ms for every record and every timer. "timers" sets 300 that are due at once.
type slow struct{}

const slowWork = 20 * time.Millisecond

func (slow) Process(ctx *Context, rec Record) error {
	if string(rec.Value) == "timers" {
		for i := range 300 {
			ctx.SetTimer(fmt.Sprint("t", i), ctx.Now(), nil)
		}
		return nil
	}
	<-time.After(slowWork)
	ctx.Emit("out", rec.Key, rec.Value)
	return nil
}

func (slow) Timer(ctx *Context, timer Timer) error {
	<-time.After(slowWork)
	ctx.Emit("out", ctx.Key(), []byte(timer.ID))
	return nil
}

func (slow) Merge(*Context, *Source) error { return nil }

// TestSimulationOfSlowWork: a processor that is slow holds no transaction open for longer than the bound
// says, neither with records nor with timers, and other partitions go on meanwhile.
func TestSimulationOfSlowWork(t *testing.T) {
	for _, work := range []string{"records", "timers"} {
		t.Run(work, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { simulateSlowWork(t, dir, work) })
		})
	}
}

func simulateSlowWork(t *testing.T, dir, work string) {
	s := &simulation{t: t, rng: rand.New(rand.NewPCG(1, 1)), begun: time.Now(), clock: newJumpClock()}
	s.calm.Store(true)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(19092), kfake.ListenFn(s.network.Listen), kfake.SeedTopics(testPartitions, "in", "out"))
	require.NoError(t, err)
	defer cluster.Close()
	dial := kgo.Dialer(s.network.DialContext)
	top := Topology{Name: "slow", Inputs: []string{"in"}, Outputs: []string{"out"}, New: func() Processor { return slow{} }}
	deps := Deps{Clock: s.clock, Logger: testLogger(t), Telemetry: telemetry.Nop(), KafkaOptions: []kgo.Opt{dial}}
	r, err := NewRunner(top, Config{Kafka: kafkaConfig(cluster.ListenAddrs()), DataDir: dir}, deps)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	defer func() { require.NoError(t, r.Stop(context.Background())) }()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), dial, kgo.ConsumeTopics("out"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(10*time.Millisecond))
	require.NoError(t, err)
	defer client.Close()
	<-time.After(10 * time.Second) // it has joined

	var records []*kgo.Record
	if work == "records" {
		for i := range 300 {
			records = append(records, record("in", "slow", fmt.Sprint("r", i)))
		}
	} else {
		records = append(records, record("in", "slow", "timers"))
	}
	require.NoError(t, client.ProduceSync(t.Context(), records...).FirstErr())
	sent := time.Now()
	last, longest, seen := sent, time.Duration(0), 0
	other := time.Duration(0) // how long a record of another partition took
	asked := false
	for seen < 301 {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		for _, rec := range fetches.Records() {
			seen++
			if string(rec.Key) == "other" {
				other = time.Since(sent)
			}
		}
		longest = max(longest, time.Since(last))
		last = time.Now()
		if !asked {
			asked, sent = true, last
			require.NoError(t, client.ProduceSync(t.Context(), record("in", "other", "x")).FirstErr())
		}
	}
	whole := time.Since(s.begun) - 10*time.Second
	require.Greater(t, whole, 300*slowWork)
	// CommitInterval, overtime of records and of a sweep, what is in hand, and some for its end.
	bound := 50*time.Millisecond + 2*overtime + (paceEvery+1)*slowWork + 20*time.Millisecond
	t.Logf("%s took %s, no transaction longer than %s, a record beside it %s", work, whole, longest, other)
	require.Less(t, longest, bound)
	require.Less(t, other, 2*bound, "it waits for the transaction in hand and its own")
}
