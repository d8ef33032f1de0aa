package processor

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

const (
	entered = segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED
	exited  = segmentv1.MembershipState_MEMBERSHIP_STATE_EXITED
)

// definitions is a provider whose snapshot a test may replace.
type definitions struct{ snapshot *definition.Snapshot }

func (d *definitions) Snapshot() *definition.Snapshot { return d.snapshot }

// world is the stage on the in-memory driver.
type world struct {
	t      testing.TB
	driver *stream.Driver
	defs   *definitions
	start  time.Time
}

func newWorld(t testing.TB, defs ...*definitionv1.Definition) *world {
	t.Helper()
	w := &world{t: t, defs: &definitions{snapshot: definition.NewSnapshot(defs...)}, start: time.UnixMilli(1_750_000_000_000).UTC()}
	metrics, err := NewMetrics(noop.NewMeterProvider())
	require.NoError(t, err)
	top := Topology(NewPrograms(w.defs, slog.New(slog.DiscardHandler)), metrics)
	w.driver, err = stream.NewDriver(stream.DriverConfig{Start: w.start, Partitions: 4}, top)
	require.NoError(t, err)
	return w
}

func segment(name string, version int64, c *definitionv1.Condition) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "acme", Name: name, Version: version, Spec: &definitionv1.Definition_Segment{
		Segment: &definitionv1.Segment{Condition: c},
	}}
}

func did(event string, least int32, within string) *definitionv1.Condition {
	return &definitionv1.Condition{Performed: &definitionv1.Performed{
		Filter: &definitionv1.EventFilter{Event: event}, AtLeast: least, Within: within,
	}}
}

func (w *world) send(record *profilev1.ProfileRecord) {
	w.t.Helper()
	record.Tenant = "acme"
	value, err := record.MarshalVT()
	require.NoError(w.t, err)
	require.NoError(w.t, w.driver.Send(topics.ProfileLog, topics.Key("acme", record.GetProfileId()), value))
}

func (w *world) track(profileID, id, name string, at time.Time) {
	w.t.Helper()
	w.event(profileID, &eventv1.Event{
		MessageId: id, Tenant: "acme", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name, TimestampMs: at.UnixMilli(),
	})
}

func (w *world) event(profileID string, event *eventv1.Event) {
	w.t.Helper()
	w.send(&profilev1.ProfileRecord{ProfileId: profileID, Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{Event: event}}})
}

func (w *world) merge(from, into, id string) {
	w.t.Helper()
	at := w.driver.Now().UnixMilli()
	w.send(&profilev1.ProfileRecord{ProfileId: into, Body: &profilev1.ProfileRecord_MergeAnnounced{
		MergeAnnounced: &profilev1.MergeAnnounced{FromProfileId: from, MergeId: id, AtMs: at},
	}})
	w.send(&profilev1.ProfileRecord{ProfileId: from, Body: &profilev1.ProfileRecord_MergedInto{
		MergedInto: &profilev1.MergedInto{IntoProfileId: into, MergeId: id, AtMs: at},
	}})
}

func (w *world) drain() []*segmentv1.MembershipChanged {
	w.t.Helper()
	require.Empty(w.t, w.driver.DeadLetters())
	var changes []*segmentv1.MembershipChanged
	for _, rec := range w.driver.Drain(topics.Segments) {
		change := &segmentv1.MembershipChanged{}
		require.NoError(w.t, change.UnmarshalVT(rec.Value))
		require.Equal(w.t, string(topics.Key("acme", change.GetProfileId())), string(rec.Key))
		changes = append(changes, change)
	}
	return changes
}

func (w *world) expect(want ...*segmentv1.MembershipChanged) {
	w.t.Helper()
	got := w.drain()
	require.Len(w.t, got, len(want))
	for i := range want {
		want[i].Tenant = "acme"
		require.True(w.t, want[i].EqualVT(got[i]), "want %v\ngot  %v", want[i], got[i])
	}
}

// TestDriver follows an abandoned form and a count through time.
func TestDriver(t *testing.T) {
	w := newWorld(t,
		segment("left-form", 3, &definitionv1.Condition{Abandoned: &definitionv1.Abandoned{
			Started:  &definitionv1.EventFilter{Event: "Form Started"},
			Finished: &definitionv1.EventFilter{Event: "Form Sent"},
			Within:   "45m", Lasts: "1h",
		}}),
		segment("keen", 1, did("Product Viewed", 2, "10s")),
	)
	w.track("p", "m1", "Form Started", w.start)
	w.track("p", "m2", "Product Viewed", w.start)
	w.expect()
	require.NoError(t, w.driver.Advance(w.start.Add(4*time.Second)))
	w.track("p", "m3", "Product Viewed", w.start.Add(3*time.Second))
	w.expect(&segmentv1.MembershipChanged{
		ProfileId: "p", Segment: "keen", Version: 1, State: entered, AtMs: w.start.Add(3 * time.Second).UnixMilli(),
		Cause: segmentv1.Cause_CAUSE_EVENT, CauseId: "m3",
	})
	require.NoError(t, w.driver.Advance(w.start.Add(2*time.Hour)))
	w.expect(
		&segmentv1.MembershipChanged{
			ProfileId: "p", Segment: "keen", Version: 1, State: exited, AtMs: w.start.Add(10 * time.Second).UnixMilli(),
			Cause: segmentv1.Cause_CAUSE_TIMER,
		},
		&segmentv1.MembershipChanged{
			ProfileId: "p", Segment: "left-form", Version: 3, State: entered, AtMs: w.start.Add(45 * time.Minute).UnixMilli(),
			Cause: segmentv1.Cause_CAUSE_TIMER,
		},
		&segmentv1.MembershipChanged{
			ProfileId: "p", Segment: "left-form", Version: 3, State: exited, AtMs: w.start.Add(105 * time.Minute).UnixMilli(),
			Cause: segmentv1.Cause_CAUSE_TIMER,
		},
	)
	_, left := w.driver.State(Name, topics.Key("acme", "p"), "answers")
	require.False(t, left, "a profile of which no condition remembers anything has no state but what was told")
}

