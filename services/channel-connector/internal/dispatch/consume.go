package dispatch

import (
	"context"
	"log/slog"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"go.opentelemetry.io/otel/trace"

	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

// partition is a partition that this instance owns: its deliveries live as long as it does.
type partition struct {
	ctx    context.Context
	cancel context.CancelFunc
	jobs   sync.WaitGroup

	mu     sync.Mutex // guards mark and paused
	mark   *watermark
	paused bool
}

// consume polls until ctx ends.
func (d *Dispatcher) consume(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := d.client.PollRecords(ctx, d.cfg.Outstanding)
		fetches.EachError(func(_ string, p int32, err error) {
			if ctx.Err() == nil {
				d.logger.WarnContext(ctx, "fetching sends failed and is tried again", slog.Int("partition", int(p)), slog.Any("error", err))
			}
		})
		fetches.EachRecord(func(rec *kgo.Record) { d.accept(rec) })
		d.client.AllowRebalance()
	}
}

// accept starts the delivery of a record.
func (d *Dispatcher) accept(rec *kgo.Record) {
	p := d.owned(rec.Partition)
	p.mu.Lock()
	p.mark.add(rec.Offset)
	if p.mark.pending >= d.cfg.Outstanding && !p.paused {
		p.paused = true
		d.client.PauseFetchPartitions(map[string][]int32{topics.Sends: {rec.Partition}})
	}
	p.mu.Unlock()
	p.jobs.Go(func() { d.handle(p, rec) })
}

func (d *Dispatcher) owned(number int32) *partition {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.partitions[number]
	if p == nil {
		ctx, cancel := context.WithCancel(context.Background())
		p = &partition{ctx: ctx, cancel: cancel, mark: newWatermark()}
		d.partitions[number] = p
	}
	return p
}

// handle brings one record to its end and moves the offset that may be committed.
func (d *Dispatcher) handle(p *partition, rec *kgo.Record) {
	var send deliveryv1.Send
	if err := send.UnmarshalVT(rec.Value); err != nil {
		// The topic is written by our own stage: such a record is a fault of ours, and nothing can be
		// reported for it. It is logged with its position and does not stop the others.
		d.logger.ErrorContext(p.ctx, "undecodable send skipped", slog.Int("partition", int(rec.Partition)), slog.Int64("offset", rec.Offset), slog.Any("error", err))
		d.finish(p, rec)
		return
	}
	if send.GetDecision() != deliveryv1.Decision_DECISION_SEND {
		d.finish(p, rec)
		return
	}
	ctx := d.propagator.Propagator.Extract(p.ctx, kotel.NewRecordCarrier(rec))
	if trace.SpanContextFromContext(ctx).IsSampled() {
		var span trace.Span
		ctx, span = d.tracer.Start(ctx, "deliver "+send.GetChannel(), trace.WithSpanKind(trace.SpanKindConsumer))
		defer span.End()
	}
	result, err := d.deliver(ctx, job{partition: rec.Partition, offset: rec.Offset, send: &send})
	if err == nil {
		err = d.report(ctx, result)
	}
	if err == nil {
		d.finish(p, rec)
		return
	}
	if p.ctx.Err() == nil {
		d.fail(err)
	}
}

// report writes an outcome and waits until Kafka has it.
func (d *Dispatcher) report(ctx context.Context, o *deliveryv1.Outcome) error {
	raw, err := o.MarshalVT()
	if err != nil {
		return err
	}
	rec := &kgo.Record{Topic: topics.Reports, Key: topics.Key(o.GetTenant(), o.GetProfileId()), Value: raw}
	if trace.SpanContextFromContext(ctx).IsSampled() {
		d.propagator.Propagator.Inject(ctx, kotel.NewRecordCarrier(rec))
	}
	return d.client.ProduceSync(ctx, rec).FirstErr()
}

// finish moves the watermark and lets the fetch go on.
func (d *Dispatcher) finish(p *partition, rec *kgo.Record) {
	p.mu.Lock()
	commit, moved := p.mark.finish(rec.Offset)
	resume := p.paused && p.mark.pending <= d.cfg.Outstanding/2
	if resume {
		p.paused = false
	}
	if moved {
		d.client.MarkCommitOffsets(map[string]map[int32]kgo.EpochOffset{
			rec.Topic: {rec.Partition: {Epoch: rec.LeaderEpoch, Offset: commit}},
		})
	}
	p.mu.Unlock()
	if resume {
		d.client.ResumeFetchPartitions(map[string][]int32{rec.Topic: {rec.Partition}})
	}
	if moved && commit%256 == 0 {
		// Entries that are not dropped now are dropped the next time.
		_ = d.journal.Forget(rec.Partition, commit-d.forgetLag())
	}
}

// forgetLag keeps the entries of offsets that may not be committed yet: marks are committed once a second.
func (d *Dispatcher) forgetLag() int64 { return int64(4 * d.cfg.Outstanding) }

// fail says that the dispatcher cannot go on.
func (d *Dispatcher) fail(err error) {
	select {
	case d.failed <- err:
	default:
	}
}

// revoked ends the deliveries of partitions that go to another member and commits what was reported.
func (d *Dispatcher) revoked(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
	d.release(gone[topics.Sends])
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		d.logger.WarnContext(ctx, "committing on revoke failed; the next owner delivers under the same idempotency keys what had not been committed", slog.Any("error", err))
	}
}

// lost ends the deliveries of partitions that another member has already.
func (d *Dispatcher) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	d.release(gone[topics.Sends])
}

func (d *Dispatcher) all() []int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	numbers := make([]int32, 0, len(d.partitions))
	for n := range d.partitions {
		numbers = append(numbers, n)
	}
	return numbers
}

// release interrupts what waits and waits for attempts under way.
func (d *Dispatcher) release(numbers []int32) {
	var released []*partition
	d.mu.Lock()
	for _, n := range numbers {
		if p := d.partitions[n]; p != nil {
			released = append(released, p)
			delete(d.partitions, n)
		}
	}
	d.mu.Unlock()
	for _, p := range released {
		p.cancel()
	}
	for _, p := range released {
		p.jobs.Wait()
	}
}
