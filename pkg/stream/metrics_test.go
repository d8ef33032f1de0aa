package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// gauges reads metrics as "name{attr=value}" without the topology, which all have; histograms give their
// count as name and their sum as name.sum.
type gauges struct{ reader *sdk.ManualReader }

func measured(deps Deps) (Deps, gauges) {
	reader := sdk.NewManualReader()
	deps.Telemetry = telemetry.Nop()
	deps.Telemetry.Meter = sdk.NewMeterProvider(sdk.WithReader(reader))
	return deps, gauges{reader}
}

func (g gauges) read(t testing.TB) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, g.reader.Collect(context.Background(), &all))
	got := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			name := strings.TrimPrefix(m.Name, "sillage.stream.")
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					got[name+labels(p.Attributes.MarshalLog())] += float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					got[name+labels(p.Attributes.MarshalLog())] += float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					got[name+labels(p.Attributes.MarshalLog())] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					got[name+labels(p.Attributes.MarshalLog())] += float64(p.Count)
					got[name+".sum"] += p.Sum
				}
			default:
				t.Fatalf("%s is of type %T", name, data)
			}
		}
	}
	return got
}

func labels(attrs any) string {
	var out []string
	if list, ok := attrs.(map[string]string); ok {
		for key, value := range list {
			if key != "topology" {
				out = append(out, key+"="+value)
			}
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return ""
	}
	return "{" + strings.Join(out, ",") + "}"
}

// has waits until the metrics have these values and says what they had last.
func (g gauges) has(t testing.TB, want map[string]float64) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		all := g.read(t)
		got := make(map[string]float64)
		for name := range want {
			got[name] = all[name]
		}
		require.Equal(c, want, got)
	}, 30*time.Second, 5*time.Millisecond)
}

// TestMetricsAreExact: a run with known work gives exactly these numbers, over aborts, a rebalance and a
// restart; nothing is counted twice.
func TestMetricsAreExact(t *testing.T) {
	cluster := startKfake(t, "in", "out")
	brokers := cluster.ListenAddrs()
	now := clock.NewManual(time.Unix(1_700_000_000, 0))
	deps, g := measured(testDeps(t))
	deps.Clock = now
	cfg := quickConfig(brokers, t.TempDir())
	first := startRunner(t, counterTopology(), cfg, deps)
	waitReady(t, first)
	g.has(t, map[string]float64{"lag{topic=in}": 0, "tasks{state=active}": testPartitions, "tasks{state=restoring}": 0, "records": 0})

	// The first three transactions abort.
	faults := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.InvalidRecord, Count: 3})
	w := newWriter(t, brokers)
	for i := range 100 {
		w.send("in", fmt.Sprint("k", i%7), "x")
	}
	for i, poison := range []string{"fail", "panic", "panic", "badtopic", "badtopic", "badtopic"} {
		w.send("in", fmt.Sprint("bad", i), poison)
	}
	w.send("in", strings.Repeat("k", maxKeyBytes+1), "x")
	for i := range 10 {
		w.send("in", fmt.Sprint("timed", i), "late")
	}
	w.flush()
	const records = 100 + 6 + 1 + 10
	known := map[string]float64{
		"records": records, "outputs": 100 + 10 + 7, "timers": 0, "timer.pending": 10, "timer.lateness": 0,
		"dead_letters{class=error}": 1, "dead_letters{class=panic}": 2, "dead_letters{class=misuse}": 3, "dead_letters{class=size}": 1,
		"lag{topic=in}": 0, "lag{topic=counter.handover}": 0, "lag{topic=counter.replay}": 0, "stalled": 0,
	}
	g.has(t, known)
	require.Equal(t, 3, faults.Hits())
	all := g.read(t)
	require.Equal(t, 0.0, all["aborts{cause=rebalance}"])
	require.GreaterOrEqual(t, all["aborts{cause=other}"], 1.0, all)
	require.LessOrEqual(t, all["aborts{cause=other}"], 3.0, all)
	require.Equal(t, all["commits"], all["commit.duration"])
	require.Equal(t, all["commits"], all["transaction.duration"])
	require.Positive(t, all["state.size"])

	// A second instance takes half of the partitions: together they have what the one had.
	deps2, g2 := measured(testDeps(t))
	deps2.Clock = now
	second := startRunner(t, counterTopology(), quickConfig(brokers, t.TempDir()), deps2)
	waitReady(t, second)
	require.Eventually(t, func() bool { return g2.read(t)["tasks{state=active}"] == testPartitions/2 }, 30*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		return g.read(t)["timer.pending"]+g2.read(t)["timer.pending"] == 10
	}, 30*time.Second, 5*time.Millisecond)
	g2.has(t, map[string]float64{"records": 0, "lag{topic=in}": 0})
	stopRunner(t, second)
	g.has(t, map[string]float64{"tasks{state=active}": testPartitions, "timer.pending": 10, "records": records})

	// All timers are due at the same time and fire at the latest a second after that.
	now.Advance(61 * time.Second)
	known["timers"], known["timer.lateness"], known["timer.pending"] = 10, 10, 0
	known["timer.lateness.sum"] = 10
	known["outputs"] += 10
	g.has(t, known)

	stopRunner(t, first)
	restarted, g3 := measured(deps)
	restarted.Clock = now
	startRunner(t, counterTopology(), cfg, restarted)
	g3.has(t, map[string]float64{"tasks{state=active}": testPartitions, "records": 0, "lag{topic=in}": 0, "timer.pending": 0, "restore.duration": testPartitions})
}