// TestDriverMerge joins two profiles: the anonymous one leaves its segments, the known one has both histories.
func TestDriverMerge(t *testing.T) {
	w := newWorld(t, segment("keen", 1, did("Product Viewed", 3, "7d")), segment("seen", 1, did("Product Viewed", 1, "")))
	w.track("anon", "m1", "Product Viewed", w.start)
	w.track("anon", "m2", "Product Viewed", w.start)
	w.track("known", "m3", "Product Viewed", w.start)
	w.drain()
	w.merge("anon", "known", "x1")
	at := w.start.UnixMilli()
	w.expect(
		&segmentv1.MembershipChanged{
			ProfileId: "anon", Segment: "seen", Version: 1, State: exited, AtMs: at, Cause: segmentv1.Cause_CAUSE_MERGE, CauseId: "x1",
		},
		&segmentv1.MembershipChanged{
			ProfileId: "known", Segment: "keen", Version: 1, State: entered, AtMs: at, Cause: segmentv1.Cause_CAUSE_MERGE, CauseId: "x1",
		},
	)
	// A straggler of the profile that ended follows to the one that goes on.
	w.track("anon", "m4", "Product Viewed", w.start)
	require.NoError(t, w.driver.Advance(w.start.Add(8*24*time.Hour)))
	w.expect(&segmentv1.MembershipChanged{
		ProfileId: "known", Segment: "keen", Version: 1, State: exited, AtMs: w.start.Add(7 * 24 * time.Hour).UnixMilli(),
		Cause: segmentv1.Cause_CAUSE_TIMER,
	})
}

// TestDriverDefinitions changes and deletes segments under a profile.
func TestDriverDefinitions(t *testing.T) {
	views := did("Product Viewed", 2, "7d")
	w := newWorld(t, segment("gone", 1, did("Product Viewed", 1, "")), segment("keen", 1, views))
	w.track("p", "m1", "Product Viewed", w.start)
	w.track("p", "m2", "Product Viewed", w.start)
	require.Len(t, w.drain(), 2)

	w.defs.snapshot = definition.NewSnapshot(
		segment("keen", 2, &definitionv1.Condition{All: []*definitionv1.Condition{views, {Where: `traits.plan == "gold"`}}}),
		segment("viewer", 1, views),
	)
	require.NoError(t, w.driver.Advance(w.start.Add(time.Minute)))
	w.expect()
	w.track("p", "m3", "Anything", w.driver.Now())
	at := w.driver.Now().UnixMilli()
	cause := segmentv1.Cause_CAUSE_DEFINITION
	w.expect(
		&segmentv1.MembershipChanged{ProfileId: "p", Segment: "gone", Version: 1, State: exited, AtMs: at, Cause: cause},
		&segmentv1.MembershipChanged{ProfileId: "p", Segment: "keen", Version: 2, State: exited, AtMs: at, Cause: cause},
		&segmentv1.MembershipChanged{ProfileId: "p", Segment: "viewer", Version: 1, State: entered, AtMs: at, Cause: cause},
	)
	w.event("p", &eventv1.Event{
		MessageId: "m4", Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, Traits: []byte(`{"plan":"gold"}`), TimestampMs: at, Historical: true,
	})
	w.expect(&segmentv1.MembershipChanged{
		ProfileId: "p", Segment: "keen", Version: 2, State: entered, AtMs: at, Cause: segmentv1.Cause_CAUSE_EVENT, CauseId: "m4", Historical: true,
	})
}

// TestDriverRefuses sends records that cannot be handled.
func TestDriverRefuses(t *testing.T) {
	w := newWorld(t, segment("seen", 1, did("", 1, "")))
	w.send(&profilev1.ProfileRecord{ProfileId: "p"})
	require.NoError(t, w.driver.Send(topics.ProfileLog, topics.Key("acme", "p"), []byte{0xff}))
	w.send(&profilev1.ProfileRecord{ProfileId: "p", Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{}}})
	w.track("p", "m", "Far", time.UnixMilli(1<<60))
	require.Len(t, w.driver.DeadLetters(), 4)
	require.Empty(t, w.driver.Output(topics.Segments))
}
