package app_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/topics"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// What is not as planned is observed, set aside or refused; each time Kafka has the reason before the client
// has its answer, and whoever sent it can read it.
func TestTrackingPlan(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	got := s.post("/v1/batch", plannedKey, `{"batch":[
		{"type":"track","event":"Order Completed","messageId":"good","userId":"u","properties":{"order_id":"1","revenue":2.5}},
		{"type":"track","event":"Order Completed","messageId":"aside","userId":"ada@example.com","properties":{"order_id":"secret","revenue":"2,50"}},
		{"type":"track","event":"Seen","messageId":"observed","userId":"u"},
		{"type":"track","event":"Made Up","messageId":"refused","userId":"u"},
		{"type":"page","messageId":"page","userId":"u"}]}`, "X-Sillage-Verbose", "1")
	require.Equal(t, 200, got.status)
	require.JSONEq(t, `{"success":true,"accepted":3,"rejected":[
		{"index":1,"messageId":"aside","code":"quarantined","message":"set aside: not as the tracking plan planned says: /revenue: type: planned number, found string"},
		{"index":3,"messageId":"refused","code":"unplanned_event","message":"the tracking plan planned does not list this event"}]}`, got.body)
	require.Equal(t, map[string]int{"good": 1, "observed": 1, "page": 1}, s.messageIDs())

	violations := map[string]*planv1.PlanViolation{}
	for _, r := range records(t, s.brokers, topics.Violations) {
		v := new(planv1.PlanViolation)
		require.NoError(t, v.UnmarshalVT(r.Value))
		require.Equal(t, "acme/planned", string(r.Key))
		require.NotContains(t, string(r.Value), "secret")
		require.NotContains(t, string(r.Value), "ada@")
		require.EqualValues(t, 3, v.GetPlanVersion())
		violations[v.GetMessageId()] = v
	}
	require.Len(t, violations, 3)
	require.Equal(t, planv1.Action_ACTION_QUARANTINED, violations["aside"].GetAction())
	require.JSONEq(t, `{"order_id":"string","revenue":"string"}`, string(violations["aside"].GetSample()))
	require.Equal(t, planv1.Action_ACTION_OBSERVED, violations["observed"].GetAction())
	require.Equal(t, planv1.Action_ACTION_REJECTED, violations["refused"].GetAction())

	reasons := map[string]string{}
	for _, entry := range s.ledger() {
		reasons[entry.GetMessageId()] = entry.GetReason()
	}
	require.Equal(t, map[string]string{"aside": "quarantined", "refused": "unplanned_event"}, reasons)

	aside := records(t, s.brokers, topics.Quarantine)
	require.Len(t, aside, 1)
	kept := new(planv1.QuarantinedEvent)
	require.NoError(t, kept.UnmarshalVT(aside[0].Value))
	require.Equal(t, "ada@example.com", kept.GetEvent().GetUserId(), "the whole event, as it would have been let in")
	require.Equal(t, "aside", kept.GetViolation().GetMessageId())

	// A call of its own: what is set aside is kept, and the client has done its part; what is refused it is told.
	require.Equal(t, 200, s.post("/v1/track", plannedKey, `{"event":"Order Completed","userId":"u"}`).status)
	refused := s.post("/v1/track", plannedKey, `{"event":"Made Up","userId":"u"}`)
	require.Equal(t, 400, refused.status)
	_, code := refused.says(t)
	require.Equal(t, "unplanned_event", code)
	require.Equal(t, 200, s.post("/v1/track", webKey, `{"event":"Made Up","userId":"u"}`).status, "another source has no plan")
}

// What was set aside comes in once the plan is mended, and is an event like any other then.
func TestReplayQuarantine(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	require.Equal(t, 200, s.post("/v1/track", plannedKey, `{"event":"Order Completed","messageId":"late","userId":"u","properties":{"revenue":1}}`).status)
	require.Empty(t, s.messageIDs())
	mended := definitions().Snapshot().Plan("acme", "planned").CloneVT()
	mended.GetTrackingPlan().Events[0].Schema = `{"required":["revenue"]}`
	replay := app.Replay{
		Kafka: kafka.Config{Brokers: s.brokers, Partitions: 4, Replication: 1}, Logger: slog.New(slog.DiscardHandler),
		Definitions: definitions().Snapshot(), Tenant: "acme", Source: "planned", Now: arrivedAt,
	}
	report, err := replay.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, app.ReplayReport{Read: 1, Kept: 1}, report)
	replay.Definitions = definition.NewSnapshot(append(definitions().Snapshot().All(), mended)...)
	report, err = replay.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, app.ReplayReport{Read: 1, LetIn: 1}, report)
	require.Equal(t, map[string]int{"late": 1}, s.messageIDs())
	replay.Source = "none"
	_, err = replay.Run(t.Context())
	require.ErrorContains(t, err, "there is no source acme/none")
}
