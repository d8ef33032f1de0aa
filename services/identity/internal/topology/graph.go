package topology

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	identityv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/identity/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"

	"github.com/sillage-cdp/sillage/services/identity/internal/graph"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

// Graph is the stage that links and merges, one tenant at a time.
func Graph(definitions definition.Provider, meter metric.Meter) (stream.Topology, error) {
	counters, err := newGraphCounters(meter)
	if err != nil {
		return stream.Topology{}, err
	}
	return stream.Topology{
		Name:    GraphName,
		Inputs:  []string{topics.Requests},
		Outputs: []string{topics.ProfileLog, topics.Assignments, topics.Links},
		New: func() stream.Processor {
			return &grapher{policies: newPolicies(definitions), counters: counters}
		},
	}, nil
}

// grapher is the processor of one partition.
type grapher struct {
	policies *policies
	counters graphCounters
}

var errRequestKey = errors.New("the record's key is not the request's tenant")

// Process takes one request.
func (g *grapher) Process(ctx *stream.Context, rec stream.Record) error {
	var request identityv1.LinkRequest
	if err := request.UnmarshalVT(rec.Value); err != nil {
		return fmt.Errorf("decoding a link request: %w", err)
	}
	if request.GetTenant() == "" || request.GetTenant() != string(ctx.Key()) {
		return errRequestKey
	}
	d, err := graph.Link(ctx, g.policies.For(request.GetTenant()), graph.Request{
		Tenant: request.GetTenant(), Anchor: identifierOf(request.GetAnchor()),
		AnchorProfile: request.GetAnchorProfileId(), AnchorSinceMs: request.GetAnchorSinceMs(),
		Identifiers: identifiersOf(request.GetIdentifiers()), AtMs: request.GetAtMs(), MessageID: request.GetMessageId(),
	})
	if err != nil {
		return fmt.Errorf("linking: %w", err)
	}
	g.counters.count(d)
	return g.carryOut(ctx, &request, d)
}

// Timer is never called: the graph sets none.
func (*grapher) Timer(*stream.Context, stream.Timer) error { return nil }

// Merge is never called: tenants do not merge.
func (*grapher) Merge(*stream.Context, *stream.Source) error { return nil }

// message is what the topics carry.
type message interface {
	MarshalVT() ([]byte, error)
}

func emit(ctx *stream.Context, topic string, key []byte, m message) error {
	value, err := m.MarshalVT()
	if err != nil {
		return fmt.Errorf("encoding for %s: %w", topic, err)
	}
	ctx.Emit(topic, key, value)
	return nil
}

// carryOut writes a decision: merges first, then assignments, then the ledger.
func (g *grapher) carryOut(ctx *stream.Context, request *identityv1.LinkRequest, d graph.Decision) error {
	tenant, now := request.GetTenant(), ctx.Now().UnixMilli()
	var errs []error
	for _, m := range d.Merges {
		errs = append(errs,
			emit(ctx, topics.ProfileLog, topics.Key(tenant, m.Into), &profilev1.ProfileRecord{
				Tenant: tenant, ProfileId: m.Into,
				Body: &profilev1.ProfileRecord_MergeAnnounced{MergeAnnounced: &profilev1.MergeAnnounced{
					FromProfileId: m.From, MergeId: m.ID, AtMs: now,
				}},
			}),
			emit(ctx, topics.ProfileLog, topics.Key(tenant, m.From), &profilev1.ProfileRecord{
				Tenant: tenant, ProfileId: m.From,
				Body: &profilev1.ProfileRecord_MergedInto{MergedInto: &profilev1.MergedInto{
					IntoProfileId: m.Into, MergeId: m.ID, AtMs: now,
				}},
			}))
	}
	for _, notice := range d.Notices {
		errs = append(errs, emit(ctx, topics.Assignments, anchorKey(tenant, notice.Anchor), assignmentOf(tenant, notice, "")))
	}
	errs = append(errs, emit(ctx, topics.Assignments, anchorKey(tenant, d.Answer.Anchor), assignmentOf(tenant, d.Answer, request.GetMessageId())))
	for _, e := range d.Entries {
		errs = append(errs, emit(ctx, topics.Links, topics.Key(tenant, e.ProfileID), linkOf(request, e, now)))
	}
	return errors.Join(errs...)
}

func anchorKey(tenant string, id policy.Identifier) []byte { return topics.Key(tenant, id.String()) }

func assignmentOf(tenant string, a graph.Assignment, messageID string) *identityv1.Assignment {
	return &identityv1.Assignment{
		Tenant: tenant, Anchor: protoIdentifier(a.Anchor), ProfileId: a.ProfileID, EventProfileId: a.EventProfileID,
		Linked: protoIdentifiers(a.Linked), Refused: protoIdentifiers(a.Refused), MessageId: messageID,
	}
}

func linkOf(request *identityv1.LinkRequest, e graph.Entry, now int64) *identityv1.IdentityLink {
	link := &identityv1.IdentityLink{
		Tenant: request.GetTenant(), ProfileId: e.ProfileID, IntoProfileId: e.Into, FromProfileId: e.From,
		MessageId: request.GetMessageId(), Source: request.GetSource(), Reason: e.Reason, AtMs: now,
		Action: actionOf(e.Action),
	}
	if e.Identifier != (policy.Identifier{}) {
		link.Identifier = &eventv1.Identifier{Namespace: e.Identifier.Namespace, Value: e.Identifier.Value}
	}
	return link
}

func actionOf(a graph.Action) identityv1.LinkAction {
	switch a {
	case graph.Linked:
		return identityv1.LinkAction_LINK_ACTION_LINKED
	case graph.Merged:
		return identityv1.LinkAction_LINK_ACTION_MERGED
	case graph.Refused:
		return identityv1.LinkAction_LINK_ACTION_REFUSED
	}
	return identityv1.LinkAction_LINK_ACTION_UNSPECIFIED
}
