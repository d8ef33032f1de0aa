package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
)

// keeper does as it is told: "put:<name>", "del:<name>", "set:<id>", "cancel:<id>".
type keeper struct{}

func (keeper) Process(ctx *Context, rec Record) error {
	what, name, _ := strings.Cut(string(rec.Value), ":")
	switch what {
	case "put":
		ctx.Put(name, fmt.Append(nil, rec.Offset))
	case "del":
		ctx.Delete(name)
	case "set":
		ctx.SetTimer(name, ctx.Now().Add(24*time.Hour), fmt.Append(nil, rec.Offset))
	case "cancel":
		ctx.CancelTimer(name)
	}
	ctx.Emit("out", ctx.Key(), rec.Value)
	return nil
}

func (keeper) Timer(*Context, Timer) error   { return nil }
func (keeper) Merge(*Context, *Source) error { return nil }

func keeperTopology() Topology {
	return Topology{Name: "keeper", Inputs: []string{"in"}, Outputs: []string{"out"}, New: func() Processor { return keeper{} }}
}

func sendOrders(t *testing.T, brokers []string, rng *rand.Rand, n int) {
	t.Helper()
	w := newWriter(t, brokers)
	for range n {
		what := []string{"put", "put", "del", "set", "cancel"}[rng.IntN(5)]
		w.send("in", fmt.Sprint("k", rng.IntN(30)), fmt.Sprint(what, ":", rng.IntN(3)))
	}
	w.flush()
}

// storesOf reads all stores of a stopped instance.
func storesOf(t *testing.T, brokers []string, dir string) map[int32]map[string]string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	top := keeperTopology()
	log, err := (&restorer{top: &top, client: client}).lookUp(context.Background(), 0)
	require.NoError(t, err)
	all := make(map[int32]map[string]string)
	for p := range int32(testPartitions) {
		s, err := openPebble(filepath.Join(dir, "keeper", fmt.Sprint(p)), log.id, testSettings(t, vfs.Default))
		require.NoError(t, err)
		all[p] = contents(t, s)
		require.NoError(t, s.close())
	}
	return all
}

// TestRestoreOfCompactedChangelog: after the broker has compacted the changelog, and so dropped most of its
// records, a new store is what the old one is: tombstones are written for what was deleted, and nothing
// that is still needed is dropped.
func TestRestoreOfCompactedChangelog(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		var cluster *kfake.Cluster
		if strings.Contains(t.Name(), "kfake") {
			cluster = startKfake(t, "in", "out")
			brokers = cluster.ListenAddrs()
		} else {
			createTopics(t, brokers, "in", "out")
		}
		rng := newSeed(t)
		cfg := quickConfig(brokers, t.TempDir())
		r := startRunner(t, keeperTopology(), cfg, testDeps(t))
		waitReady(t, r)
		out := startTail(t, brokers, "out")
		if cluster == nil {
			compactEagerly(t, brokers, "keeper.changelog")
		}
		const n = 4000
		sendOrders(t, brokers, rng, n)
		out.waitFor(t, n)
		stopRunner(t, r)
		before := recordsOf(t, brokers, "keeper.changelog")
		if cluster != nil {
			cluster.Compact()
		}
		// The last segment is never compacted: new records make it one that can be.
		if cluster == nil {
			r = startRunner(t, keeperTopology(), cfg, testDeps(t))
			sendOrders(t, brokers, rng, 50)
			out.waitFor(t, n+50)
			stopRunner(t, r)
		}
		deadline := time.Now().Add(90 * time.Second)
		for pause := time.NewTicker(500 * time.Millisecond); recordsOf(t, brokers, "keeper.changelog") >= before*3/4; <-pause.C {
			require.True(t, time.Now().Before(deadline), "the broker does not compact")
		}

		fresh := cfg
		fresh.DataDir = t.TempDir()
		r = startRunner(t, keeperTopology(), fresh, testDeps(t))
		waitReady(t, r)
		stopRunner(t, r)
		require.Equal(t, storesOf(t, brokers, cfg.DataDir), storesOf(t, brokers, fresh.DataDir))
	})
}

// compactEagerly makes Apache Kafka compact what it would leave alone for a week.
func compactEagerly(t *testing.T, brokers []string, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	var configs []kadm.AlterConfig
	for name, value := range map[string]string{"segment.ms": "500", "min.cleanable.dirty.ratio": "0.01", "min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1000"} {
		configs = append(configs, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: new(value)})
	}
	answers, err := kadm.NewClient(client).AlterTopicConfigs(context.Background(), configs, topic)
	require.NoError(t, err)
	for _, a := range answers {
		require.NoError(t, a.Err)
	}
}

// recordsOf counts the records of a topic that are there for a reader.
func recordsOf(t *testing.T, brokers []string, topic string) (n int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.NoError(t, err)
	defer client.Close()
	top := Topology{Name: strings.TrimSuffix(topic, ".changelog")}
	r := &restorer{top: &top, client: client}
	for p := range int32(testPartitions) {
		log, err := r.lookUp(context.Background(), p)
		require.NoError(t, err)
		end, err := r.endOf(context.Background(), p)
		require.NoError(t, err)
		starts, err := kadm.NewClient(client).ListStartOffsets(context.Background(), topic)
		require.NoError(t, err)
		start, _ := starts.Lookup(topic, p)
		for at := start.Offset; at < end; {
			got := r.fetch(context.Background(), log, at, restoreFetchWait)
			require.NoError(t, got.err)
			n += len(got.records)
			at = got.next
		}
	}
	return n
}

// TestChangelogSettings: what the age of stores relies on.
func TestChangelogSettings(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	waitReady(t, startRunner(t, keeperTopology(), quickConfig(brokers, t.TempDir()), testDeps(t)))
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	described, err := kadm.NewClient(client).DescribeTopicConfigs(context.Background(), "keeper.changelog")
	require.NoError(t, err)
	configs := make(map[string]string)
	for _, c := range described[0].Configs {
		configs[c.Key] = c.MaybeValue()
	}
	require.Equal(t, "compact", configs["cleanup.policy"])
	retention, err := time.ParseDuration(configs["delete.retention.ms"] + "ms")
	require.NoError(t, err)
	require.GreaterOrEqual(t, retention, 2*maxStoreAge, "a store that is young enough has met every tombstone")
}
