package kafka

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The broker with its notes, and bare, to see what they cost.
func eachBroker(b *testing.B, bench func(b *testing.B, broker *Broker)) {
	for name, bare := range map[string]bool{"notes": false, "bare": true} {
		b.Run(name, func(b *testing.B) {
			cfg := Config{DataDir: b.TempDir(), Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), bare: bare}
			bench(b, startBroker(b, cfg))
		})
	}
}

// BenchmarkProduce counts acknowledged records of 400 bytes.
func BenchmarkProduce(b *testing.B) {
	eachBroker(b, func(b *testing.B, broker *Broker) {
		createTopic(b, broker, "events", 4, nil)
		cl := client(b, broker, kgo.MaxBufferedRecords(50_000))
		value := []byte(strings.Repeat("v", 400))
		b.SetBytes(int64(len(value)))
		b.ResetTimer()
		for i := range b.N {
			cl.Produce(b.Context(), &kgo.Record{Topic: "events", Partition: int32(i % 4), Value: value}, nil)
		}
		require.NoError(b, cl.Flush(b.Context()))
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

// BenchmarkExactlyOnce counts input records that a transactional loop turns
// into two outputs each, about 1000 records a transaction.
func BenchmarkExactlyOnce(b *testing.B) {
	eachBroker(b, func(b *testing.B, broker *Broker) {
		w := newWorkload(broker.Addrs(), 0)
		require.NoError(b, w.createTopics(b.Context()))
		cl := client(b, broker)
		value := make([]byte, 400)
		for i := range b.N {
			cl.Produce(b.Context(), &kgo.Record{Topic: inTopic, Partition: int32(i % inParts), Value: value}, nil)
		}
		require.NoError(b, cl.Flush(b.Context()))
		session, err := kgo.NewGroupTransactSession(w.quick(
			kgo.TransactionalID("bench"), kgo.ConsumerGroup("bench"), kgo.ConsumeTopics(inTopic),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		require.NoError(b, err)
		defer session.Close()
		b.ResetTimer()
		for done := 0; done < b.N; {
			done += transactOnce(b, session)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

func transactOnce(b *testing.B, session *kgo.GroupTransactSession) int {
	ctx := context.Background()
	fetches := session.PollRecords(ctx, 1000)
	require.NoError(b, session.Begin())
	var failed atomic.Bool
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Store(true)
		}
	}
	fetches.EachRecord(func(r *kgo.Record) {
		session.Produce(ctx, &kgo.Record{Topic: outTopic, Partition: int32(r.Offset % outParts), Value: r.Value}, promise)
		session.Produce(ctx, &kgo.Record{Topic: logTopic, Partition: r.Partition, Value: r.Value}, promise)
	})
	require.NoError(b, session.Client().Flush(ctx))
	committed, err := session.End(ctx, kgo.TransactionEndTry(!failed.Load()))
	require.NoError(b, err)
	require.True(b, committed)
	return fetches.NumRecords()
}

// BenchmarkNotes is what a transaction pays: one note of its offsets in four
// partitions and one of its commit.
func BenchmarkNotes(b *testing.B) {
	dir := b.TempDir()
	l, err := openNotes(dir, newNotes(), false)
	require.NoError(b, err)
	h := &hooks{dir: dir, notes: l, now: time.Now, failed: func(err error) { require.NoError(b, err) }}
	offsets := kmsg.NewPtrTxnOffsetCommitRequest()
	offsets.TransactionalID, offsets.Group = "writer", "readers"
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	for p := range int32(4) {
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition = p
		topic.Partitions = append(topic.Partitions, part)
	}
	offsets.Topics = append(offsets.Topics, topic)
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.Commit, end.Version = "writer", true, 5
	b.ReportAllocs()
	for b.Loop() {
		require.Nil(b, h.stage(offsets))
		require.Nil(b, h.end(end))
	}
	require.NoError(b, l.close())
}
