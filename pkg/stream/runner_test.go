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
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100*time.Millisecond))
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
