package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/network"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// r5Fault is what is done to one request of a transaction.
type r5Fault struct {
	name string
	// on the way, by the network
	verdict network.Verdict
	// at the broker, by its control hooks: refused with an error, or never answered nor handled, or handled
	// only after the client has given up
	refuse *kerr.Error
	mute   bool
	late   bool
	// patience is the client's time-out.
	patience time.Duration
}

// r5Errors are what Kafka may answer to the requests of a transaction.
var r5Errors = []*kerr.Error{
	kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable,
	kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping,
	kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.UnknownServerError,
	kerr.RequestTimedOut, kerr.TransactionAbortable, kerr.NotLeaderForPartition, kerr.NotEnoughReplicas,
}

// r5Doubts are those that do not say whether the broker acted: it may have.
var r5Doubts = []*kerr.Error{
	kerr.UnknownServerError, kerr.RequestTimedOut, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress,
	kerr.ConcurrentTransactions,
}

const (
	patient   = 10 * time.Second
	impatient = 400 * time.Millisecond
)

// r5Worst are the faults after which nobody but the broker knows what happened.
func r5Worst() []r5Fault {
	return []r5Fault{
		{name: "answer lost", verdict: network.Verdict{Fate: network.LoseAnswer}, patience: patient},
		{name: "answer late", verdict: network.Verdict{Fate: network.Silence}, patience: impatient},
		{name: "done, and then UNKNOWN_SERVER_ERROR", verdict: network.Verdict{Fate: network.Rewrite, Error: kerr.UnknownServerError}, patience: patient},
	}
}

func r5Others() []r5Fault {
	faults := []r5Fault{
		{name: "request lost", verdict: network.Verdict{Fate: network.LoseRequest}, patience: patient},
		{name: "request never answered", mute: true, patience: impatient},
		{name: "request late", late: true, patience: impatient},
	}
	for _, err := range r5Errors {
		faults = append(faults, r5Fault{name: "refused with " + err.Message, refuse: err, patience: patient})
	}
	for _, err := range r5Doubts[1:] {
		faults = append(faults, r5Fault{
			name: "done, and then " + err.Message, verdict: network.Verdict{Fate: network.Rewrite, Error: err}, patience: patient,
		})
	}
	return faults
}

// r5Protocol is a version of the transaction protocol with the requests that it is made of.
type r5Protocol struct {
	name     string
	versions *kversion.Versions
	keys     []kmsg.Key
}

func r5Protocols() []r5Protocol {
	return []r5Protocol{
		{"transaction.version=2", nil, []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.Produce, kmsg.InitProducerID}},
		{"transaction.version=1", kversion.V3_9_0(), []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn, kmsg.AddPartitionsToTxn}},
	}
}

// r5Case is one run: the fault at one request. A nil key is a run without.
type r5Case struct {
	protocol r5Protocol
	key      kmsg.Key
	index    int
	fault    r5Fault
	seed     uint64
}

func (c r5Case) String() string {
	return fmt.Sprintf("%s, %s %d: %s", c.protocol.name, c.key.Name(), c.index, c.fault.name)
}

// r5Result is what came of a run.
type r5Result struct {
	seen    map[kmsg.Key]int // requests that went out
	hit     bool             // the run had a request of that index
	took    time.Duration
	verdict oracle.Verdict
}

// r5Run is one run in progress.
type r5Run struct {
	r5Case
	dir     string
	cluster *kfake.Cluster
	network *network.Network
	names   chain.Names
	hit     atomic.Bool

	mu   sync.Mutex // guards seen
	seen int        // of the key, at the broker
}

func (r *r5Run) listen() []kfake.Opt {
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(r5Partitions, r.names.Made()...), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}
	if r.protocol.versions != nil {
		opts = append(opts, kfake.MaxVersions(r.protocol.versions))
	}
	return opts
}

const r5Partitions = 2

// decide is the network's part of the fault.
func (r *r5Run) decide(req network.Request) network.Verdict {
	if req.Key != r.key || req.Index != r.index || r.fault.verdict.Fate == network.Pass {
		return network.Verdict{}
	}
	r.hit.Store(true)
	return r.fault.verdict
}

