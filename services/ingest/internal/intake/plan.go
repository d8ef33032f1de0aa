package intake

import (
	"errors"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/plan"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/door"
)

// plans are the tracking plans of sources, each compiled once. It is safe for concurrent use.
type plans struct {
	logger *slog.Logger

	mu       sync.Mutex // guards bySource
	bySource map[string]compiledPlan
}

type compiledPlan struct {
	def  *definitionv1.Definition
	plan *plan.Plan
}

// of is the plan of a source; nil without a definition. One that does not compile was written before a rule
// that refuses it: it holds nothing back, and the log says so.
func (p *plans) of(source string, def *definitionv1.Definition) *plan.Plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	if def == nil {
		delete(p.bySource, source)
		return nil
	}
	if known, ok := p.bySource[source]; ok && known.def == def {
		return known.plan
	}
	compiled, err := plan.Compile(def)
	if err != nil {
		p.logger.Error("the tracking plan cannot be used; its source is not checked", slog.String("source", source), slog.Any("error", err))
	}
	if p.bySource == nil {
		p.bySource = make(map[string]compiledPlan)
	}
	p.bySource[source] = compiledPlan{def, compiled}
	return compiled
}

// newViolations counts what is not as planned.
func newViolations(provider metric.MeterProvider) (metric.Int64Counter, error) {
	return provider.Meter("github.com/sillage-cdp/sillage/services/ingest").Int64Counter("sillage.ingest.plan.violations",
		metric.WithUnit("{event}"), metric.WithDescription("Events that are not as the tracking plan of their source says, by code and by what was done."))
}

// unplanned writes down what is not as planned: the violation, and the event itself if it is set aside.
func (c *Call) unplanned(ev *eventv1.Event, verdict door.Verdict) error {
	v := verdict.Violation
	c.in.violations.Add(c.ctx, 1, c.source.attributes,
		metric.WithAttributes(attribute.String("code", v.GetCode()), attribute.String("action", v.GetAction().String())))
	err := c.batch.AddViolation(v)
	if verdict.Quarantined() {
		err = errors.Join(err, c.batch.AddQuarantined(ev, v))
	}
	return err
}
