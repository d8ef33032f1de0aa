package sink

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"go.opentelemetry.io/otel/trace"
)

// maxSpans bounds the spans of one batch.
const maxSpans = 32

type spans []trace.Span

// spans begins a span for every sampled record: the last one of its trace, its way into a row.
func (s *Sink) spans(ctx context.Context, records []*kgo.Record) spans {
	var out spans
	for _, rec := range records {
		if len(rec.Headers) == 0 || len(out) == maxSpans {
			continue
		}
		parent := s.telemetry.Propagator.Extract(ctx, kotel.NewRecordCarrier(rec))
		if !trace.SpanContextFromContext(parent).IsSampled() {
			continue
		}
		_, span := s.tracer.Start(parent, "insert "+rec.Topic, trace.WithSpanKind(trace.SpanKindConsumer))
		out = append(out, span)
	}
	return out
}

func (s spans) end() {
	for _, span := range s {
		span.End()
	}
}
