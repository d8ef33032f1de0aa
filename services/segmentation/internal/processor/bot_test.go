package processor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// A bot's events move no segment: not by what was done, not by being there at all, not by traits.
func TestABotMovesNoSegment(t *testing.T) {
	w := newWorld(t,
		segment("gold", 1, &definitionv1.Condition{Where: `traits.plan == "gold"`}),
		segment("idle", 1, &definitionv1.Condition{Inactive: &definitionv1.Inactive{For: "1h"}}),
		segment("new", 1, &definitionv1.Condition{Not: did("Order Completed", 1, "")}),
		segment("viewer", 1, did("Product Viewed", 1, "")),
	)
	at := w.start.UnixMilli()
	bot := func(id string, kind eventv1.EventType, name, traits string) *eventv1.Event {
		return &eventv1.Event{MessageId: id, Tenant: "acme", Type: kind, Name: name, Traits: []byte(traits), TimestampMs: at, Bot: true}
	}
	w.event("p", bot("m1", eventv1.EventType_EVENT_TYPE_TRACK, "Product Viewed", ""))
	w.event("p", bot("m2", eventv1.EventType_EVENT_TYPE_IDENTIFY, "", `{"plan":"gold"}`))
	require.NoError(t, w.driver.Advance(w.start.Add(2*time.Hour)))
	w.expect()

	w.event("p", &eventv1.Event{MessageId: "m3", Tenant: "acme", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Product Viewed", TimestampMs: w.driver.Now().UnixMilli()})
	var segments []string
	for _, change := range w.drain() {
		require.Equal(t, segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED, change.GetState())
		segments = append(segments, change.GetSegment())
	}
	require.Equal(t, []string{"new", "viewer"}, segments)
	w.event("p", bot("m4", eventv1.EventType_EVENT_TYPE_TRACK, "Order Completed", ""))
	w.expect()
}
