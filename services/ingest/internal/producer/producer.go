// Package producer writes events and refusals to Kafka and says when Kafka has them.
//
// It promises: Write returns nil only after every record of the batch is acknowledged by all in-sync
// replicas; within the acknowledgement time-out it returns in any case; the events of one identity keep
// the order in which they were added, within a batch and between batches that follow one another; what is
// buffered for a silent broker is bounded, and a batch that finds no room is refused whole, before its
// first record, so that a later event never overtakes an earlier one.
//
// Its limit: after ErrUnavailable some records may be in Kafka, or get there later. The caller's client
// sends the batch again with the same message ids and identity drops what it has seen.
//
// TestBufferIsBounded and, in package app, TestAnswerComesAfterTheAcknowledgement, TestSilentBroker and
// TestOrderOfOneIdentity catch the loss of the promises.
package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
)

// ErrUnavailable means that Kafka does not take writes now, or not all of these: answer "try later".
var ErrUnavailable = errors.New("writing to Kafka is not possible now")

// Config bounds the producer.
type Config struct {
	// AckTimeout is how long Write waits for Kafka.
	AckTimeout time.Duration
	// MaxBufferedBytes bounds what waits for Kafka's acknowledgement, over all requests.
	MaxBufferedBytes int64
	// Linger is how long a record may wait for others; 0 sends at once.
	Linger time.Duration
}

// recordOverhead is what a buffered record takes besides its key and value.
const recordOverhead = 256

// Producer is safe for concurrent use.
type Producer struct {
	cfg        Config
	client     *kgo.Client
	propagator propagation.TextMapPropagator
	buffered   atomic.Int64
	waits      sync.Pool // of *wait, each of a batch that is all acknowledged
}

// New configures a producer. It connects with the first use; Close releases it.
func New(cfg Config, brokers kafka.Config, propagator propagation.TextMapPropagator, logger *slog.Logger) (*Producer, error) {
	opts := append(brokers.ProducerOptions(logger),
		// The bound is ours (see Write): the client's own would refuse single records in the middle of a
		// batch. Its limits stand above ours and are never met.
		kgo.MaxBufferedBytes(int(2*cfg.MaxBufferedBytes)),
		kgo.MaxBufferedRecords(int(cfg.MaxBufferedBytes/recordOverhead)+1),
		// Nobody waits longer than AckTimeout. A record that was never sent by then is dropped, which
		// makes room; one that was sent stays until its fate is known, as idempotence demands.
		kgo.RecordDeliveryTimeout(cfg.AckTimeout),
		// A broker that is silent is noticed and left within seconds, so that service resumes soon after
		// it or its successor answers again. A late answer costs a retry, which idempotence makes harmless.
		kgo.ProduceRequestTimeout(2*time.Second),
		kgo.RequestTimeoutOverhead(2*time.Second),
		kgo.RetryBackoffFn(backoff),
		kgo.ProducerLinger(cfg.Linger),
	)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka producer: %w", err)
	}
	return &Producer{cfg: cfg, client: client, propagator: propagator}, nil
}

// backoff doubles from 50 ms to a second: the first retry after a leader moved should be quick, and after
// half a minute of silence the next try must not be far.
func backoff(fails int) time.Duration {
	return min(50*time.Millisecond<<min(fails, 10), time.Second)
}

// Ping reaches a broker and loads what the client needs to know of the topics that it writes.
func (p *Producer) Ping(ctx context.Context) error {
	if err := p.client.Ping(ctx); err != nil {
		return fmt.Errorf("reaching Kafka: %w", err)
	}
	return nil
}

// Buffered is how many bytes wait for Kafka's acknowledgement.
func (p *Producer) Buffered() int64 { return p.buffered.Load() }

// Close waits for what is buffered within ctx and releases the connections.
func (p *Producer) Close(ctx context.Context) error {
	err := p.client.Flush(ctx)
	p.client.Close()
	if err != nil {
		return fmt.Errorf("flushing the Kafka producer: %w", err)
	}
	return nil
}

// Write sends a batch and waits for the acknowledgement of every record. The batch must not be used
// afterwards. The context carries the trace; its end does not cut the wait short, since the records are on
// their way in any case.
func (p *Producer) Write(ctx context.Context, b *Batch) error {
	if len(b.records) == 0 {
		return nil
	}
	if p.buffered.Add(b.bytes) > p.cfg.MaxBufferedBytes {
		p.buffered.Add(-b.bytes)
		return fmt.Errorf("%w: %d bytes wait for it already", ErrUnavailable, p.cfg.MaxBufferedBytes)
	}
	// The records outlive the request if Kafka is slow: they get a context without its end, and with its
	// trace only if that is recorded.
	detached, headers := context.Background(), []kgo.RecordHeader(nil)
	if trace.SpanContextFromContext(ctx).IsSampled() {
		detached, headers = context.WithoutCancel(ctx), p.headers(ctx)
	}
	w := p.wait(b)
	for i := range b.records {
		b.records[i].Headers = headers
		p.client.Produce(detached, &b.records[i], w.promise)
	}
	select {
	case <-w.done:
		w.timer.Stop()
		err := w.err
		p.waits.Put(w)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil
	case <-w.timer.C: // the records still have the wait: it is not used again
		return fmt.Errorf("%w: no acknowledgement within %s", ErrUnavailable, p.cfg.AckTimeout)
	}
}

