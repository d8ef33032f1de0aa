package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func testConfig(dir string) Config {
	return Config{DataDir: dir, Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}
}

// startBroker runs a broker until the test ends or it is stopped.
func startBroker(t testing.TB, cfg Config) *Broker {
	t.Helper()
	b, err := Open(cfg)
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, b.Stop(context.Background())) })
	return b
}

func client(t testing.TB, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }), kgo.MetadataMinAge(10 * time.Millisecond),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func createTopic(t testing.TB, b *Broker, topic string, partitions int32, configs map[string]*string) {
	t.Helper()
	_, err := kadm.NewClient(client(t, b)).CreateTopic(t.Context(), partitions, 1, configs, topic)
	require.NoError(t, err)
}

func produce(t testing.TB, cl *kgo.Client, topic string, partition int32, values ...string) {
	t.Helper()
	for _, v := range values {
		r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(v), Value: []byte(v)}
		require.NoError(t, cl.ProduceSync(t.Context(), r).FirstErr())
	}
}

// committed reads what a read-committed consumer sees of a topic.
func committed(t testing.TB, b *Broker, topic string) []string {
	t.Helper()
	ends, err := kadm.NewClient(client(t, b)).ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	var values []string
	require.NoError(t, (&oracle{brokers: b.Addrs()}).read(t.Context(), topic, ends, func(r *kgo.Record) {
		values = append(values, string(r.Value))
	}))
	return values
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, testConfig(dir))

	_, err := Open(testConfig(dir))
	require.ErrorContains(t, err, "is open in process")
	require.ErrorContains(t, err, fmt.Sprint(os.Getpid()))

	taken := testConfig(t.TempDir())
	taken.Addr = b.Addr()
	_, err = Open(taken)
	require.ErrorContains(t, err, "is in use: stop the other process")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(testConfig(filepath.Join(file, "data")))
	require.ErrorContains(t, err, "is not a directory")

	_, err = Open(Config{Partitions: -1, SegmentBytes: 1, RetentionBytes: -1, Maintenance: -1})
	for _, field := range []string{"DataDir", "Logger", "Partitions", "SegmentBytes", "RetentionBytes", "Maintenance"} {
		require.ErrorContains(t, err, field)
	}
}

func TestLifeCycle(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(testConfig(dir))
	require.NoError(t, err)
	require.Error(t, b.Ready(t.Context()))
	require.NoError(t, b.Stop(t.Context()), "stop before start")
	require.Error(t, b.Start(t.Context()), "a stopped broker is opened again, not started")

	b, err = Open(testConfig(dir))
	require.NoError(t, err)
	require.NoError(t, b.Start(t.Context()))
	require.NoError(t, b.Ready(t.Context()))
	createTopic(t, b, "events", 1, nil)
	produce(t, client(t, b), "events", 0, "a", "b")
	require.NoError(t, b.Stop(t.Context()))
	require.NoError(t, b.Stop(t.Context()), "stop twice")
	require.Error(t, b.Ready(t.Context()))

	again := startBroker(t, testConfig(dir))
	require.Zero(t, again.Repaired(), "a clean end needs no repair")
	require.Equal(t, []string{"a", "b"}, committed(t, again, "events"))
}

func TestAdvertisesReachableAddress(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Addr = "0.0.0.0:0"
	b := startBroker(t, cfg)
	host, _, err := net.SplitHostPort(b.Addr())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
	meta, err := kadm.NewClient(client(t, b)).BrokerMetadata(t.Context())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", meta.Brokers[0].Host)

	cfg = testConfig(t.TempDir())
	cfg.Advertise = "kafka.example:19092"
	require.Equal(t, cfg.Advertise, startBroker(t, cfg).Addr())
	cfg.Advertise = "nowhere"
	_, err = Open(cfg)
	require.ErrorContains(t, err, "Advertise")
}

// TestFullDisk refuses records while space is short and takes them after.
func TestFullDisk(t *testing.T) {
	b := startBroker(t, testConfig(t.TempDir()))
	createTopic(t, b, "events", 1, nil)
	guard := spaceGuard{broker: b, minFree: 1 << 62}
	guard.check()
	cl := client(t, b, kgo.RecordRetries(2))
	err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "events", Value: []byte("refused")}).FirstErr()
	require.ErrorContains(t, err, "KAFKA_STORAGE_ERROR")

	guard.minFree = 1
	guard.check()
	produce(t, client(t, b), "events", 0, "taken")
	require.Equal(t, []string{"taken"}, committed(t, b, "events"))
}

