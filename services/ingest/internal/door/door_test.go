package door

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/plan"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

var now = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func event(kind eventv1.EventType, name, user string) *eventv1.Event {
	return &eventv1.Event{
		Tenant: "acme", Source: "web", Type: kind, Name: name, MessageId: "m", UserId: user,
		Identifiers: []*eventv1.Identifier{{Namespace: "user_id", Value: user}},
	}
}

func rules() *Rules {
	return &Rules{Identity: limit.Rate{PerSecond: 10, Burst: 20}, Names: new(limit.Names).For("acme/web"), MaxNames: 3}
}

func TestRefusals(t *testing.T) {
	const track, page = eventv1.EventType_EVENT_TYPE_TRACK, eventv1.EventType_EVENT_TYPE_PAGE
	d, r := New(nil), rules()
	for i := range 3 {
		require.Zero(t, d.Admit(event(track, fmt.Sprint("E", i), fmt.Sprint(i)), r, Visit{Now: now}))
	}
	require.Equal(t, wire.TooManyNames, d.Admit(event(track, "E3", "u"), r, Visit{Now: now}).Problem.Code)
	require.Zero(t, d.Admit(event(track, "E0", "u"), r, Visit{Now: now}))
	require.Zero(t, d.Admit(event(eventv1.EventType_EVENT_TYPE_IDENTIFY, "", "u"), r, Visit{Now: now}), "no name is no name too many")
	view := event(page, "E0", "u")
	require.Zero(t, d.Admit(view, r, Visit{Now: now}))
	require.Equal(t, OtherName, view.GetName(), "a page of that name is another name, and loses it")

	passed := 0
	for range 100 {
		if d.Admit(event(track, "E0", "loop"), r, Visit{Now: now}).Problem == nil {
			passed++
		}
	}
	require.Equal(t, 20, passed)
	require.Equal(t, wire.IdentityTooFast, d.Admit(event(track, "E0", "loop"), r, Visit{Now: now}).Problem.Code)
	require.Zero(t, d.Admit(event(track, "E0", "loop"), r, Visit{Now: now, Import: true}))
	require.Zero(t, d.Admit(event(track, "E0", "another"), r, Visit{Now: now}))
	other := event(track, "E0", "loop")
	other.Tenant = "globex"
	require.Zero(t, d.Admit(other, r, Visit{Now: now}), "the same id of another tenant is another identity")
	device := event(track, "E0", "loop")
	device.Identifiers[0].Namespace = "anonymous_id"
	require.Zero(t, d.Admit(device, r, Visit{Now: now}), "and so is one of another kind")
}

func TestPlan(t *testing.T) {
	const track = eventv1.EventType_EVENT_TYPE_TRACK
	spec := &definitionv1.TrackingPlan{Source: "web", Mode: definitionv1.PlanMode_PLAN_MODE_QUARANTINE, Unplanned: definitionv1.PlanMode_PLAN_MODE_REJECT,
		Events: []*definitionv1.PlannedEvent{
			{Event: "Order", Schema: `{"required":["id"]}`},
			{Event: "Seen", Schema: `{"required":["id"]}`, Mode: definitionv1.PlanMode_PLAN_MODE_OBSERVE},
		}}
	compiled, err := plan.Compile(&definitionv1.Definition{Tenant: "acme", Name: "web", Spec: &definitionv1.Definition_TrackingPlan{TrackingPlan: spec}})
	require.NoError(t, err)
	d, r := New(nil), rules()
	r.Plan, r.MaxNames = compiled, 0

	good := event(track, "Order", "u")
	good.Properties = []byte(`{"id":1}`)
	require.Zero(t, d.Admit(good, r, Visit{Now: now}), "what is planned needs no room among the names")

	bad := event(track, "Order", "u")
	bad.Page = &eventv1.Page{Url: "https://shop.example/"}
	aside := d.Admit(bad, r, Visit{Now: now})
	require.True(t, aside.Quarantined())
	require.Equal(t, "set aside: not as the tracking plan web says: /id: required, found nothing", aside.Problem.Detail)
	require.Equal(t, "direct", bad.GetChannel(), "it is enriched: this is how it will come in")

	seen := d.Admit(event(track, "Seen", "u"), r, Visit{Now: now})
	require.Nil(t, seen.Problem)
	require.Equal(t, planv1.Action_ACTION_OBSERVED, seen.Violation.GetAction())

	unknown := d.Admit(event(track, "Made Up", "u"), r, Visit{Now: now})
	require.Equal(t, wire.UnplannedEvent, unknown.Problem.Code)
	require.Equal(t, planv1.Action_ACTION_REJECTED, unknown.Violation.GetAction())
	require.False(t, unknown.Quarantined())
}
