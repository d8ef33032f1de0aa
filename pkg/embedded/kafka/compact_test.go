package kafka

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestCompaction writes a changelog in transactions, some aborted, one open over
// the compaction, and compares what a consumer restores with what was written.
func TestCompaction(t *testing.T) {
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.SnappyCompression()} {
		t.Run(fmt.Sprint(codec), func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			cfg.SegmentBytes = 8192
			b := startBroker(t, cfg)
			createTopic(t, b, "changelog", 1, map[string]*string{
				"cleanup.policy": new("compact"), "delete.retention.ms": new("0"),
			})
			cl := client(t, b, kgo.TransactionalID("writer"), kgo.ProducerBatchCompression(codec))
			want := make(map[string]string)
			for i := range 60 {
				writeBatch(t, cl, want, i, i%5 != 3)
			}
			// This one is open while the log is compacted. Its first record
			// deletes a key, which must survive if the transaction is aborted.
			require.NoError(t, cl.BeginTransaction())
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "changelog", Key: []byte("stays")}).FirstErr())

			before := b.running().PartitionInfo("changelog", 0)
			topics, err := readTopics(cfg.DataDir)
			require.NoError(t, err)
			old := b.running()
			require.NoError(t, b.compact(t.Context(), topics, time.Now().Add(time.Hour)))
			require.NotSame(t, old, b.running(), "the broker was reopened on the compacted log")
			after := b.running().PartitionInfo("changelog", 0)
			require.Equal(t, before.HighWatermark, after.HighWatermark)
			require.Equal(t, before.LastStableOffset, after.LastStableOffset)
			require.Less(t, after.NumBytes, before.NumBytes/2)

			// The transaction goes on over the reopening and is aborted.
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "changelog", Key: []byte("aborted"), Value: []byte("x")}).FirstErr())
			require.NoError(t, cl.Flush(t.Context()))
			require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryAbort))
			require.Equal(t, want, restore(t, b))
			writeBatch(t, cl, want, 100, true)
			writeBatch(t, cl, want, 101, false)
			require.Equal(t, want, restore(t, b))

			// Nothing is due now; a crash finds the same.
			old = b.running()
			require.NoError(t, b.compact(t.Context(), topics, time.Now()))
			require.Same(t, old, b.running())
			crashed := startBroker(t, testConfig(crashCopy(t, cfg.DataDir)))
			require.Equal(t, want, restore(t, crashed))
		})
	}
}

// writeBatch writes a transaction of a few records of hot keys, one key of its
// own, and a deletion.
func writeBatch(t *testing.T, cl *kgo.Client, want map[string]string, i int, commit bool) {
	t.Helper()
	set := map[string]string{
		"stays":                  "written once more",
		fmt.Sprint("hot-", i%3):  strings.Repeat(fmt.Sprint(i, " "), 100),
		fmt.Sprint("own-", i/10): fmt.Sprint(i),
		fmt.Sprint("gone-", i):   "soon",
	}
	require.NoError(t, cl.BeginTransaction())
	for k, v := range set {
		cl.Produce(t.Context(), &kgo.Record{Topic: "changelog", Key: []byte(k), Value: []byte(v)}, nil)
	}
	require.NoError(t, cl.Flush(t.Context()))
	cl.Produce(t.Context(), &kgo.Record{Topic: "changelog", Key: fmt.Append(nil, "gone-", i)}, nil)
	require.NoError(t, cl.Flush(t.Context()))
	require.NoError(t, cl.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)))
	if commit {
		delete(set, fmt.Sprint("gone-", i))
		maps.Copy(want, set)
	}
}

// restore reads a changelog as a service does at its start.
func restore(t *testing.T, b *Broker) map[string]string {
	t.Helper()
	ends, err := kadm.NewClient(client(t, b)).ListCommittedOffsets(t.Context(), "changelog")
	require.NoError(t, err)
	state := make(map[string]string)
	require.NoError(t, (&oracle{brokers: b.Addrs(), settle: 300 * time.Millisecond}).read(t.Context(), "changelog", ends, func(r *kgo.Record) {
		if r.Value == nil {
			delete(state, string(r.Key))
		} else {
			state[string(r.Key)] = string(r.Value)
		}
	}))
	return state
}

// TestCompactionUnderLoad reopens the broker again and again under the
// exactly-once load; nothing is lost or doubled.
func TestCompactionUnderLoad(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SegmentBytes = 64 << 10
	b := startBroker(t, cfg)
	var acked ledger
	w := newWorkload(b.Addrs(), 0)
	w.acked = acked.add
	// The changelog's records have no keys here, so none may go.
	require.NoError(t, w.createTopics(t.Context()))
	compacted := new("compact")
	_, err := kadm.NewClient(client(t, b)).AlterTopicConfigs(t.Context(),
		[]kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: compacted}}, logTopic)
	require.NoError(t, err)
	require.NoError(t, w.start())
	reopened := 0
	for range 8 {
		before := w.commits.Load()
		waitFor(t, "no transaction was committed", func() bool { return w.commits.Load() > before+20 })
		topics, err := readTopics(cfg.DataDir)
		require.NoError(t, err)
		old := b.running()
		require.NoError(t, b.compact(t.Context(), topics, time.Now()))
		if old != b.running() {
			reopened++
		}
	}
	w.stop()
	require.NotZero(t, reopened)
	// Transactions that were open when their clients went are aborted.
	for i := range 2 {
		fence(t, b, fmt.Sprintf("transformer-%d", i))
	}
	require.NoError(t, newOracle(b.Addr(), false).check(t.Context(), acked.snapshot()))
	t.Logf("reopened %d times under load, %d transactions", reopened, w.commits.Load())
}

// fence ends whatever a transactional id has open.
func fence(t *testing.T, b *Broker, txid string) {
	t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &txid, 10_000
	resp, err := req.RequestWith(t.Context(), client(t, b))
	require.NoError(t, err)
	require.Zero(t, resp.ErrorCode)
}

// TestCompactionStops with the broker.
func TestCompactionStops(t *testing.T) {
	b := startBroker(t, testConfig(t.TempDir()))
	createTopic(t, b, "changelog", 1, map[string]*string{"cleanup.policy": new("compact")})
	topics, err := readTopics(b.cfg.DataDir)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.compact(ctx, topics, time.Now()); err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, b.Stop(t.Context()))
	require.NoError(t, b.reopen(nil), "a stopped broker is not reopened")
	require.Error(t, b.Ready(t.Context()))
}
