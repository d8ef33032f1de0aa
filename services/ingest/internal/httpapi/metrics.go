package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the instruments of the handler. Labels are fixed words.
type metrics struct {
	requests metric.Int64Counter
	duration metric.Float64Histogram
	// byStatus are options made once: making them anew for each request costs more than the counting.
	byStatus map[statusOf]answeredOptions
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

func newMetrics(provider metric.MeterProvider, routes map[string]route) (*metrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/services/ingest")
	m := &metrics{byStatus: make(map[statusOf]answeredOptions)}
	var errs [2]error
	m.requests, errs[0] = meter.Int64Counter("sillage.ingest.requests", metric.WithUnit("{request}"), metric.WithDescription("Requests by call and status."))
	m.duration, errs[1] = meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"), metric.WithDescription("Duration of HTTP server requests."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10))
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
}

func (m *metrics) request(ctx context.Context, to route, status int, took time.Duration) {
	options, ok := m.byStatus[statusOf{to.path, status}]
	if !ok {
		return
	}
	m.requests.Add(ctx, 1, options.count...)
	m.duration.Record(ctx, took.Seconds(), options.duration...)
}
