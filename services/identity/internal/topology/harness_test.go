package topology_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric/noop"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	identityv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/identity/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/identity/internal/resolve"
	"github.com/sillage-cdp/sillage/services/identity/internal/topology"
)

const tenant = "acme"

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func resolverConfig() resolve.Config {
	return resolve.Config{DedupWindow: 7 * 24 * time.Hour, MaxHeld: 10_000, MaxHeldBytes: 64 << 20, AskAgain: 30 * time.Second}
}

func policyOf(namespaces ...*definitionv1.Namespace) definition.Provider {
	return definition.Static(definition.NewSnapshot(&definitionv1.Definition{
		Tenant: tenant, Name: tenant,
		Spec: &definitionv1.Definition_TenantSpec{TenantSpec: &definitionv1.Tenant{
			Identity: &definitionv1.IdentityPolicy{Namespaces: namespaces},
		}},
	}))
}

func limits(n int32) definition.Provider {
	return policyOf(
		&definitionv1.Namespace{Name: "user_id", Limit: n, Known: true}, &definitionv1.Namespace{Name: "email", Limit: n, Known: true},
		&definitionv1.Namespace{Name: "anonymous_id", Limit: n}, &definitionv1.Namespace{Name: "device", Limit: n})
}

func topologies(t require.TestingT, definitions definition.Provider) (resolver, graph stream.Topology) {
	meter := noop.NewMeterProvider().Meter("")
	resolver, err := topology.Resolver(resolverConfig(), definitions, meter)
	require.NoError(t, err)
	graph, err = topology.Graph(definitions, meter)
	require.NoError(t, err)
	return resolver, graph
}

func newEvent(messageID, identifiers string, at time.Time) *eventv1.Event {
	namespaces := map[byte]string{'u': "user_id", 'e': "email", 'a': "anonymous_id", 'd': "device", 'p': "profile_id"}
	event := &eventv1.Event{
		MessageId: messageID, Tenant: tenant, Source: "web", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "x",
		TimestampMs: at.UnixMilli(), ReceivedAtMs: at.UnixMilli(),
	}
	for short := range strings.FieldsSeq(identifiers) {
		event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: namespaces[short[0]], Value: short})
	}
	return event
}

func keyOf(event *eventv1.Event) []byte {
	anchor := event.GetIdentifiers()[0]
	return topics.Key(event.GetTenant(), anchor.GetNamespace()+":"+anchor.GetValue())
}

func send(t require.TestingT, d *stream.Driver, event *eventv1.Event) {
	raw, err := event.MarshalVT()
	require.NoError(t, err)
	require.NoError(t, d.Send(topics.Events, keyOf(event), raw))
}

// lagging runs the two stages on drivers of their own and carries what one writes for the other at any
// later moment, each topic in order: requests and answers are under way while further events come.
type lagging struct {
	t               require.TestingT
	resolver, graph *stream.Driver
	requests        []stream.Record
	answers         []stream.Record
	log             []stream.Record // profile.log.v1 as both wrote it
	now             time.Time
}

func newLagging(t require.TestingT, definitions definition.Provider) *lagging {
	r, g := topologies(t, definitions)
	l := &lagging{t: t, now: start}
	var err error
	l.resolver, err = stream.NewDriver(stream.DriverConfig{Start: start}, r)
	require.NoError(t, err)
	l.graph, err = stream.NewDriver(stream.DriverConfig{Start: start}, g)
	require.NoError(t, err)
	return l
}

func (l *lagging) collect() {
	l.requests = append(l.requests, l.resolver.Drain(topics.Requests)...)
	l.answers = append(l.answers, l.graph.Drain(topics.Assignments)...)
	l.log = append(l.log, l.resolver.Drain(topics.ProfileLog)...)
	l.log = append(l.log, l.graph.Drain(topics.ProfileLog)...)
}

func (l *lagging) event(event *eventv1.Event) {
	send(l.t, l.resolver, event)
	l.collect()
}

// step carries one record, if there is one, or lets time pass.
func (l *lagging) step(random *rand.Rand) {
	switch n := random.IntN(8); {
	case n < 4 && len(l.requests) > 0:
		rec := l.requests[0]
		l.requests = l.requests[1:]
		require.NoError(l.t, l.graph.Send(topics.Requests, rec.Key, rec.Value))
	case n < 7 && len(l.answers) > 0:
		rec := l.answers[0]
		l.answers = l.answers[1:]
		require.NoError(l.t, l.resolver.Send(topics.Assignments, rec.Key, rec.Value))
	case n == 7:
		l.now = l.now.Add(20 * time.Second)
		require.NoError(l.t, l.resolver.Advance(l.now))
		require.NoError(l.t, l.graph.Advance(l.now))
	}
	l.collect()
}

