// Package meter counts what the orchestrator decides. It promises: no personal data and no unbounded
// label; nothing is allocated for a turn without effects. A batch that the runtime repeats is counted
// again: the topics are exact, the counters are for dashboards.
//
//	sillage.journey_orchestrator.sends     {decision, reason}   sends decided
//	sillage.journey_orchestrator.steps     {action}             journey steps written
package meter

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
)

// Meter counts effects. It is safe for concurrent use.
type Meter struct {
	sends metric.Int64Counter
	steps metric.Int64Counter
}

// New makes the instruments.
func New(provider metric.MeterProvider) (*Meter, error) {
	m := provider.Meter("journey-orchestrator")
	sends, errSends := m.Int64Counter("sillage.journey_orchestrator.sends", metric.WithUnit("{send}"), metric.WithDescription("Sends decided, by decision and kind of reason."))
	steps, errSteps := m.Int64Counter("sillage.journey_orchestrator.steps", metric.WithUnit("{step}"), metric.WithDescription("Journey steps written, by action."))
	if err := errors.Join(errSends, errSteps); err != nil {
		return nil, err
	}
	return &Meter{sends: sends, steps: steps}, nil
}

// Decided counts the effects of one turn.
func (m *Meter) Decided(effects *engine.Effects) {
	ctx := context.Background()
	for _, s := range effects.Sends {
		decision := strings.ToLower(strings.TrimPrefix(s.GetDecision().String(), "DECISION_"))
		m.sends.Add(ctx, 1, metric.WithAttributes(attribute.String("decision", decision), attribute.String("reason", kind(s.GetReason()))))
	}
	for _, s := range effects.Steps {
		action := strings.ToLower(strings.TrimPrefix(s.GetAction().String(), "STEP_ACTION_"))
		m.steps.Add(ctx, 1, metric.WithAttributes(attribute.String("action", action)))
	}
}

// kind is a reason without the name of the cap or purpose: those are the tenant's own and without bound.
func kind(reason string) string {
	before, _, _ := strings.Cut(reason, ":")
	return before
}
