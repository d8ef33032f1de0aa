package door

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
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
		require.Nil(t, d.Admit(event(track, fmt.Sprint("E", i), fmt.Sprint(i)), r, Visit{Now: now}))
	}
	require.Equal(t, wire.TooManyNames, d.Admit(event(track, "E3", "u"), r, Visit{Now: now}).Code)
	require.Nil(t, d.Admit(event(track, "E0", "u"), r, Visit{Now: now}))
	require.Nil(t, d.Admit(event(eventv1.EventType_EVENT_TYPE_IDENTIFY, "", "u"), r, Visit{Now: now}), "no name is no name too many")
	view := event(page, "E0", "u")
	require.Nil(t, d.Admit(view, r, Visit{Now: now}))
	require.Equal(t, OtherName, view.GetName(), "a page of that name is another name, and loses it")

	passed := 0
	for range 100 {
		if d.Admit(event(track, "E0", "loop"), r, Visit{Now: now}) == nil {
			passed++
		}
	}
	require.Equal(t, 20, passed)
	require.Equal(t, wire.IdentityTooFast, d.Admit(event(track, "E0", "loop"), r, Visit{Now: now}).Code)
	require.Nil(t, d.Admit(event(track, "E0", "loop"), r, Visit{Now: now, Import: true}))
	require.Nil(t, d.Admit(event(track, "E0", "another"), r, Visit{Now: now}))
	other := event(track, "E0", "loop")
	other.Tenant = "globex"
	require.Nil(t, d.Admit(other, r, Visit{Now: now}), "the same id of another tenant is another identity")
}
