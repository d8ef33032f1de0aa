package intake

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
	"github.com/sillage-cdp/sillage/services/ingest/internal/timefix"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// metrics are the instruments of what is taken in. Labels are tenants, sources and fixed words: nothing that a
// producer can invent.
type metrics struct {
	denied        metric.Int64Counter
	limits        metric.Int64Counter
	bodies        metric.Int64Counter
	accepted      metric.Int64Counter
	rejected      metric.Int64Counter
	identifiers   metric.Int64Counter
	times         metric.Int64Counter
	writeDuration metric.Float64Histogram

	// Options made once: making them anew for each request costs more than the counting.
	timeOptions [timefix.Count][]metric.AddOption
	written     []metric.RecordOption
	unwritten   []metric.RecordOption
}

func newMetrics(provider metric.MeterProvider, inFlight *Budget) (*metrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/services/ingest")
	m := &metrics{}
	var errs [9]error
	m.denied, errs[1] = meter.Int64Counter("sillage.ingest.requests.denied", metric.WithUnit("{request}"), metric.WithDescription("Requests without a usable write key, by reason."))
	m.limits, errs[0] = meter.Int64Counter("sillage.ingest.requests.limited", metric.WithUnit("{request}"), metric.WithDescription("Requests answered 429, by source, by whose limit it was (source, tenant, identity) and in what (calls, events)."))
	m.bodies, errs[2] = meter.Int64Counter("sillage.ingest.body.size", metric.WithUnit("By"), metric.WithDescription("Bytes of bodies, inflated."))
	m.accepted, errs[3] = meter.Int64Counter("sillage.ingest.events.accepted", metric.WithUnit("{event}"), metric.WithDescription("Events that Kafka has acknowledged."))
	m.rejected, errs[4] = meter.Int64Counter("sillage.ingest.events.rejected", metric.WithUnit("{event}"), metric.WithDescription("Events refused, by reason."))
	m.identifiers, errs[5] = meter.Int64Counter("sillage.ingest.identifiers.dropped", metric.WithUnit("{identifier}"), metric.WithDescription("Identifiers dropped from events that were kept, by reason."))
	m.times, errs[6] = meter.Int64Counter("sillage.ingest.events.timestamps", metric.WithUnit("{event}"), metric.WithDescription("Events by what was done to their time."))
	m.writeDuration, errs[7] = meter.Float64Histogram("sillage.ingest.write.duration", metric.WithUnit("s"), metric.WithDescription("Time until Kafka acknowledged a request's records, or did not."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 5))
	_, errs[8] = meter.Int64ObservableGauge("sillage.ingest.in_flight.size", metric.WithUnit("By"), metric.WithDescription("Bytes of bodies and events in flight."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(inFlight.used.Load())
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	m.prepare()
	return m, nil
}

func (m *metrics) prepare() {
	for a := range m.timeOptions {
		m.timeOptions[a] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("adjustment", timefix.Adjustment(a).String())))}
	}
	m.written = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.Bool("acknowledged", true)))}
	m.unwritten = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.Bool("acknowledged", false)))}
}

func (m *metrics) unauthorized(ctx context.Context, reason string) {
	m.denied.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) limited(ctx context.Context, s *Source, whose, unit string) {
	m.limits.Add(ctx, 1, s.attributes, metric.WithAttributes(attribute.String("limit", whose), attribute.String("unit", unit)))
}

func (m *metrics) body(ctx context.Context, size int) { m.bodies.Add(ctx, int64(size)) }

func (m *metrics) write(ctx context.Context, took time.Duration, err error) {
	option := m.written
	if err != nil {
		option = m.unwritten
	}
	m.writeDuration.Record(ctx, took.Seconds(), option...)
}

func (m *metrics) outcome(ctx context.Context, s *Source, out *wire.Outcome) {
	if out.Accepted > 0 {
		m.accepted.Add(ctx, int64(out.Accepted), s.accepted...)
	}
	for a, n := range out.Times {
		if n > 0 {
			m.times.Add(ctx, int64(n), m.timeOptions[a]...)
		}
	}
	for reason, n := range out.Identifiers {
		if n > 0 {
			m.identifiers.Add(ctx, int64(n), s.attributes, reasonIs(identifier.Refusal(reason).String()))
		}
	}
	if out.SelfLinks > 0 {
		m.identifiers.Add(ctx, int64(out.SelfLinks), s.attributes, reasonIs("same_as_user_id"))
	}
	for _, r := range out.Rejections {
		m.refused(ctx, s, r.Code)
	}
}

func (m *metrics) refused(ctx context.Context, s *Source, code wire.Code) {
	m.rejected.Add(ctx, 1, s.attributes, reasonIs(string(code)))
}

func reasonIs(reason string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("reason", reason))
}