// TestEmptiedPartitionKeepsItsEnd deletes all records of a partition; the next
// one must not start again at offset 0, below what consumers committed.
func TestEmptiedPartitionKeepsItsEnd(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%t", crash), func(t *testing.T) {
			dir := t.TempDir()
			b := startBroker(t, testConfig(dir))
			createTopic(t, b, "events", 2, nil)
			cl := client(t, b)
			produce(t, cl, "events", 0, "a", "b", "c")
			produce(t, cl, "events", 1, "x", "y", "z")
			var offsets kadm.Offsets
			offsets.Add(kadm.Offset{Topic: "events", Partition: 0, At: 3})
			offsets.Add(kadm.Offset{Topic: "events", Partition: 1, At: 2})
			deleted, err := kadm.NewClient(cl).DeleteRecords(t.Context(), offsets)
			require.NoError(t, err)
			require.NoError(t, deleted.Error())
			if crash {
				dir = crashCopy(t, dir)
			} else {
				require.NoError(t, b.Stop(t.Context()))
			}
			b = startBroker(t, testConfig(dir))
			require.Equal(t, []string{"z"}, committed(t, b, "events"), "deleted records stay deleted")
			r := &kgo.Record{Topic: "events", Value: []byte("d")}
			require.NoError(t, client(t, b).ProduceSync(t.Context(), r).FirstErr())
			require.EqualValues(t, 3, r.Offset)
		})
	}
}

// crashCopy copies a data directory as it is on disk now: what another process
// would find if this one were killed.
func crashCopy(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// TestRetentionByAge deletes by when records were written, not by the timestamp
// that their producer chose, and keeps the end.
func TestRetentionByAge(t *testing.T) {
	b := startBroker(t, testConfig(t.TempDir()))
	createTopic(t, b, "events", 1, map[string]*string{"retention.ms": new("3600000")})
	cl := client(t, b)
	old := &kgo.Record{Topic: "events", Value: []byte("imported"), Timestamp: time.Unix(0, 0)}
	require.NoError(t, cl.ProduceSync(t.Context(), old).FirstErr())
	produce(t, cl, "events", 0, "second")

	topics, err := readTopics(b.cfg.DataDir)
	require.NoError(t, err)
	a, now := loadAges(b.cfg.DataDir), time.Now()
	require.NoError(t, b.retain(b.running(), topics, a, now))
	require.Equal(t, []string{"imported", "second"}, committed(t, b, "events"), "old timestamp, young record")

	produce(t, cl, "events", 0, "third", "fourth")
	require.NoError(t, b.retain(b.running(), topics, a, now.Add(59*time.Minute)))
	require.Len(t, committed(t, b, "events"), 4)
	a = loadAges(b.cfg.DataDir) // as after a restart
	require.NoError(t, b.retain(b.running(), topics, a, now.Add(61*time.Minute)))
	require.Equal(t, []string{"third", "fourth"}, committed(t, b, "events"))
	require.NoError(t, b.retain(b.running(), topics, a, now.Add(3*time.Hour)))
	require.Equal(t, []string{"fourth"}, committed(t, b, "events"), "the last record holds the end")
}

// TestRetentionByBytes deletes the oldest files of a partition.
func TestRetentionByBytes(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SegmentBytes, cfg.RetentionBytes = 4096, 10_000
	b := startBroker(t, cfg)
	createTopic(t, b, "events", 1, nil)
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 40 {
		produce(t, cl, "events", 0, strings.Repeat("v", 1000))
	}
	topics, err := readTopics(b.cfg.DataDir)
	require.NoError(t, err)
	require.NoError(t, b.retain(b.running(), topics, loadAges(b.cfg.DataDir), time.Now()))
	info := b.running().PartitionInfo("events", 0)
	require.EqualValues(t, 40, info.HighWatermark)
	require.Greater(t, info.LogStartOffset, int64(20))
	bases, err := segmentBases(partitionDir(b.cfg.DataDir, "events", 0))
	require.NoError(t, err)
	require.LessOrEqual(t, len(bases), 4, "files are gone: %v", bases)
}

// TestFullDiskIsNotReady names the directory and what happens.
func TestFullDiskIsNotReady(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.MinFree = 1 << 62
	b := startBroker(t, cfg)
	err := b.Ready(t.Context())
	require.ErrorContains(t, err, cfg.DataDir)
	require.ErrorContains(t, err, "records are refused until there is space")
}

// TestSyncWrites serves transactions with every write forced to disk.
func TestSyncWrites(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SyncWrites = true
	b := startBroker(t, cfg)
	createTopic(t, b, "events", 2, nil)
	cl := client(t, b, kgo.TransactionalID("writer"))
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, "events", 0, "a")
	produce(t, cl, "events", 1, "b")
	stageOffset(t, cl, 3)
	require.NoError(t, cl.Flush(t.Context()))
	require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
	cfg.DataDir = crashCopy(t, cfg.DataDir)
	again := startBroker(t, cfg)
	require.ElementsMatch(t, []string{"a", "b"}, committed(t, again, "events"))
	require.EqualValues(t, 3, groupOffset(t, again))
}
