package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
	"github.com/sillage-cdp/sillage/services/ingest/internal/timefix"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// metrics are the instruments of the handler. Labels are tenants, sources and fixed words: nothing that a
// producer can invent.
type metrics struct {
	requests      metric.Int64Counter
	duration      metric.Float64Histogram
	denied        metric.Int64Counter
	limits        metric.Int64Counter
	bodies        metric.Int64Counter
	accepted      metric.Int64Counter
	rejected      metric.Int64Counter
	identifiers   metric.Int64Counter
	times         metric.Int64Counter
	writeDuration metric.Float64Histogram

	// Options made once: making them anew for each request costs more than the counting.
	byStatus    map[statusOf]answeredOptions
	timeOptions [timefix.Count][]metric.AddOption
	written     []metric.RecordOption
	unwritten   []metric.RecordOption
}

// statusOf is an endpoint's path and the status of an answer.
type statusOf struct {
	path   string
	status int
}

type answeredOptions struct {
	count    []metric.AddOption
	duration []metric.RecordOption
}

func newMetrics(provider metric.MeterProvider, inFlight *budget, routes map[string]route) (*metrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/services/ingest")
	m := &metrics{byStatus: make(map[statusOf]answeredOptions)}
	var errs [11]error
	m.requests, errs[0] = meter.Int64Counter("sillage.ingest.requests", metric.WithUnit("{request}"), metric.WithDescription("Requests by call and status."))
	m.denied, errs[1] = meter.Int64Counter("sillage.ingest.requests.denied", metric.WithUnit("{request}"), metric.WithDescription("Requests without a usable write key, by reason."))
	m.limits, errs[9] = meter.Int64Counter("sillage.ingest.requests.limited", metric.WithUnit("{request}"), metric.WithDescription("Requests answered 429, by source, by whose limit it was (source, tenant, identity) and in what (calls, events)."))
	m.duration, errs[10] = meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"), metric.WithDescription("Duration of HTTP server requests."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10))
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
	m.prepare(routes)
	return m, nil
}

func (m *metrics) prepare(routes map[string]route) {
	for at, to := range routes {
		method := http.MethodPost
		if to.pixel {
			method = http.MethodGet
		}
		for _, status := range []int{200, 400, 401, 403, 404, 408, 413, 429, 503} {
			m.byStatus[statusOf{at, status}] = answeredOptions{
				count: []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("call", to.call.String()), attribute.Int("status", status)))},
				duration: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(
					attribute.String("http.request.method", method), attribute.String("http.route", at), attribute.Int("http.response.status_code", status)))},
			}
		}
	}
	for a := range m.timeOptions {
		m.timeOptions[a] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("adjustment", timefix.Adjustment(a).String())))}
	}
	m.written = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.Bool("acknowledged", true)))}
	m.unwritten = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.Bool("acknowledged", false)))}
}

func (m *metrics) request(ctx context.Context, to route, status int, took time.Duration) {
	options, ok := m.byStatus[statusOf{to.path, status}]
	if !ok {
		return
	}
	m.requests.Add(ctx, 1, options.count...)
	m.duration.Record(ctx, took.Seconds(), options.duration...)
}

func (m *metrics) unauthorized(ctx context.Context, reason string) {
	m.denied.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) limited(ctx context.Context, s *source, whose, unit string) {
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

func (m *metrics) outcome(ctx context.Context, s *source, out *wire.Outcome) {
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

func (m *metrics) refused(ctx context.Context, s *source, code wire.Code) {
	m.rejected.Add(ctx, 1, s.attributes, reasonIs(string(code)))
}

func reasonIs(reason string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("reason", reason))
}
