package dispatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"go.opentelemetry.io/otel/trace"

	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

// reportGrace is how long a report may still take once its partition is given up.
const reportGrace = 10 * time.Second

// consume polls until ctx ends.
func (d *Dispatcher) consume(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := d.client.PollRecords(ctx, d.cfg.Outstanding)
		fetches.EachError(func(_ string, p int32, err error) {
			if ctx.Err() == nil {
				d.logger.WarnContext(ctx, "fetching sends failed and is tried again", slog.Int("partition", int(p)), slog.Any("error", err))
			}
		})
		fetches.EachRecord(d.accept)
		d.client.AllowRebalance()
	}
}

// accept starts the delivery of a record, or puts it off if its lane has no room.
func (d *Dispatcher) accept(rec *kgo.Record) {
	d.mu.Lock()
	p := d.partitions[rec.Partition]
	d.mu.Unlock()
	if p == nil {
		return // given up meanwhile: whoever has it now reads the record
	}
	parcel, ok := d.open(p, rec)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(rec.Offset, rec.LeaderEpoch)
	if p.mark.span() >= d.cfg.Span && !p.paused {
		p.paused = true
		d.client.PauseFetchPartitions(map[string][]int32{topics.Sends: {p.number}})
	}
	switch {
	case !ok:
		p.done(rec.Offset)
	case p.admit(parcel.lane, rec.Offset):
		p.jobs.Go(func() { d.handle(p, parcel) })
	default:
		d.putOffN.Add(p.ctx, 1)
	}
}

// open decodes a record; ok is false if nothing is to be delivered for it.
func (d *Dispatcher) open(p *partition, rec *kgo.Record) (_ parcel, ok bool) {
	send := &deliveryv1.Send{}
	if err := send.UnmarshalVT(rec.Value); err != nil {
		// The topic is written by our own stage: such a record is a fault of ours, and nothing can be
		// reported for it. It is logged with its position and does not stop the others.
		d.logger.ErrorContext(p.ctx, "undecodable send skipped", slog.Int("partition", int(rec.Partition)), slog.Int64("offset", rec.Offset), slog.Any("error", err))
		return parcel{}, false
	}
	if send.GetDecision() != deliveryv1.Decision_DECISION_SEND {
		return parcel{}, false
	}
	key := sendKey(send.GetTenant(), send.GetSendId())
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, reported := p.reported[key]; reported {
		delete(p.reported, key)
		return parcel{}, false
	}
	return parcel{offset: rec.Offset, lane: laneKey(send), send: send, rec: rec}, true
}

// handle brings one send to its end.
func (d *Dispatcher) handle(p *partition, c parcel) {
	ctx := d.propagator.Propagator.Extract(p.ctx, kotel.NewRecordCarrier(c.rec))
	if trace.SpanContextFromContext(ctx).IsSampled() {
		var span trace.Span
		ctx, span = d.tracer.Start(ctx, "deliver "+c.send.GetChannel(), trace.WithSpanKind(trace.SpanKindConsumer))
		defer span.End()
	}
	err := d.deliver(ctx, job{ref: reference(p.number, c), lane: c.lane, send: c.send}, func(o *deliveryv1.Outcome) error {
		// What was delivered is reported even if the partition goes: the next owner would deliver it again.
		ctx, cancel := outlive(ctx, reportGrace)
		defer cancel()
		at, err := d.report(ctx, d.client, o)
		if err == nil {
			p.mu.Lock()
			p.reports = max(p.reports, at+1)
			p.mu.Unlock()
		}
		return err
	})
	switch {
	case err == nil:
		d.finish(p, c.lane, c.offset)
	case p.ctx.Err() == nil:
		d.fail(err)
	}
}

// outlive is a context that ends only some time after ctx.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(out, grace)
		cancel()
	})
	return out, func() {
		stop()
		cancel()
	}
}

// report writes an outcome, waits until Kafka has it, and returns its offset.
func (d *Dispatcher) report(ctx context.Context, client *kgo.Client, o *deliveryv1.Outcome) (int64, error) {
	raw, err := o.MarshalVT()
	if err != nil {
		return 0, err
	}
	rec := &kgo.Record{Topic: topics.Reports, Key: topics.Key(o.GetTenant(), o.GetProfileId()), Value: raw}
	if trace.SpanContextFromContext(ctx).IsSampled() {
		d.propagator.Propagator.Inject(ctx, kotel.NewRecordCarrier(rec))
	}
	err = client.ProduceSync(ctx, rec).FirstErr()
	return rec.Offset, err
}

// finish notes the end of a send and lets what waits for its place go on.
func (d *Dispatcher) finish(p *partition, lane string, offset int64) {
	p.mu.Lock()
	p.done(offset)
	more := p.leave(lane)
	resume := p.paused && p.mark.span() <= d.cfg.Span/2
	if resume {
		p.paused = false
		d.client.ResumeFetchPartitions(map[string][]int32{topics.Sends: {p.number}})
	}
	p.mu.Unlock()
	d.fetch(p, lane, more)
}

// fail says that the dispatcher cannot go on.
func (d *Dispatcher) fail(err error) {
	select {
	case d.failed <- err:
	default:
	}
}
