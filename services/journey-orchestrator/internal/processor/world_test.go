package processor_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/catalog"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/processor"
)

const tenant = "bank"

// live is a provider whose definitions change.
type live struct{ snapshot *definition.Snapshot }

func (l *live) Snapshot() *definition.Snapshot { return l.snapshot }

type silent struct{}

func (silent) Decided(*engine.Effects) {}

// world is the stage on the in-memory driver, with definitions that can change.
type world struct {
	t      require.TestingT
	driver *stream.Driver
	defs   map[definition.ID]*definitionv1.Definition
	live   *live
	events int
	merges int
}

func newWorld(t require.TestingT, start time.Time, partitions int32) *world {
	w := &world{t: t, defs: map[definition.ID]*definitionv1.Definition{}, live: &live{snapshot: definition.NewSnapshot()}}
	compiled := catalog.New(w.live, func(err error) { require.NoError(t, err) })
	var err error
	w.driver, err = stream.NewDriver(stream.DriverConfig{Start: start, Partitions: partitions}, processor.Topology(compiled, silent{}))
	require.NoError(t, err)
	return w
}

// define puts definitions in force; one that changes gets the next version, as control would give it.
func (w *world) define(yaml string) {
	defs, err := definition.ParseYAML(strings.NewReader(yaml), "script")
	require.NoError(w.t, err)
	for _, def := range defs {
		id := definition.IDOf(def)
		def.Version = w.defs[id].GetVersion() + 1
		w.defs[id] = def
	}
	w.publish()
}

func (w *world) drop(kind, name string) {
	delete(w.defs, definition.ID{Tenant: tenant, Kind: kind, Name: name})
	w.publish()
}

func (w *world) publish() {
	var all []*definitionv1.Definition
	for _, def := range w.defs {
		all = append(all, def)
	}
	w.live.snapshot = definition.NewSnapshot(all...)
}

func (w *world) send(topic, profile string, m interface{ MarshalVT() ([]byte, error) }) {
	value, err := m.MarshalVT()
	require.NoError(w.t, err)
	require.NoError(w.t, w.driver.Send(topic, topics.Key(tenant, profile), value))
}

// event sends an event; the first of a profile carries its user id.
func (w *world) event(profile string, ev *eventv1.Event) {
	w.events++
	ev.Tenant, ev.Source, ev.TimestampMs = tenant, "web", w.driver.Now().UnixMilli()
	if ev.MessageId == "" {
		ev.MessageId = fmt.Sprintf("m%d", w.events)
	}
	if ev.Type == eventv1.EventType_EVENT_TYPE_UNSPECIFIED {
		ev.Type = eventv1.EventType_EVENT_TYPE_TRACK
	}
	id := &eventv1.Identifier{Namespace: "user_id", Value: profile}
	w.send(topics.ProfileLog, profile, &profilev1.ProfileRecord{Tenant: tenant, ProfileId: profile, Body: &profilev1.ProfileRecord_Event{
		Event: &profilev1.ResolvedEvent{Event: ev, NewIdentifiers: []*eventv1.Identifier{id}},
	}})
}

func (w *world) flip(profile, segment string, entered bool, change func(*segmentv1.MembershipChanged)) {
	w.events++
	m := &segmentv1.MembershipChanged{
		Tenant: tenant, ProfileId: profile, Segment: segment, State: segmentv1.MembershipState_MEMBERSHIP_STATE_EXITED,
		AtMs: w.driver.Now().UnixMilli(), Cause: segmentv1.Cause_CAUSE_EVENT, CauseId: fmt.Sprintf("m%d", w.events),
	}
	if entered {
		m.State = segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED
	}
	if change != nil {
		change(m)
	}
	w.send(topics.Segments, profile, m)
}

func (w *world) score(profile, score string, value float64) {
	w.send(topics.Scores, profile, &scorev1.ScoreChanged{Tenant: tenant, ProfileId: profile, Score: score, Value: value})
}

// announce and mergeInto are the two records of a merge, which may come in any order.
func (w *world) announce(src, dst, id string) {
	w.send(topics.ProfileLog, dst, &profilev1.ProfileRecord{Tenant: tenant, ProfileId: dst, Body: &profilev1.ProfileRecord_MergeAnnounced{
		MergeAnnounced: &profilev1.MergeAnnounced{FromProfileId: src, MergeId: id, AtMs: w.driver.Now().UnixMilli()},
	}})
}

func (w *world) mergeInto(src, dst, id string) {
	w.send(topics.ProfileLog, src, &profilev1.ProfileRecord{Tenant: tenant, ProfileId: src, Body: &profilev1.ProfileRecord_MergedInto{
		MergedInto: &profilev1.MergedInto{IntoProfileId: dst, MergeId: id, AtMs: w.driver.Now().UnixMilli()},
	}})
}

func (w *world) merge(src, dst string) {
	w.merges++
	id := fmt.Sprintf("merge%d", w.merges)
	w.announce(src, dst, id)
	w.mergeInto(src, dst, id)
}

func (w *world) advance(d time.Duration) {
	require.NoError(w.t, w.driver.Advance(w.driver.Now().Add(d)))
}

func (w *world) steps() []*journeyv1.JourneyStep {
	var out []*journeyv1.JourneyStep
	for _, rec := range w.driver.Drain(topics.Steps) {
		var s journeyv1.JourneyStep
		require.NoError(w.t, s.UnmarshalVT(rec.Value))
		require.Equal(w.t, string(topics.Key(s.GetTenant(), s.GetProfileId())), string(rec.Key))
		out = append(out, &s)
	}
	return out
}

func (w *world) sends() []*deliveryv1.Send {
	var out []*deliveryv1.Send
	for _, rec := range w.driver.Drain(topics.Sends) {
		var s deliveryv1.Send
		require.NoError(w.t, s.UnmarshalVT(rec.Value))
		require.Equal(w.t, string(topics.Key(s.GetTenant(), s.GetProfileId())), string(rec.Key))
		out = append(out, &s)
	}
	return out
}