// control is the broker's part of the fault.
func (r *r5Run) control(req kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // kfake's signature
	r.cluster.KeepControl()
	if !transactional(req) {
		return nil, nil, false
	}
	r.mu.Lock()
	at := r.seen
	r.seen++
	r.mu.Unlock()
	if at != r.index {
		return nil, nil, false
	}
	r.hit.Store(true)
	if r.fault.late {
		late := time.NewTimer(3 * r.fault.patience)
		r.cluster.SleepControl(func() { <-late.C })
		return nil, nil, false
	}
	return r.fault.answer(req), nil, true
}

// answer is what the broker says without having done anything; nil: it never answers.
func (f r5Fault) answer(req kmsg.Request) kmsg.Response {
	if f.mute {
		return nil
	}
	return network.Refuse(req, f.refuse)
}

// transactional says whether a request is of a transaction rather than of the client that feeds.
func transactional(req kmsg.Request) bool {
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		return req.TransactionID != nil
	case *kmsg.InitProducerIDRequest:
		return req.TransactionalID != nil
	}
	return true
}

// r5Size is the length of a run: how many events it has, and in how many steps they are sent, each when
// all of the one before has come out.
type r5Size struct{ steps, events int }

func r5Length() r5Size {
	if rig.Full() {
		return r5Size{steps: 4, events: 40}
	}
	return r5Size{steps: 2, events: 16}
}

// stuckAfter is how long a run may stand still.
const stuckAfter = 30 * time.Second

// start starts broker and stage. The stage has to be stopped if there is one, whatever the error.
func (r *r5Run) start() (*stream.Runner, error) {
	var err error
	if r.cluster, err = kfake.NewCluster(r.listen()...); err != nil {
		return nil, fmt.Errorf("starting a broker: %w", err)
	}
	if r.fault.refuse != nil || r.fault.mute || r.fault.late {
		r.cluster.ControlKey(r.key.Int16(), r.control)
	}
	r.network = network.New(r.decide)
	return r.stage()
}

func (r *r5Run) stage() (*stream.Runner, error) {
	patience := max(r.fault.patience, impatient)
	runner, err := stream.NewRunner(r.names.FirstStage(), stream.Config{
		Kafka:   kafka.Config{Brokers: r.cluster.ListenAddrs(), Partitions: r5Partitions, Replication: -1},
		DataDir: r.dir, CommitInterval: 20 * time.Millisecond, SessionTimeout: 3 * time.Second, TransactionTimeout: 3 * time.Second,
	}, stream.Deps{
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(),
		KafkaOptions: []kgo.Opt{kgo.Dialer(r.network.Dial), kgo.RequestTimeoutOverhead(patience), kgo.ProduceRequestTimeout(patience), kgo.FetchMaxWait(50 * time.Millisecond)},
	})
	if err != nil {
		return nil, err
	}
	return runner, runner.Start(context.Background())
}

func (r *r5Run) events() []workload.Event {
	o := workload.NewDefaultOptions(r.seed, r5Length().events)
	o.Keys, o.People, o.Timers, o.Poison, o.MaxDelay = 6, 5, 0.06, 0.06, 60*time.Millisecond
	return workload.Generate(o)
}

// run feeds the events in steps, waits until all that must come of them has come, stops and judges.
func (r *r5Run) run() (result r5Result, err error) {
	begun := time.Now()
	runner, err := r.start()
	if r.cluster != nil {
		defer r.cluster.Close()
	}
	if err != nil {
		return result, err
	}
	stop := sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
		defer cancel()
		return runner.Stop(ctx)
	})
	defer func() { err = errors.Join(err, stop()) }()
	reader, err := newR5Reader(r.cluster.ListenAddrs(), r.names)
	if err != nil {
		return result, err
	}
	defer reader.client.Close()
	events := r.events()
	if err := r.feed(events, reader); err != nil {
		return result, err
	}
	result.took = time.Since(begun)
	if err := errors.Join(r.untilSettled(events), untilReady(runner), stop()); err != nil {
		return result, err
	}
	result.hit, result.seen = r.hit.Load(), make(map[kmsg.Key]int)
	for _, key := range r.protocol.keys {
		result.seen[key] = r.network.Seen(key)
	}
	result.verdict, err = r.judge(events, reader)
	return result, err
}

