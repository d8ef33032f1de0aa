package producer_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newProducer(t *testing.T, brokers []string, maxBuffered int64) *producer.Producer {
	t.Helper()
	p, err := producer.New(producer.Config{AckTimeout: time.Second, MaxBufferedBytes: maxBuffered},
		kafka.Config{Brokers: brokers}, propagation.TraceContext{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close(context.Background())) }) // the test is over: its context is, too
	require.NoError(t, p.Ping(t.Context()))
	return p
}

func batchOf(t *testing.T, ids ...string) *producer.Batch {
	t.Helper()
	b := new(producer.Batch)
	for _, id := range ids {
		require.NoError(t, b.AddEvent(&eventv1.Event{Tenant: "acme", MessageId: id, Identifiers: []*eventv1.Identifier{{Namespace: "user_id", Value: "u/1:2"}}}))
	}
	return b
}

// What is added is what Kafka holds, whatever the sizes: records of a batch share memory.
func TestBatchKeepsRecordsApart(t *testing.T) {
	brokers := kafkatest.StartEmbedded(t, kfake.SeedTopics(1, topics.Events, topics.Ledger))
	p := newProducer(t, brokers, 32<<20)
	var ids []string
	for i := range 200 {
		ids = append(ids, strings.Repeat(string(rune('a'+i%26)), 1+i*i%5000))
	}
	b := batchOf(t, ids...)
	require.NoError(t, b.AddRefusal(&ledgerv1.LedgerEntry{Tenant: "acme", Source: "web", Reason: "no_event"}))
	require.NoError(t, p.Write(t.Context(), b))
	require.Zero(t, p.Buffered())
	require.NoError(t, p.Write(t.Context(), new(producer.Batch)), "an empty batch")

	var got []string
	for _, r := range consume(t, brokers, topics.Events, len(ids)) {
		ev := new(eventv1.Event)
		require.NoError(t, ev.UnmarshalVT(r.Value))
		require.Equal(t, "acme/user_id:u/1:2", string(r.Key))
		require.Empty(t, r.Headers)
		got = append(got, ev.GetMessageId())
	}
	require.Equal(t, ids, got)
	require.Equal(t, "acme/web", string(consume(t, brokers, topics.Ledger, 1)[0].Key))
}

func consume(t *testing.T, brokers []string, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	var out []*kgo.Record
	for len(out) < n {
		fetches := client.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		out = append(out, fetches.Records()...)
	}
	return out
}

func TestTraceTravelsOnlyWhenSampled(t *testing.T) {
	brokers := kafkatest.StartEmbedded(t, kfake.SeedTopics(1, topics.Events))
	p := newProducer(t, brokers, 32<<20)
	span := trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}
	require.NoError(t, p.Write(trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(span)), batchOf(t, "unsampled")))
	span.TraceFlags = trace.FlagsSampled
	require.NoError(t, p.Write(trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(span)), batchOf(t, "sampled")))
	records := consume(t, brokers, topics.Events, 2)
	require.Empty(t, records[0].Headers)
	require.Equal(t, []kgo.RecordHeader{{Key: "traceparent", Value: []byte("00-01000000000000000000000000000000-0200000000000000-01")}}, records[1].Headers)
}

// While the broker is silent, batches wait up to the bound and are refused whole beyond it; afterwards
// nothing is held any more and what was acknowledged is there, in order.
func TestBufferIsBounded(t *testing.T) {
	broker := kafkatest.StartCluster(t, kfake.SeedTopics(1, topics.Events))
	p := newProducer(t, broker.ListenAddrs(), 4096)
	require.NoError(t, p.Write(t.Context(), batchOf(t, "first")))
	var silent atomic.Bool
	silent.Store(true)
	broker.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		return nil, nil, silent.Load()
	})
	require.ErrorIs(t, p.Write(t.Context(), batchOf(t, "silent")), producer.ErrUnavailable)
	large := batchOf(t, strings.Repeat("x", 4096))
	require.ErrorContains(t, p.Write(t.Context(), large), "4096 bytes wait")
	require.LessOrEqual(t, p.Buffered(), int64(4096))
	silent.Store(false)
	require.Eventually(t, func() bool { return p.Write(t.Context(), batchOf(t, "last")) == nil }, 15*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return p.Buffered() == 0 }, 10*time.Second, time.Millisecond)
	var got []string
	for _, r := range consume(t, broker.ListenAddrs(), topics.Events, 2) {
		ev := new(eventv1.Event)
		require.NoError(t, ev.UnmarshalVT(r.Value))
		got = append(got, ev.GetMessageId())
	}
	require.Equal(t, "first", got[0])
	require.True(t, slices.Contains(got, "last") || slices.Contains(got, "silent"))
}
