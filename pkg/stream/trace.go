package stream

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// headerTrace is the W3C trace context of a record.
const headerTrace = "traceparent"

// tracer starts a span for records and timers that belong to a sampled trace. The zero value starts none.
type tracer struct {
	tracer trace.Tracer
}

// activeSpan is a span in progress; its zero value is none.
type activeSpan struct {
	span   trace.Span
	header string
}

func (t tracer) start(topology string, headers []Header) activeSpan {
	for i := range headers {
		if headers[i].Key == headerTrace {
			return t.startFrom(topology, string(headers[i].Value))
		}
	}
	return activeSpan{}
}

// startFrom starts a child of the given traceparent, if that is sampled.
func (t tracer) startFrom(topology, traceparent string) activeSpan {
	if !sampled(traceparent) {
		return activeSpan{}
	}
	if t.tracer == nil {
		// Nobody records spans here, but the trace goes on in what is emitted.
		return activeSpan{header: traceparent}
	}
	carrier := propagation.MapCarrier{headerTrace: traceparent}
	parent := propagation.TraceContext{}.Extract(context.Background(), carrier)
	ctx, span := t.tracer.Start(parent, "process "+topology, trace.WithSpanKind(trace.SpanKindConsumer))
	out := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, out)
	header := out[headerTrace]
	if header == "" {
		header = traceparent
	}
	return activeSpan{span: span, header: header}
}

// parent is the traceparent for what comes of this span, empty if there is none.
func (s activeSpan) parent() string { return s.header }

func (s activeSpan) end(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		// The reason may quote the record: it goes to the dead letter, not into the trace.
		s.span.SetStatus(codes.Error, "dead-lettered")
	}
	s.span.End()
}

// sampled looks at the flags of a version 00 traceparent (00-<32 hex>-<16 hex>-<2 hex>).
func sampled(traceparent string) bool {
	if len(traceparent) != 55 || traceparent[:3] != "00-" {
		return false
	}
	switch c := traceparent[54]; {
	case c >= '0' && c <= '9':
		return (c-'0')&1 == 1
	case c >= 'a' && c <= 'f':
		return (c-'a'+10)&1 == 1
	default:
		return false
	}
}
