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
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

const day = 24 * time.Hour

// world is the stage on the in-memory driver.
type world struct {
	t      testing.TB
	driver *stream.Driver
	start  time.Time
}

func newWorld(t testing.TB, defs ...*definitionv1.Definition) *world {
	t.Helper()
	w := &world{t: t, start: time.UnixMilli(1_750_000_000_000).UTC()}
	metrics, err := NewMetrics(noop.NewMeterProvider())
	require.NoError(t, err)
	programs := NewPrograms(definition.Static(definition.NewSnapshot(defs...)), slog.New(slog.DiscardHandler))
	w.driver, err = stream.NewDriver(stream.DriverConfig{Start: w.start, Partitions: 4}, Topology(programs, metrics))
	require.NoError(t, err)
	return w
}

func score(name string, spec *definitionv1.Score) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "acme", Name: name, Version: 1, Spec: &definitionv1.Definition_Score{Score: spec}}
}

func value() *definitionv1.Definition {
	return score("value", &definitionv1.Score{Rfm: &definitionv1.Rfm{
		Purchase:    &definitionv1.EventFilter{Event: "Order Completed"},
		Refund:      &definitionv1.EventFilter{Event: "Order Refunded"},
		RecencyDays: []float64{30, 90}, Frequency: []float64{2}, Monetary: []float64{0.3},
		Labels: []*definitionv1.Label{{From: 3, Name: "lost"}, {From: 5, Name: "loyal"}},
	}})
}

func (w *world) send(record *profilev1.ProfileRecord) {
	w.t.Helper()
	record.Tenant = "acme"
	value, err := record.MarshalVT()
	require.NoError(w.t, err)
	require.NoError(w.t, w.driver.Send(topics.ProfileLog, topics.Key("acme", record.GetProfileId()), value))
}

func (w *world) track(profileID, id, name string, micros int64) {
	w.t.Helper()
	w.send(&profilev1.ProfileRecord{ProfileId: profileID, Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
		Event: &eventv1.Event{
			MessageId: id, Tenant: "acme", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name,
			TimestampMs: w.driver.Now().UnixMilli(), ValueMicros: micros,
		},
	}}})
}

func (w *world) expect(want ...*scorev1.ScoreChanged) {
	w.t.Helper()
	require.Empty(w.t, w.driver.DeadLetters())
	records := w.driver.Drain(topics.Scores)
	require.Len(w.t, records, len(want))
	for i := range want {
		got := &scorev1.ScoreChanged{}
		require.NoError(w.t, got.UnmarshalVT(records[i].Value))
		want[i].Tenant, want[i].Version = "acme", 1
		require.True(w.t, want[i].EqualVT(got), "want %v\ngot  %v", want[i], got)
		require.Equal(w.t, string(topics.Key("acme", got.GetProfileId())), string(records[i].Key))
	}
}

// TestDriver follows purchases through time: amounts are exact, recency is lost to the day.
func TestDriver(t *testing.T) {
	w := newWorld(t, value())
	w.track("p", "m1", "Order Completed", 100_000)
	w.track("p", "m2", "Order Completed", 200_000)
	w.track("p", "m3", "Anything", 200_000)
	event, timer := segmentv1.Cause_CAUSE_EVENT, segmentv1.Cause_CAUSE_TIMER
	at := w.start.UnixMilli()
	w.expect(
		&scorev1.ScoreChanged{
			ProfileId: "p", Score: "value", Value: 5, Label: "loyal", AtMs: at, Cause: event, CauseId: "m1",
			Components: map[string]float64{"recency_days": 0, "frequency": 1, "monetary": 0.1},
		},
		&scorev1.ScoreChanged{
			ProfileId: "p", Score: "value", Value: 7, Label: "loyal", AtMs: at, Cause: event, CauseId: "m2",
			Components: map[string]float64{"recency_days": 0, "frequency": 2, "monetary": 0.3},
		},
	)
	require.NoError(t, w.driver.Advance(w.start.Add(365*day)))
	w.expect(
		&scorev1.ScoreChanged{
			ProfileId: "p", Score: "value", Value: 6, Label: "loyal", AtMs: w.start.Add(30 * day).UnixMilli(), Cause: timer,
			Components: map[string]float64{"recency_days": 30, "frequency": 2, "monetary": 0.3},
		},
		&scorev1.ScoreChanged{
			ProfileId: "p", Score: "value", Value: 5, Label: "loyal", AtMs: w.start.Add(90 * day).UnixMilli(), Cause: timer,
			Components: map[string]float64{"recency_days": 90, "frequency": 2, "monetary": 0.3},
		},
	)
}

// TestDriverMerge joins two customers: one loses the score, the other has both histories.
func TestDriverMerge(t *testing.T) {
	w := newWorld(t, value())
	w.track("anon", "m1", "Order Completed", 100_000)
	w.track("known", "m2", "Order Completed", 250_000)
	w.track("known", "m3", "Order Refunded", -50_000)
	w.driver.Drain(topics.Scores)
	at := w.start.UnixMilli()
	w.send(&profilev1.ProfileRecord{ProfileId: "known", Body: &profilev1.ProfileRecord_MergeAnnounced{
		MergeAnnounced: &profilev1.MergeAnnounced{FromProfileId: "anon", MergeId: "x1", AtMs: at},
	}})
	w.send(&profilev1.ProfileRecord{ProfileId: "anon", Body: &profilev1.ProfileRecord_MergedInto{
		MergedInto: &profilev1.MergedInto{IntoProfileId: "known", MergeId: "x1", AtMs: at},
	}})
	cause := segmentv1.Cause_CAUSE_MERGE
	w.expect(
		&scorev1.ScoreChanged{ProfileId: "anon", Score: "value", AtMs: at, Cause: cause, CauseId: "x1", Removed: true},
		&scorev1.ScoreChanged{
			ProfileId: "known", Score: "value", Value: 7, Label: "loyal", AtMs: at, Cause: cause, CauseId: "x1",
			Components: map[string]float64{"recency_days": 0, "frequency": 2, "monetary": 0.3},
		},
	)
}

// TestDriverRefuses sends records that cannot be handled.
func TestDriverRefuses(t *testing.T) {
	w := newWorld(t, value())
	w.send(&profilev1.ProfileRecord{ProfileId: "p"})
	require.NoError(t, w.driver.Send(topics.ProfileLog, topics.Key("acme", "p"), []byte{0xff}))
	w.send(&profilev1.ProfileRecord{ProfileId: "p", Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{}}})
	require.Len(t, w.driver.DeadLetters(), 3)
}
