package topology

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	identityv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/identity/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"

	"github.com/sillage-cdp/sillage/services/identity/internal/envelope"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
	"github.com/sillage-cdp/sillage/services/identity/internal/resolve"
)

// Names of the two stages; their consumer groups, changelogs and stores are named after them.
const (
	ResolverName = "identity-resolver"
	GraphName    = "identity-graph"
)

// Resolver is the stage that resolves the events of each anchor.
func Resolver(cfg resolve.Config, definitions definition.Provider, meter metric.Meter) (stream.Topology, error) {
	counters, err := newResolverCounters(meter)
	if err != nil {
		return stream.Topology{}, err
	}
	return stream.Topology{
		Name:    ResolverName,
		Inputs:  []string{topics.Events, topics.Assignments},
		Outputs: []string{topics.ProfileLog, topics.Requests, topics.Ledger},
		New: func() stream.Processor {
			return &resolver{core: resolve.New(cfg, newPolicies(definitions)), counters: counters}
		},
	}, nil
}

// resolver is the processor of one partition. The buffers are memory to work in.
type resolver struct {
	core     *resolve.Resolver
	counters resolverCounters
	key, buf []byte
}

// Process takes an event or an assignment.
func (r *resolver) Process(ctx *stream.Context, rec stream.Record) error {
	var d resolve.Decision
	var err error
	switch rec.Topic {
	case topics.Events:
		d, err = r.core.Event(ctx, ctx.Now(), ctx.Key(), rec.Value)
	case topics.Assignments:
		var assignment identityv1.Assignment
		if err := assignment.UnmarshalVT(rec.Value); err != nil {
			return fmt.Errorf("decoding an assignment: %w", err)
		}
		d, err = r.core.Answer(ctx, ctx.Now(), ctx.Key(), answerOf(&assignment))
	default:
		return fmt.Errorf("topic %s is not an input of %s", rec.Topic, ResolverName)
	}
	if err != nil {
		return fmt.Errorf("resolving: %w", err)
	}
	return r.carryOut(ctx, d)
}

// Timer handles a timer of an anchor.
func (r *resolver) Timer(ctx *stream.Context, timer stream.Timer) error {
	d, err := r.core.Timer(ctx, ctx.Now(), timer.ID, timer.Payload)
	if err != nil {
		return fmt.Errorf("handling timer %q: %w", timer.ID, err)
	}
	return r.carryOut(ctx, d)
}

// Merge is never called: anchors do not merge.
func (*resolver) Merge(*stream.Context, *stream.Source) error { return nil }

func (r *resolver) carryOut(ctx *stream.Context, d resolve.Decision) error {
	for _, e := range d.Emits {
		r.key = append(append(append(r.key[:0], e.Tenant...), '/'), e.ProfileID...)
		r.buf = envelope.Wrap(r.buf[:0], e)
		ctx.Emit(topics.ProfileLog, r.key, r.buf)
	}
	if d.Ask != nil {
		r.counters.asked.Add(context.Background(), 1)
		value, err := requestOf(d.Ask).MarshalVT()
		if err != nil {
			return fmt.Errorf("encoding a link request: %w", err)
		}
		ctx.Emit(topics.Requests, []byte(d.Ask.Tenant), value)
	}
	if d.Note.Fate != resolve.Passed {
		r.counters.ended(d.Note.Fate)
		value, err := ledgerEntryOf(d.Note).MarshalVT()
		if err != nil {
			return fmt.Errorf("encoding a ledger entry: %w", err)
		}
		ctx.Emit(topics.Ledger, topics.Key(d.Note.Tenant, d.Note.Source), value)
	}
	return nil
}

func answerOf(a *identityv1.Assignment) resolve.Answer {
	return resolve.Answer{
		Tenant: a.GetTenant(), Anchor: identifierOf(a.GetAnchor()), ProfileID: a.GetProfileId(),
		EventProfileID: a.GetEventProfileId(), Linked: identifiersOf(a.GetLinked()), MessageID: a.GetMessageId(),
	}
}

func requestOf(a *resolve.Ask) *identityv1.LinkRequest {
	return &identityv1.LinkRequest{
		Tenant: a.Tenant, Anchor: protoIdentifier(a.Anchor), AnchorProfileId: a.AnchorProfile,
		Identifiers: protoIdentifiers(a.Identifiers), MessageId: a.MessageID, Source: a.Source,
		AtMs: a.AtMs, AnchorSinceMs: a.AnchorSinceMs,
	}
}

// Reasons of ledger entries.
const (
	reasonDuplicate     = "duplicate"
	reasonRefusedAnchor = "refused_identifier"
)

func ledgerEntryOf(n resolve.Note) *ledgerv1.LedgerEntry {
	entry := &ledgerv1.LedgerEntry{
		Tenant: n.Tenant, Source: n.Source, MessageId: n.MessageID, ReceivedAtMs: n.ReceivedMs, AfterDoor: true,
		Fate: ledgerv1.Fate_FATE_DEDUPLICATED, Reason: reasonDuplicate,
	}
	if n.Fate == resolve.RefusedAnchor {
		entry.Fate, entry.Reason = ledgerv1.Fate_FATE_REJECTED, reasonRefusedAnchor
		entry.Detail = "the first identifier is refused by the tenant's identity policy"
	}
	return entry
}

func identifierOf(id *eventv1.Identifier) policy.Identifier {
	return policy.Identifier{Namespace: id.GetNamespace(), Value: id.GetValue()}
}

func identifiersOf(ids []*eventv1.Identifier) []policy.Identifier {
	list := make([]policy.Identifier, 0, len(ids))
	for _, id := range ids {
		list = append(list, identifierOf(id))
	}
	return list
}

func protoIdentifier(id policy.Identifier) *eventv1.Identifier {
	return &eventv1.Identifier{Namespace: id.Namespace, Value: id.Value}
}

func protoIdentifiers(ids []policy.Identifier) []*eventv1.Identifier {
	if len(ids) == 0 {
		return nil
	}
	list := make([]*eventv1.Identifier, 0, len(ids))
	for _, id := range ids {
		list = append(list, protoIdentifier(id))
	}
	return list
}