// untilSettled waits until the state is what the events make of it: merges put nothing out, and may be under
// way when all else has come. A state that does not get there is left to the judge.
func (r *r5Run) untilSettled(events []workload.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	want, _ := oracle.ExpectState(events)
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for {
		log, err := oracle.ReadChangelog(ctx, r.cluster.ListenAddrs(), r.names.FirstLog)
		if err != nil {
			return fmt.Errorf("reading the changelog: %w", err)
		}
		state, err := log.Replay()
		if err != nil {
			return err
		}
		if v := want.Compare(r.names.First, state); v.Clean() || v.Doubled > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-looks.C:
		}
	}
}

// untilReady waits until all state is there.
func untilReady(runner *stream.Runner) error {
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	looks := time.NewTicker(time.Millisecond)
	defer looks.Stop()
	for runner.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("stuck for %s: %w\n%s", stuckAfter, runner.Ready(ctx), goroutines())
		case <-looks.C:
		}
	}
	return nil
}

func (r *r5Run) feed(events []workload.Event, reader *r5Reader) error {
	feeder, err := workload.NewFeeder(r.cluster.ListenAddrs(), r.names)
	if err != nil {
		return err
	}
	defer feeder.Close()
	handled, timers := 0, 0
	for step := range slices.Chunk(events, len(events)/r5Length().steps) {
		if err := feeder.Feed(context.Background(), step, 0); err != nil {
			return err
		}
		for _, e := range step {
			switch e.Op {
			case workload.Into, workload.From:
				continue
			case workload.Timer:
				timers++
			default:
			}
			handled++
		}
		if err := reader.until(func() bool { return reader.handled >= handled }); err != nil {
			return err
		}
	}
	return reader.until(func() bool { return reader.handled >= handled && reader.fired >= timers })
}

// judge reads what is left and compares everything: outputs, state, changelog, store, open transactions.
// The second stage runs in memory: what it makes of the first one's outputs shows the same differences.
func (r *r5Run) judge(events []workload.Event, reader *r5Reader) (oracle.Verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	var v oracle.Verdict
	brokers := r.cluster.ListenAddrs()
	if err := reader.toEnd(ctx); err != nil {
		return v, err
	}
	second, err := stream.NewDriver(stream.DriverConfig{}, r.names.SecondStage())
	if err != nil {
		return v, err
	}
	judge := oracle.NewJudge(r.names, events)
	for _, rec := range reader.records {
		judge.Add(rec.Topic, rec.Key, rec.Value)
		if rec.Topic == r.names.Mid {
			if err := second.Send(rec.Topic, rec.Key, rec.Value); err != nil {
				return v, err
			}
		}
	}
	for _, topic := range []string{r.names.Out, r.names.SecondDead} {
		for _, rec := range second.Output(topic) {
			judge.Add(topic, rec.Key, rec.Value)
		}
	}
	v = judge.Verdict()
	log, err := oracle.ReadChangelog(ctx, brokers, r.names.FirstLog)
	if err != nil {
		return v, err
	}
	state, err := log.Replay()
	if err != nil {
		return v, err
	}
	want, _ := oracle.ExpectState(events)
	v.Add(want.Compare(r.names.First, state))
	stores, err := r.stores(log)
	v.Add(stores)
	return v, errors.Join(err, r.noOpenTransaction(ctx, reader.client))
}