func (l *lagging) settle(random *rand.Rand) {
	for len(l.requests)+len(l.answers) > 0 {
		l.step(random)
	}
}

// outcome is what the two stages wrote, read back.
type outcome struct {
	t       require.TestingT
	order   []string          // message ids in the order of the log
	profile map[string]string // message id to the profile under which it was written
	anchor  map[string]string // message id to anchor
	fresh   map[string][]*eventv1.Identifier
	into    map[string]string // merged profile to survivor
	// position of each event, and of each merge's announcement, in the log
	at          map[string]int
	announcedAt map[string]int
	duplicates  map[string]int
	owner       map[string]string // identifier to profile, from the ledger of links alone
	causes      map[string]string // merged profile to the message that caused it
}

func readOutcome(t require.TestingT, log, ledger, links []stream.Record) *outcome {
	o := &outcome{
		t: t, profile: map[string]string{}, anchor: map[string]string{}, fresh: map[string][]*eventv1.Identifier{}, into: map[string]string{},
		at: map[string]int{}, announcedAt: map[string]int{}, duplicates: map[string]int{}, owner: map[string]string{}, causes: map[string]string{},
	}
	for i, rec := range log {
		var entry profilev1.ProfileRecord
		require.NoError(t, entry.UnmarshalVT(rec.Value))
		require.Equal(t, string(topics.Key(entry.GetTenant(), entry.GetProfileId())), string(rec.Key))
		o.logEntry(i, &entry)
	}
	for _, rec := range ledger {
		var entry ledgerv1.LedgerEntry
		require.NoError(t, entry.UnmarshalVT(rec.Value))
		require.Equal(t, ledgerv1.Fate_FATE_DEDUPLICATED, entry.GetFate())
		require.True(t, entry.GetAfterDoor())
		require.Equal(t, "acme/web", string(rec.Key))
		o.duplicates[entry.GetMessageId()]++
	}
	for _, rec := range links {
		var link identityv1.IdentityLink
		require.NoError(t, link.UnmarshalVT(rec.Value))
		switch link.GetAction() {
		case identityv1.LinkAction_LINK_ACTION_LINKED:
			id := link.GetIdentifier().GetValue()
			require.Equal(t, o.owner[id], link.GetFromProfileId(), "the ledger says where %s came from", id)
			o.owner[id] = link.GetProfileId()
		case identityv1.LinkAction_LINK_ACTION_MERGED:
			require.Equal(t, o.into[link.GetProfileId()], link.GetIntoProfileId())
			o.causes[link.GetProfileId()] = link.GetMessageId()
		default: // a refusal changes nothing
		}
	}
	return o
}

func (o *outcome) logEntry(i int, entry *profilev1.ProfileRecord) {
	switch body := entry.GetBody().(type) {
	case *profilev1.ProfileRecord_Event:
		id := body.Event.GetEvent().GetMessageId()
		require.NotContains(o.t, o.profile, id, "emitted twice")
		o.order, o.at[id] = append(o.order, id), i
		o.profile[id] = entry.GetProfileId()
		o.anchor[id] = body.Event.GetEvent().GetIdentifiers()[0].GetValue()
		o.fresh[id] = body.Event.GetNewIdentifiers()
	case *profilev1.ProfileRecord_MergeAnnounced:
		o.announcedAt[body.MergeAnnounced.GetFromProfileId()+">"+entry.GetProfileId()] = i
	case *profilev1.ProfileRecord_MergedInto:
		into := body.MergedInto.GetIntoProfileId()
		require.NotContains(o.t, o.into, entry.GetProfileId(), "a profile ends twice")
		require.Contains(o.t, o.announcedAt, entry.GetProfileId()+">"+into, "the announcement comes first")
		o.into[entry.GetProfileId()] = into
	}
}

// final follows merges to their end.
func (o *outcome) final(profile string) string {
	for steps := 0; o.into[profile] != ""; steps++ {
		require.Less(o.t, steps, len(o.into)+1, "merges in a circle")
		profile = o.into[profile]
	}
	return profile
}

// anyEvent draws the identifiers of an event as a producer would carry them: the anonymous id first, then the user id.
func anyEvent() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var ids []string
		for _, kind := range []string{"a", "u", "e", "d"} {
			if rapid.IntRange(0, 9).Draw(t, kind) < map[string]int{"a": 7, "u": 3, "e": 2, "d": 2}[kind] {
				ids = append(ids, fmt.Sprintf("%s%d", kind, rapid.IntRange(1, 5).Draw(t, "n")))
			}
		}
		if len(ids) == 0 {
			return "a1"
		}
		return strings.Join(ids, " ")
	})
}

func noDeadLetters(t testing.TB, drivers ...*stream.Driver) {
	for _, d := range drivers {
		require.Empty(t, d.DeadLetters())
	}
}
