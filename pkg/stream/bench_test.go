package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// benchCounter is a stage as services have them: read, change and write state, emit one record.
type benchCounter struct{}

func (benchCounter) Process(ctx *Context, rec Record) error {
	var n uint64
	if v, ok := ctx.Get("n"); ok {
		n = binary.BigEndian.Uint64(v)
	}
	var buf [8]byte
	binary.BigEndian.PutUint64(buf[:], n+1)
	ctx.Put("n", buf[:])
	ctx.Emit("out", rec.Key, rec.Value)
	return nil
}

func (benchCounter) Timer(*Context, Timer) error   { return nil }
func (benchCounter) Merge(*Context, *Source) error { return nil }

func benchTopology() Topology {
	return Topology{Name: "bench", Inputs: []string{"in"}, Outputs: []string{"out"}, New: func() Processor { return benchCounter{} }}
}

const benchKeys = 20_000

// fill writes n records of 400 bytes over benchKeys keys.
func fill(b *testing.B, brokers []string, n int) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(100_000))
	require.NoError(b, err)
	defer client.Close()
	value := make([]byte, 400)
	for i := range value {
		value[i] = byte('a' + i%23)
	}
	for i := range n {
		client.Produce(context.Background(), &kgo.Record{Topic: "in", Key: fmt.Appendf(nil, "tenant/profile-%d", i%benchKeys), Value: value}, nil)
	}
	require.NoError(b, client.Flush(context.Background()))
}

// BenchmarkStage is a stateful stage at exactly-once, from the start of the runner to the last output.
// Compare events/s with BenchmarkBareLoop of the same run.
func BenchmarkStage(b *testing.B)            { benchStage(b, false) }
func BenchmarkStageAtLeastOnce(b *testing.B) { benchStage(b, true) }

func benchStage(b *testing.B, atLeastOnce bool) {
	brokers := startKfake(b, "in", "out").ListenAddrs()
	n := max(b.N, 1)
	fill(b, brokers, n)
	var handled atomic.Int64
	top := benchTopology()
	top.New = func() Processor { return countCalls{benchCounter{}, &handled} }
	cfg := Config{Kafka: kafkaConfig(brokers), DataDir: b.TempDir(), AtLeastOnce: atLeastOnce}
	r, err := NewRunner(top, cfg, testDeps(b))
	require.NoError(b, err)
	b.ResetTimer()
	require.NoError(b, r.Start(context.Background()))
	for handled.Load() < int64(n) {
		time.Sleep(time.Millisecond) //nolint:forbidigo // a benchmark measures the wall
	}
	stopRunner(b, r) // commits what is in hand
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

type countCalls struct {
	Processor
	calls *atomic.Int64
}

func (c countCalls) Process(ctx *Context, rec Record) error {
	c.calls.Add(1)
	return c.Processor.Process(ctx, rec)
}

// BenchmarkBareLoop is the least that exactly-once costs: consume, write one output and one changelog
// record for each, commit every 50ms.
func BenchmarkBareLoop(b *testing.B) {
	brokers := startKfake(b, "in", "out", "log").ListenAddrs()
	n := max(b.N, 1)
	fill(b, brokers, n)
	session, err := kgo.NewGroupTransactSession(append(kafkaConfig(brokers).ProducerOptions(testLogger(b)),
		kgo.TransactionalID("bare"), kgo.ConsumerGroup("bare"), kgo.ConsumeTopics("in"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MaxBufferedRecords(100_000))...)
	require.NoError(b, err)
	defer session.Close()
	ctx := context.Background()
	b.ResetTimer()
	for done := 0; done < n; {
		require.NoError(b, session.Begin())
		begun := time.Now()
		for done < n && time.Since(begun) < 50*time.Millisecond {
			session.PollRecords(ctx, 4096).EachRecord(func(r *kgo.Record) {
				session.Produce(ctx, &kgo.Record{Topic: "out", Key: r.Key, Value: r.Value}, nil)
				session.Produce(ctx, &kgo.Record{Topic: "log", Key: r.Key, Value: r.Key[:8]}, nil)
				done++
			})
		}
		committed, err := session.End(ctx, kgo.TryCommit)
		require.NoError(b, err)
		require.True(b, committed)
	}
	b.StopTimer()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRestore rebuilds lost stores from changelogs of 256-byte values; compare with BenchmarkConsume.
func BenchmarkRestore(b *testing.B) {
	brokers := startKfake(b, "in", "out").ListenAddrs()
	cfg := Config{Kafka: kafkaConfig(brokers), DataDir: b.TempDir()}
	r, err := NewRunner(benchTopology(), cfg, testDeps(b))
	require.NoError(b, err)
	require.NoError(b, r.Start(context.Background()))
	stopRunner(b, r)
	fillChangelog(b, brokers, b.N)
	cfg.DataDir = b.TempDir()
	r, err = NewRunner(benchTopology(), cfg, testDeps(b))
	require.NoError(b, err)
	b.ResetTimer()
	require.NoError(b, r.Start(context.Background()))
	for r.Ready(context.Background()) != nil {
		time.Sleep(time.Millisecond) //nolint:forbidigo // a benchmark measures the wall
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	stopRunner(b, r)
}

// BenchmarkConsume reads the same changelog and does nothing with it.
func BenchmarkConsume(b *testing.B) {
	brokers := startKfake(b, "bench.changelog").ListenAddrs()
	fillChangelog(b, brokers, b.N)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("bench.changelog"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	require.NoError(b, err)
	defer client.Close()
	b.ResetTimer()
	for n := 0; n < b.N; {
		n += client.PollFetches(context.Background()).NumRecords()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func fillChangelog(b *testing.B, brokers []string, n int) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(100_000), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(b, err)
	defer client.Close()
	value := make([]byte, 256)
	for i := range n {
		key := appendStoreKey(nil, kindState, fmt.Appendf(nil, "tenant/profile-%d", i), "n")
		client.Produce(context.Background(), &kgo.Record{Topic: "bench.changelog", Partition: int32(i % testPartitions), Key: key, Value: value}, nil)
	}
	require.NoError(b, client.Flush(context.Background()))
}

// BenchmarkDriver is the in-memory driver, as simulations use it.
func BenchmarkDriver(b *testing.B) {
	d, err := NewDriver(DriverConfig{}, benchTopology())
	require.NoError(b, err)
	key, value := []byte("tenant/profile"), make([]byte, 400)
	b.ReportAllocs()
	for range b.N {
		if err := d.Send("in", key, value); err != nil {
			b.Fatal(err)
		}
	}
}
