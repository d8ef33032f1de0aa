// Package sdk runs the OpenTelemetry SDK behind telemetry.Providers: metrics for Prometheus on the
// operations port, traces to an OTLP endpoint if one is set.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// Config says where traces go.
type Config struct {
	// OTLPEndpoint is `host:port` of an OTLP/gRPC collector; empty: no traces are recorded.
	OTLPEndpoint string `koanf:"otlp_endpoint"`
	// OTLPInsecure sends without TLS, for a collector on the same machine or pod.
	OTLPInsecure bool `koanf:"otlp_insecure"`
	// SampleRatio is the share of requests that are traced, 0 to 1. A caller's own sampled trace is always followed.
	SampleRatio float64 `koanf:"sample_ratio"`
}

// NewDefaultConfig records no traces until an endpoint is set, then one in a hundred.
func NewDefaultConfig() Config { return Config{SampleRatio: 0.01} }

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	if c.SampleRatio < 0 || c.SampleRatio > 1 {
		return fmt.Errorf("telemetry.sample_ratio: %v is not between 0 and 1", c.SampleRatio)
	}
	return nil
}

// SDK is a running SDK.
type SDK struct {
	providers telemetry.Providers
	metrics   http.Handler
	shutdown  []func(context.Context) error
}

// New starts the SDK of a service. Extra span processors are for tests.
func New(ctx context.Context, cfg Config, service, version string, processors ...trace.SpanProcessor) (*SDK, error) {
	res := resource.NewWithAttributes(semconv.SchemaURL, semconv.ServiceName(service), semconv.ServiceVersion(version))
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry))
	if err != nil {
		return nil, fmt.Errorf("making the Prometheus exporter: %w", err)
	}
	meters := metric.NewMeterProvider(metric.WithResource(res), metric.WithReader(exporter))
	tracers, err := newTracers(ctx, cfg, res, processors)
	if err != nil {
		return nil, err
	}
	return &SDK{
		providers: telemetry.Providers{Tracer: tracers, Meter: meters, Propagator: propagation.TraceContext{}},
		metrics:   promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		shutdown:  []func(context.Context) error{tracers.Shutdown, meters.Shutdown},
	}, nil
}

func newTracers(ctx context.Context, cfg Config, res *resource.Resource, processors []trace.SpanProcessor) (*trace.TracerProvider, error) {
	ratio := cfg.SampleRatio
	if cfg.OTLPEndpoint == "" && len(processors) == 0 {
		ratio = 0
	}
	opts := []trace.TracerProviderOption{
		trace.WithResource(res),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(ratio))),
	}
	for _, p := range processors {
		opts = append(opts, trace.WithSpanProcessor(p))
	}
	if cfg.OTLPEndpoint != "" {
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(cfg.OTLPEndpoint)}
		if cfg.OTLPInsecure {
			options = append(options, otlptracegrpc.WithInsecure())
		}
		exporter, err := otlptracegrpc.New(ctx, options...)
		if err != nil {
			return nil, fmt.Errorf("making the OTLP exporter for %s: %w", cfg.OTLPEndpoint, err)
		}
		opts = append(opts, trace.WithBatcher(exporter))
	}
	return trace.NewTracerProvider(opts...), nil
}

// Providers are what components are given.
func (s *SDK) Providers() telemetry.Providers { return s.providers }

// Metrics serves the metrics in Prometheus' format.
func (s *SDK) Metrics() http.Handler { return s.metrics }

// Shutdown sends what is still buffered.
func (s *SDK) Shutdown(ctx context.Context) error {
	var errs []error
	for _, stop := range s.shutdown {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}
