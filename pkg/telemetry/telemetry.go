// Package telemetry carries the OpenTelemetry providers that every component is given; nothing reads a
// global one. Spans, metrics and logs hold no personal data: no identifiers, traits or record keys.
package telemetry

import (
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Providers are what a component makes its tracer and its meter from.
type Providers struct {
	Tracer     trace.TracerProvider
	Meter      metric.MeterProvider
	Propagator propagation.TextMapPropagator
}

// Nop returns providers that record nothing, for tests and tools.
func Nop() Providers {
	return Providers{
		Tracer:     tracenoop.NewTracerProvider(),
		Meter:      metricnoop.NewMeterProvider(),
		Propagator: propagation.TraceContext{},
	}
}