// TestLagIsKnownWhileStateIsRestored: what waits behind a restore is seen.
func TestLagIsKnownWhileStateIsRestored(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	cfg := quickConfig(brokers, t.TempDir())
	r := startRunner(t, counterTopology(), cfg, testDeps(t))
	waitReady(t, r)
	stopRunner(t, r)
	other, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.BeginTransaction())
	key := appendStoreKey(nil, kindState, []byte("k"), "n")
	for p := range int32(testPartitions) {
		require.NoError(t, other.ProduceSync(t.Context(), &kgo.Record{Topic: "counter.changelog", Partition: p, Key: key, Value: make([]byte, 8)}).FirstErr())
	}
	for i := range 25 {
		produce(t, brokers, record("in", fmt.Sprint("k", i), "x"))
	}
	deps, g := measured(testDeps(t))
	startRunner(t, counterTopology(), cfg, deps)
	g.has(t, map[string]float64{"lag{topic=in}": 25, "tasks{state=restoring}": testPartitions, "records": 0})
	require.NoError(t, other.EndTransaction(t.Context(), kgo.TryAbort))
	g.has(t, map[string]float64{"lag{topic=in}": 0, "tasks{state=restoring}": 0, "records": 25, "restore.remaining": 0})
}

// TestLagOfTransactionsIsExact: the markers of a transactional writer are no lag, and no work.
func TestLagOfTransactionsIsExact(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	deps, g := measured(testDeps(t))
	waitReady(t, startRunner(t, counterTopology(), quickConfig(brokers, t.TempDir()), deps))
	writer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("writer"))
	require.NoError(t, err)
	defer writer.Close()
	transact := func(value string, end kgo.TransactionEndTry) {
		require.NoError(t, writer.BeginTransaction())
		require.NoError(t, writer.ProduceSync(t.Context(), record("in", "k", value)).FirstErr())
		require.NoError(t, writer.EndTransaction(t.Context(), end))
	}
	transact("x", kgo.TryCommit)
	g.has(t, map[string]float64{"lag{topic=in}": 0, "records": 1})
	commits := g.read(t)["commits"]
	for range 3 {
		transact("x", kgo.TryAbort)
	}
	g.has(t, map[string]float64{"lag{topic=in}": 0, "records": 1, "commits": commits})
}

// TestHeldRecordsAreCounted: what waits for a merge is seen until it is let go, also by the next owner.
func TestHeldRecordsAreCounted(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	now := clock.NewManual(time.Unix(1_700_000_000, 0))
	deps, g := measured(testDeps(t))
	deps.Clock = now
	cfg := quickConfig(brokers, t.TempDir())
	r := startRunner(t, counterTopology(), cfg, deps)
	produce(t, brokers, record("in", "b", "announce:a:m1"), record("in", "b", "x"), record("in", "b", "x"), record("in", "c", "x"))
	g.has(t, map[string]float64{"records": 4, "merge.held": 2, "timer.pending": 0})
	stopRunner(t, r)
	deps, g = measured(deps)
	startRunner(t, counterTopology(), cfg, deps)
	g.has(t, map[string]float64{"tasks{state=active}": testPartitions, "merge.held": 2, "timer.pending": 0})
	now.Advance(time.Minute)
	g.has(t, map[string]float64{"merge.held": 0, "outputs": 2})
}