// stores compares the local state with the changelog. A stage that was stopped before it knew how its last
// transaction had ended is not at the end of the changelog yet: it comes there when it starts again.
func (r *r5Run) stores(log oracle.Changelog) (oracle.Verdict, error) {
	v, err := log.Stores(r.names.First, []string{r.dir})
	if err != nil || v.Clean() {
		return v, err
	}
	runner, err := r.stage()
	if err != nil {
		return v, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	if err := errors.Join(untilReady(runner), runner.Stop(ctx)); err != nil {
		return v, err
	}
	return log.Stores(r.names.First, []string{r.dir})
}

// noOpenTransaction: with transaction.version=2 none is left. Below it a request that the broker handles
// late can open one after the stage has gone; it is gone with its time-out. So it is with kfake and a batch
// that comes late: it begins a transaction before it looks at the epoch, for which it refuses the batch.
func (r *r5Run) noOpenTransaction(ctx context.Context, client *kgo.Client) error {
	looks := time.NewTicker(50 * time.Millisecond)
	defer looks.Stop()
	for {
		open, err := kadm.NewClient(client).ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		if err != nil {
			return fmt.Errorf("listing transactions: %w", err)
		}
		if len(open) == 0 {
			return nil
		}
		if r.protocol.versions == nil && (r.key != kmsg.Produce || !r.fault.late) {
			return fmt.Errorf("transactions are open: %v", open.TransactionalIDs())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("transactions are open for good: %v", open.TransactionalIDs())
		case <-looks.C:
		}
	}
}

// r5Reader reads what the stage has committed.
type r5Reader struct {
	client         *kgo.Client
	names          chain.Names
	records        []*kgo.Record
	next           map[string]map[int32]int64
	handled, fired int
}

func newR5Reader(brokers []string, names chain.Names) (*r5Reader, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(names.Mid, names.Fired, names.FirstDead),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.KeepControlRecords(), kgo.MetadataMinAge(20*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	if err != nil {
		return nil, fmt.Errorf("making the client that reads: %w", err)
	}
	return &r5Reader{client: client, names: names, next: make(map[string]map[int32]int64)}, nil
}

// until reads on until all is there; standing still for too long is an error with a dump of all goroutines.
func (r *r5Reader) until(there func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	for !there() {
		if !r.poll(ctx) {
			return fmt.Errorf("stuck for %s with %d handled and %d fired\n%s", stuckAfter, r.handled, r.fired, goroutines())
		}
	}
	return nil
}

func (r *r5Reader) poll(ctx context.Context) bool {
	for _, rec := range r.client.PollFetches(ctx).Records() {
		if r.next[rec.Topic] == nil {
			r.next[rec.Topic] = make(map[int32]int64)
		}
		r.next[rec.Topic][rec.Partition] = rec.Offset + 1
		switch {
		case rec.Attrs.IsControl():
			continue
		case rec.Topic == r.names.Fired:
			r.fired++
		default:
			r.handled++
		}
		r.records = append(r.records, rec)
	}
	return ctx.Err() == nil
}

// toEnd reads what there is.
func (r *r5Reader) toEnd(ctx context.Context) error {
	ends, err := kadm.NewClient(r.client).ListEndOffsets(ctx, r.names.Mid, r.names.Fired, r.names.FirstDead)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("looking up the ends: %w", err)
	}
	left := func() (left bool) {
		ends.Each(func(o kadm.ListedOffset) { left = left || r.next[o.Topic][o.Partition] < o.Offset })
		return left
	}
	for left() {
		if !r.poll(ctx) {
			return fmt.Errorf("stuck for %s before the end: an open transaction?\n%s", stuckAfter, goroutines())
		}
	}
	return nil
}

func goroutines() string {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // to a buffer: nothing can fail
	return b.String()
}

// r5Walk goes through cases and adds up what came of them.
type r5Walk struct {
	t     *testing.T
	dir   string
	seed  uint64
	group errgroup.Group

	mu       sync.Mutex // guards what follows
	runs     int
	injected map[string]int
	verdict  oracle.Verdict
	slowest  time.Duration
	slowCase string
	failures []string
}

// do runs a case in a directory of its own and says whether its fault was met.
func (w *r5Walk) do(c r5Case) (r5Result, bool) {
	dir, err := os.MkdirTemp(w.dir, "run")
	if err != nil {
		w.fail(c, err)
		return r5Result{}, false
	}
	defer os.RemoveAll(dir)
	c.seed = w.seed + uint64(max(c.index, 0))
	r := &r5Run{r5Case: c, dir: dir, names: chain.NamesOf("r5")}
	result, err := r.run()
	if err != nil {
		w.fail(c, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs++
	if result.hit {
		w.injected[c.protocol.name+" "+c.key.Name()]++
	}
	if result.took > w.slowest {
		w.slowest, w.slowCase = result.took, c.String()
	}
	w.verdict.Add(result.verdict)
	if !result.verdict.Clean() {
		w.failures = append(w.failures, fmt.Sprintf("%s (seed %d): %s", c, c.seed, &result.verdict))
	}
	return result, result.hit
}

func (w *r5Walk) fail(c r5Case, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf("%s (seed %d): %s", c, c.seed, err))
}

// every runs a fault at every index: at first at as many as a clean run has requests, then on until a run
// has no such request any more.
func (w *r5Walk) every(p r5Protocol, key kmsg.Key, fault r5Fault, clean int) {
	for i := range clean {
		w.group.Go(func() error {
			_, hit := w.do(r5Case{protocol: p, key: key, index: i, fault: fault})
			for next := i + 1; hit && i == clean-1; next++ {
				_, hit = w.do(r5Case{protocol: p, key: key, index: next, fault: fault})
			}
			return nil
		})
	}
}

// TestR5EndTxnEveryIndex loses, delays or refuses each request of a transaction in turn: at every index of
// a run of fixed length, with every fault, on both versions of the protocol. Each run is judged for itself.
// The short version takes the worst faults at every index, and a sample of the others.
func TestR5EndTxnEveryIndex(t *testing.T) {
	seed, repetitions := stack.Seed(t), 1
	if rig.Full() {
		repetitions = 5
	}
	for i := range repetitions {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			w := &r5Walk{t: t, dir: t.TempDir(), seed: seed + uint64(i)*1000, injected: make(map[string]int)}
			w.walk()
		})
	}
}

