package faults

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

const poisoned = 0.01

// TestR7Poison lets one event in a hundred fail after it has acted: all of these are in the dead letters
// with where they came from, and nothing else is missing or changed. How fast that is beside a clean run is
// in the report.
func TestR7Poison(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		events, pairs := 12_000, 1
		if rig.Full() {
			events, pairs = 200_000, 5
		}
		o := workload.NewDefaultOptions(seed, events)
		o.Poison = poisoned
		r := rig.New(t, rig.Options{Scenario: "R7", What: "1 % poison records", Broker: broker, Seed: seed, Events: workload.Generate(o)})
		first, second := newInside(t, r.Names.FirstStage(), broker.Addrs), newInside(t, r.Names.SecondStage(), broker.Addrs)
		first.start()
		second.start()
		r.Feed(r.Events, time.Second)
		r.Settle()
		r.StateSettled()
		first.stop()
		second.stop()
		for _, e := range r.Events {
			if e.Op == workload.Poison || e.Op == workload.Poison2 {
				r.Inject("poison", 1)
			}
		}
		r.Check([]string{first.dir}, []string{second.dir})
		checkOrigins(t, broker.Addrs, r.Names.First, r.Names.FirstDead)
		checkOrigins(t, broker.Addrs, r.Names.Second, r.Names.SecondDead)
		ratio := poisonPairs(t, seed, events, pairs)
		t.Logf("throughput with poison: %.3f of a clean run (median of %d pairs)", ratio, pairs)
		r.Measure("least of clean throughput", ratio)
	})
}

// checkOrigins reads every dead letter and compares it with the record at the place that it names.
func checkOrigins(t *testing.T, brokers []string, topology, topic string) {
	t.Helper()
	letters := readAll(t, brokers, topic)
	require.NotEmpty(t, letters)
	inputs := make(map[string]map[string]*kgo.Record) // topic → place → record
	for _, rec := range letters {
		headers := make([]stream.Header, 0, len(rec.Headers))
		for _, h := range rec.Headers {
			headers = append(headers, stream.Header{Key: h.Key, Value: h.Value})
		}
		letter, err := stream.ParseDeadLetter(topology, stream.Record{Key: rec.Key, Value: rec.Value, Headers: headers})
		require.NoError(t, err)
		origin := letter.Record.Topic
		if inputs[origin] == nil {
			inputs[origin] = make(map[string]*kgo.Record)
			for _, in := range readAll(t, brokers, origin) {
				inputs[origin][fmt.Sprint(in.Partition, "@", in.Offset)] = in
			}
		}
		in := inputs[origin][fmt.Sprint(letter.Record.Partition, "@", letter.Record.Offset)]
		require.NotNil(t, in, "%s has no record at %d@%d", origin, letter.Record.Partition, letter.Record.Offset)
		require.Equal(t, string(in.Key), string(letter.Record.Key))
		require.Equal(t, string(in.Value), string(letter.Record.Value))
		require.Equal(t, in.Timestamp.UnixMilli(), letter.Record.Timestamp.UnixMilli())
		require.Contains(t, letter.Reason, "poison")
	}
}

// readAll reads a topic to its end as a read-committed reader.
func readAll(t *testing.T, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	require.NoError(t, err)
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "reading %s", topic)
		for _, rec := range fetches.Records() {
			if rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
			if !rec.Attrs.IsControl() {
				records = append(records, rec)
			}
		}
	}
	return records
}

// poisonPairs is how fast the first stage works off events of which some are poison, as a share of how
// fast it works off the same number without: the median of alternating pairs.
func poisonPairs(t testing.TB, seed uint64, events, pairs int) float64 {
	ratios := make([]float64, 0, pairs)
	for i := range uint64(pairs) {
		clean := poisonRun(t, seed+i, events, 0)
		bad := poisonRun(t, seed+i, events, poisoned)
		ratios = append(ratios, clean.Seconds()/bad.Seconds())
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// poisonRun is how long the first stage takes to work off what was fed before.
func poisonRun(t testing.TB, seed uint64, events int, poison float64) time.Duration {
	const partitions = 4
	names := chain.NamesOf("r7")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, names.Made()...))
	require.NoError(t, err)
	defer cluster.Close()
	o := workload.NewDefaultOptions(seed, events)
	o.Keys, o.People, o.Timers, o.Poison = 1000, 0, 0, 2*poison // half of it is for the second stage
	feeder, err := workload.NewFeeder(cluster.ListenAddrs(), names)
	require.NoError(t, err)
	defer feeder.Close()
	require.NoError(t, feeder.Feed(context.Background(), workload.Generate(o), 0))
	admin, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer admin.Close()
	runner, err := stream.NewRunner(names.FirstStage(), stream.Config{
		Kafka: kafka.Config{Brokers: cluster.ListenAddrs(), Partitions: partitions, Replication: -1}, DataDir: t.TempDir(),
	}, stream.Deps{Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop()})
	require.NoError(t, err)
	begun := time.Now()
	require.NoError(t, runner.Start(context.Background()))
	ends, err := kadm.NewClient(admin).ListEndOffsets(context.Background(), names.In, names.In2)
	require.NoError(t, err)
	for !workedOff(kadm.NewClient(admin), names.FirstStage().Group(), ends) {
		require.Less(t, time.Since(begun), 5*time.Minute)
		<-time.After(2 * time.Millisecond)
	}
	took := time.Since(begun)
	require.NoError(t, runner.Stop(context.Background()))
	return took
}

// workedOff says whether a group has committed as far as there are records.
func workedOff(admin *kadm.Client, group string, ends kadm.ListedOffsets) bool {
	committed, err := admin.FetchOffsets(context.Background(), group)
	done := err == nil // there is no group at first
	ends.Each(func(end kadm.ListedOffset) {
		at, ok := committed.Lookup(end.Topic, end.Partition)
		if end.Offset > 0 && (!ok || at.At < end.Offset) {
			done = false
		}
	})
	return done
}

// BenchmarkPoison compares the first stage on clean events with the same on events of which one in a
// hundred fails after it has acted.
func BenchmarkPoison(b *testing.B) {
	const events = 100_000
	for name, share := range map[string]float64{"clean": 0, "poison": poisoned} {
		b.Run(name, func(b *testing.B) {
			took := time.Duration(0)
			for i := range b.N {
				took += poisonRun(b, uint64(i), events, share)
			}
			b.ReportMetric(float64(b.N)*events/took.Seconds(), "events/s")
		})
	}
}