// headers carries the trace.
func (p *Producer) headers(ctx context.Context) []kgo.RecordHeader {
	carrier := propagation.MapCarrier{}
	p.propagator.Inject(ctx, carrier)
	headers := make([]kgo.RecordHeader, 0, len(carrier))
	for key, value := range carrier {
		headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	return headers
}

// wait counts the acknowledgements of one batch.
type wait struct {
	producer *Producer
	promise  func(*kgo.Record, error) // acknowledged, made once
	timer    *time.Timer
	done     chan struct{} // gets a value after the last acknowledgement
	bytes    int64
	pending  atomic.Int64
	mu       sync.Mutex // guards err until done
	err      error
}

// wait is one that nobody uses, for a batch.
func (p *Producer) wait(b *Batch) *wait {
	w, _ := p.waits.Get().(*wait)
	if w == nil {
		w = &wait{producer: p, timer: time.NewTimer(p.cfg.AckTimeout), done: make(chan struct{}, 1)}
		w.promise = w.acknowledged
	} else {
		w.timer.Reset(p.cfg.AckTimeout)
	}
	w.bytes, w.err = b.bytes, nil
	w.pending.Store(int64(len(b.records)))
	return w
}

func (w *wait) acknowledged(_ *kgo.Record, err error) {
	if err != nil {
		w.mu.Lock()
		if w.err == nil {
			w.err = err
		}
		w.mu.Unlock()
	}
	if w.pending.Add(-1) == 0 {
		w.producer.buffered.Add(-w.bytes)
		w.done <- struct{}{}
	}
}

// Batch gathers the records of one request, encoded. The zero value is ready.
type Batch struct {
	records []kgo.Record
	arena   []byte
	bytes   int64
}

// arenaChunk is the least that a batch takes at once for several records.
const arenaChunk = 16 << 10

// Reserve makes room for n records.
func (b *Batch) Reserve(n int) {
	if cap(b.records) < n {
		b.records = make([]kgo.Record, 0, n)
	}
}

// Bytes is how much the batch will take while it waits for Kafka.
func (b *Batch) Bytes() int64 { return b.bytes }

// AddEvent encodes an event under the key of its anchor, which must be there.
func (b *Batch) AddEvent(ev *eventv1.Event) error {
	anchor := ev.GetIdentifiers()[0]
	size, keySize := ev.SizeVT(), len(ev.Tenant)+len(anchor.Namespace)+len(anchor.Value)+2
	space := b.take(size + keySize)
	if _, err := ev.MarshalToSizedBufferVT(space[:size]); err != nil {
		return fmt.Errorf("encoding event: %w", err)
	}
	// The form of topics.Key(tenant, namespace:value), written in place.
	key := append(append(append(append(append(space[size:size], ev.Tenant...), '/'), anchor.Namespace...), ':'), anchor.Value...)
	b.add(topics.Events, key, space[:size:size])
	return nil
}

// AddRefusal encodes a ledger entry under the key of its source.
func (b *Batch) AddRefusal(entry *ledgerv1.LedgerEntry) error {
	value, err := entry.MarshalVT()
	if err != nil {
		return fmt.Errorf("encoding ledger entry: %w", err)
	}
	b.add(topics.Ledger, topics.Key(entry.Tenant, entry.Source), value)
	return nil
}

// AddViolation encodes what is not as planned under the key of its source.
func (b *Batch) AddViolation(v *planv1.PlanViolation) error {
	value, err := v.MarshalVT()
	if err != nil {
		return fmt.Errorf("encoding plan violation: %w", err)
	}
	b.add(topics.Violations, topics.Key(v.Tenant, v.Source), value)
	return nil
}

// AddQuarantined encodes an event that is set aside, with the reason, under the key of its source.
func (b *Batch) AddQuarantined(ev *eventv1.Event, v *planv1.PlanViolation) error {
	value, err := (&planv1.QuarantinedEvent{Event: ev, Violation: v}).MarshalVT()
	if err != nil {
		return fmt.Errorf("encoding quarantined event: %w", err)
	}
	b.add(topics.Quarantine, topics.Key(ev.Tenant, ev.Source), value)
	return nil
}

func (b *Batch) add(topic string, key, value []byte) {
	b.records = append(b.records, kgo.Record{Topic: topic, Key: key, Value: value})
	b.bytes += int64(len(key) + len(value) + recordOverhead)
}

// take cuts n bytes from the arena. The first record gets its own size, so that a single event wastes
// nothing.
func (b *Batch) take(n int) []byte {
	if len(b.arena) < n {
		size := n
		if len(b.records) > 0 {
			size = max(n, arenaChunk)
		}
		b.arena = make([]byte, size)
	}
	out := b.arena[:n:n]
	b.arena = b.arena[n:]
	return out
}
