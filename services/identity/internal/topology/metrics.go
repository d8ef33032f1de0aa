package topology

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/services/identity/internal/graph"
	"github.com/sillage-cdp/sillage/services/identity/internal/resolve"
)

// Counters count work, not facts: a batch that is aborted and done again counts twice. The facts stand
// in the ledger topics. Nothing is counted for an event that just passes.

type resolverCounters struct {
	asked, duplicates, refused metric.Int64Counter
}

func newResolverCounters(meter metric.Meter) (resolverCounters, error) {
	asked, err1 := meter.Int64Counter("sillage.identity.link_requests", metric.WithUnit("{request}"),
		metric.WithDescription("Questions to the identity graph, repeated ones included"))
	duplicates, err2 := meter.Int64Counter("sillage.identity.duplicates", metric.WithUnit("{event}"),
		metric.WithDescription("Events whose message id came within the window"))
	refused, err3 := meter.Int64Counter("sillage.identity.refused_anchors", metric.WithUnit("{event}"),
		metric.WithDescription("Events whose first identifier the tenant's policy refuses"))
	return resolverCounters{asked: asked, duplicates: duplicates, refused: refused}, errors.Join(err1, err2, err3)
}

func (c resolverCounters) ended(fate resolve.Fate) {
	switch fate {
	case resolve.Duplicate:
		c.duplicates.Add(context.Background(), 1)
	case resolve.RefusedAnchor:
		c.refused.Add(context.Background(), 1)
	case resolve.Passed:
	}
}

type graphCounters struct {
	merges, linked, refused metric.Int64Counter
}

func newGraphCounters(meter metric.Meter) (graphCounters, error) {
	merges, err1 := meter.Int64Counter("sillage.identity.merges", metric.WithUnit("{profile}"),
		metric.WithDescription("Profiles merged into another one"))
	linked, err2 := meter.Int64Counter("sillage.identity.links", metric.WithUnit("{identifier}"),
		metric.WithDescription("Identifiers that came to a profile"))
	refused, err3 := meter.Int64Counter("sillage.identity.refused_links", metric.WithUnit("{identifier}"),
		metric.WithDescription("Identifiers that a limit kept from a profile"))
	return graphCounters{merges: merges, linked: linked, refused: refused}, errors.Join(err1, err2, err3)
}

func (c graphCounters) count(d graph.Decision) {
	for _, e := range d.Entries {
		switch e.Action {
		case graph.Merged:
			c.merges.Add(context.Background(), 1)
		case graph.Linked:
			c.linked.Add(context.Background(), 1)
		case graph.Refused:
			c.refused.Add(context.Background(), 1)
		}
	}
}