// walk goes through all cases and writes the row of the report.
func (w *r5Walk) walk() {
	begun := time.Now()
	w.group.SetLimit(16)
	rng := rand.New(rand.NewPCG(w.seed, 5))
	for _, p := range r5Protocols() {
		clean, _ := w.do(r5Case{protocol: p, index: -1})
		for _, key := range p.keys {
			w.t.Logf("%s: %d %s in a clean run", p.name, clean.seen[key], key.Name())
			w.key(p, key, clean.seen[key], rng)
		}
	}
	_ = w.group.Wait() // the cases keep their errors
	took, v := time.Since(begun), &w.verdict
	w.t.Logf("%d runs in %s, %d failed, the slowest %s: %s; %d checked", w.runs, took, len(w.failures), w.slowest, w.slowCase, v.Checked)
	for _, f := range w.failures[:min(len(w.failures), 10)] {
		w.t.Error(strings.ToValidUTF8(f, "?"))
	}
	require.NoError(w.t, report.Write(report.Row{
		Scenario: "R5", What: "every request of a transaction lost, late, refused", Broker: "kfake", Seed: w.seed,
		Injected: w.injected, Events: w.runs * r5Length().events, Checked: v.Checked, Lost: v.Lost, Doubled: v.Doubled, Swapped: v.Swapped, Wrong: v.Wrong,
		Measured: map[string]float64{"longest run s": w.slowest.Seconds()}, Seconds: took.Seconds(), Failed: len(w.failures) > 0,
	}))
}

func (w *r5Walk) key(p r5Protocol, key kmsg.Key, requests int, rng *rand.Rand) {
	everywhere := p.versions == nil && (key == kmsg.EndTxn || key == kmsg.TxnOffsetCommit)
	for _, fault := range r5Worst() {
		if rig.Full() || everywhere {
			w.every(p, key, fault, requests)
			continue
		}
		w.sample(p, key, fault, rng.IntN(requests))
	}
	others := r5Others()
	if !rig.Full() {
		for range 3 {
			w.sample(p, key, others[rng.IntN(len(others))], rng.IntN(requests))
		}
		return
	}
	for _, fault := range others {
		w.every(p, key, fault, requests)
	}
}

func (w *r5Walk) sample(p r5Protocol, key kmsg.Key, fault r5Fault, index int) {
	w.group.Go(func() error {
		w.do(r5Case{protocol: p, key: key, index: index, fault: fault})
		return nil
	})
}
