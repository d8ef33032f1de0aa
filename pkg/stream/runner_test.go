package stream

import (
	"context"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

const testPartitions = 4

func startKfake(t testing.TB, topics ...string) *kfake.Cluster {
	t.Helper()
	return kafkatest.StartCluster(t, kfake.SeedTopics(testPartitions, topics...), kfake.GroupMinSessionTimeout(100*time.Millisecond))
}

func kafkaConfig(brokers []string) kafka.Config {
	return kafka.Config{Brokers: brokers, Partitions: testPartitions, Replication: -1}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func testDeps(t testing.TB) Deps {
	return Deps{Clock: clock.System{}, Logger: testLogger(t), Telemetry: telemetry.Nop()}
}

// startRunner starts a runner that stops with the test.
func startRunner(t testing.TB, top Topology, cfg Config, deps Deps) *Runner {
	t.Helper()
	r, err := NewRunner(top, cfg, deps)
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background()))
	t.Cleanup(func() { stopRunner(t, r) })
	return r
}

func stopRunner(t testing.TB, r *Runner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, r.Stop(ctx))
}

func waitReady(t testing.TB, r *Runner) {
	t.Helper()
	require.Eventually(t, func() bool { return r.Ready(context.Background()) == nil }, 30*time.Second, 5*time.Millisecond)
}

func produce(t testing.TB, brokers []string, records ...*kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.ProduceSync(context.Background(), records...).FirstErr())
}

func record(topic, key, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}
}

// tail reads topics read-committed from their beginning and keeps what it has read.
type tail struct {
	mu      sync.Mutex
	records []*kgo.Record
}

func startTail(t testing.TB, brokers []string, topics ...string) *tail {
	t.Helper()
	return tailWith(t, kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...))
}

func tailWith(t testing.TB, opts ...kgo.Opt) *tail {
	t.Helper()
	client, err := kgo.NewClient(append(opts,
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))...)
	require.NoError(t, err)
	out := &tail{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			fetches := client.PollFetches(ctx)
			out.mu.Lock()
			out.records = append(out.records, fetches.Records()...)
			out.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		client.Close()
	})
	return out
}

func (o *tail) all() []*kgo.Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]*kgo.Record(nil), o.records...)
}

func (o *tail) waitFor(t testing.TB, n int) []*kgo.Record {
	t.Helper()
	require.Eventually(t, func() bool { return len(o.all()) >= n }, 60*time.Second, 5*time.Millisecond, "waiting for %d records", n)
	return o.all()
}

// byKey lists the values of each key in order.
func byKey(records []*kgo.Record) map[string][]string {
	out := make(map[string][]string)
	for _, r := range records {
		out[string(r.Key)] = append(out[string(r.Key)], string(r.Value))
	}
	return out
}

func sortedOutputs(records []*kgo.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Key)+" "+string(r.Value))
	}
	sort.Strings(out)
	return out
}

func TestRunnerCountsExactlyOnceAcrossRestart(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		createTopics(t, brokers, "in", "out")
		cfg := Config{Kafka: kafkaConfig(brokers), DataDir: t.TempDir()}
		r := startRunner(t, counterTopology(), cfg, testDeps(t))
		waitReady(t, r)
		out := startTail(t, brokers, "out")
		for round := range 3 {
			for i := range 50 {
				produce(t, brokers, record("in", fmt.Sprint("k", i%7), fmt.Sprint("r", round, "-", i)))
			}
			out.waitFor(t, 50*(round+1))
			stopRunner(t, r)
			r = startRunner(t, counterTopology(), cfg, testDeps(t))
		}
		total := 0
		for key, values := range byKey(out.all()) {
			for i, v := range values {
				require.True(t, strings.HasSuffix(v, fmt.Sprint("=", i+1)), "key %s: %v", key, values)
				total++
			}
		}
		require.Equal(t, 150, total)
	})
}

// TestRunnerMerges runs chains, crossings and cycles of merges through several instances, and compares
// with people known in advance.
func TestRunnerMerges(t *testing.T) {
	rng := newSeed(t)
	brokers := startKfake(t, "in", "fired").ListenAddrs()
	top := collectTopology()
	top.MergeWait = 300 * time.Millisecond
	startRunner(t, top, quickConfig(brokers, t.TempDir()), testDeps(t))
	second := startRunner(t, top, quickConfig(brokers, t.TempDir()), testDeps(t))
	w := newWriter(t, brokers)
	one := make(people)
	events := make(map[string]string)
	for i := range 1500 {
		a, b := fmt.Sprint("p", rng.IntN(60)), fmt.Sprint("p", rng.IntN(60))
		if a != b && rng.IntN(25) == 0 {
			if rng.IntN(2) == 0 {
				w.send("in", b, fmt.Sprintf("announce:%s:m%d", a, i))
			}
			w.send("in", a, fmt.Sprintf("into:%s:m%d", b, i))
			if x, y := one.find(a), one.find(b); x != y {
				one[x] = y
			}
		} else {
			events[fmt.Sprint("e", i)] = a
			w.send("in", a, fmt.Sprint("e", i))
		}
		if i%100 == 0 {
			w.flush()
		}
		if i == 700 {
			stopRunner(t, second)
		}
	}
	w.flush()
	want := make(map[string][]string)
	for e, k := range events {
		want[one.find(k)] = append(want[one.find(k)], e)
	}
	var expected []string
	for _, list := range want {
		sort.Strings(list)
		expected = append(expected, strings.Join(list, " "))
	}
	sort.Strings(expected)
	log := startTail(t, brokers, "collect.changelog")
	require.Eventually(t, func() bool {
		state := make(map[string]map[string]bool)
		for _, r := range log.all() {
			kind, key, name, err := splitStoreKey(r.Key)
			require.NoError(t, err)
			if kind != kindState {
				continue
			}
			if state[string(key)] == nil {
				state[string(key)] = make(map[string]bool)
			}
			if r.Value == nil {
				delete(state[string(key)], string(name))
			} else {
				state[string(key)][string(name)] = true
			}
		}
		var got []string
		for _, names := range state {
			var list []string
			for name := range names {
				list = append(list, name)
			}
			if len(list) > 0 {
				sort.Strings(list)
				got = append(got, strings.Join(list, " "))
			}
		}
		sort.Strings(got)
		return strings.Join(got, "\n") == strings.Join(expected, "\n")
	}, 30*time.Second, 100*time.Millisecond)
	require.Empty(t, startTail(t, brokers, "collect.dlq").all())
}

// TestRunnerEqualsDriver gives the same records to both and compares what each key sees come out.
func TestRunnerEqualsDriver(t *testing.T) {
	rng := newSeed(t)
	brokers := startKfake(t, "in", "out").ListenAddrs()
	startRunner(t, counterTopology(), quickConfig(brokers, t.TempDir()), testDeps(t))
	d := newCounterDriver(t, testPartitions)
	out := startTail(t, brokers, "out")
	w := newWriter(t, brokers)
	for i := range 3000 {
		key, value := fmt.Sprint("k", rng.IntN(50)), fmt.Sprint("v", i)
		if rng.IntN(10) == 0 {
			value = []string{"fail", "panic", "badtopic"}[rng.IntN(3)]
		}
		w.send("in", key, value)
		send(t, d, key, value)
	}
	w.flush()
	want := make(map[string][]string)
	placed := make(map[string]int32)
	for _, r := range d.Output("out") {
		want[string(r.Key)] = append(want[string(r.Key)], string(r.Value))
		placed[string(r.Key)] = r.Partition
	}
	got := out.waitFor(t, len(d.Output("out")))
	require.Equal(t, want, byKey(got))
	for _, r := range got {
		require.Equal(t, placed[string(r.Key)], r.Partition, "the driver places keys as Kafka does")
	}
}

// TestBatchesAreBounded: no transaction takes more records than it may.
func TestBatchesAreBounded(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	w := newWriter(t, brokers)
	for i := range 5000 {
		w.send("in", fmt.Sprint("k", i%50), "x")
	}
	w.flush()
	var mu sync.Mutex
	calls := make(map[time.Time]int) // records by the batch's time, which is the same in all of its tasks
	top := counterTopology()
	top.New = func() Processor { return noteBatch{counter{}, &mu, calls} }
	cfg := quickConfig(brokers, t.TempDir())
	cfg.MaxBatchRecords = 100
	startRunner(t, top, cfg, testDeps(t))
	startTail(t, brokers, "out").waitFor(t, 5000)
	mu.Lock()
	defer mu.Unlock()
	require.GreaterOrEqual(t, len(calls), 20)
}

type noteBatch struct {
	Processor
	mu    *sync.Mutex
	calls map[time.Time]int
}

func (n noteBatch) Process(ctx *Context, rec Record) error {
	n.mu.Lock()
	n.calls[ctx.Now()]++
	n.mu.Unlock()
	return n.Processor.Process(ctx, rec)
}
