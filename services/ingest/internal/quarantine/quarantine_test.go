package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/plan"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
	"github.com/sillage-cdp/sillage/services/ingest/internal/quarantine"
)

var now = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

type scene struct {
	t       *testing.T
	brokers kafka.Config
	writer  *producer.Producer
}

func newScene(t *testing.T) *scene {
	cluster := kafkatest.StartCluster(t, kfake.SeedTopics(3, topics.Events, topics.Quarantine))
	s := &scene{t: t, brokers: kafka.Config{Brokers: cluster.ListenAddrs(), Partitions: 3, Replication: 1}}
	var err error
	s.writer, err = producer.New(producer.Config{AckTimeout: 10 * time.Second, MaxBufferedBytes: 32 << 20}, s.brokers, telemetry.Nop().Propagator, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.writer.Close(context.Background())) })
	return s
}

func event(source, id string, at time.Time, properties string) *eventv1.Event {
	return &eventv1.Event{
		Tenant: "acme", Source: source, MessageId: id, Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Order", TimestampMs: at.UnixMilli(),
		Properties: []byte(properties), Identifiers: []*eventv1.Identifier{{Namespace: "user_id", Value: id}},
	}
}

func (s *scene) aside(events ...*eventv1.Event) {
	var batch producer.Batch
	for _, ev := range events {
		require.NoError(s.t, batch.AddQuarantined(ev, &planv1.PlanViolation{Code: plan.CodeViolation}))
	}
	require.NoError(s.t, s.writer.Write(s.t.Context(), &batch))
}

func (s *scene) records(topic string, want int) (out []*kgo.Record) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(s.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	for len(out) < want {
		fetches := client.PollFetches(ctx)
		require.NoError(s.t, fetches.Err())
		out = append(out, fetches.Records()...)
	}
	return out
}

func (s *scene) letIn(want int) map[string]*eventv1.Event {
	out := map[string]*eventv1.Event{}
	for _, r := range s.records(topics.Events, want) {
		ev := new(eventv1.Event)
		require.NoError(s.t, ev.UnmarshalVT(r.Value))
		require.Equal(s.t, "acme/user_id:"+ev.GetMessageId(), string(r.Key))
		_, twice := out[ev.GetMessageId()]
		require.False(s.t, twice, ev.GetMessageId())
		out[ev.GetMessageId()] = ev
	}
	return out
}

func (s *scene) run(r quarantine.Replay, writer quarantine.Writer) (quarantine.Report, error) {
	r.Tenant, r.Source, r.Now, r.HistoryAfter = "acme", "web", now, 24*time.Hour
	return r.Run(s.t.Context(), s.brokers, writer, slog.New(slog.DiscardHandler))
}

func planOf(t *testing.T, schema string, mode definitionv1.PlanMode) *plan.Plan {
	p, err := plan.Compile(&definitionv1.Definition{Name: "web", Spec: &definitionv1.Definition_TrackingPlan{TrackingPlan: &definitionv1.TrackingPlan{
		Source: "web", Mode: mode, Events: []*definitionv1.PlannedEvent{{Event: "Order", Schema: schema}},
	}}})
	require.NoError(t, err)
	return p
}

func TestReplay(t *testing.T) {
	s := newScene(t)
	report, err := s.run(quarantine.Replay{}, s.writer)
	require.NoError(t, err)
	require.Zero(t, report, "nothing is set aside")

	s.aside(event("web", "young", now.Add(-time.Hour), `{"id":1}`), event("web", "old", now.Add(-25*time.Hour), `{"id":2}`),
		event("web", "bad", now, `{}`), event("app", "other", now, `{"id":3}`))
	numbers := planOf(t, `{"required":["id"]}`, definitionv1.PlanMode_PLAN_MODE_REJECT)
	report, err = s.run(quarantine.Replay{Plan: numbers, DryRun: true}, s.writer)
	require.NoError(t, err)
	require.Equal(t, quarantine.Report{Read: 3, LetIn: 2, Kept: 1}, report)

	report, err = s.run(quarantine.Replay{Plan: numbers}, s.writer)
	require.NoError(t, err)
	require.Equal(t, quarantine.Report{Read: 3, LetIn: 2, Kept: 1}, report, "the dry run changed nothing")
	events := s.letIn(2)
	require.False(t, events["young"].GetHistorical())
	require.True(t, events["old"].GetHistorical())

	report, err = s.run(quarantine.Replay{Plan: numbers}, s.writer)
	require.NoError(t, err)
	require.Equal(t, quarantine.Report{Read: 1, Kept: 1}, report, "what came in is done with; what is still wrong waits")
	report, err = s.run(quarantine.Replay{Plan: planOf(t, `{"required":["id"]}`, definitionv1.PlanMode_PLAN_MODE_OBSERVE)}, s.writer)
	require.NoError(t, err)
	require.Equal(t, quarantine.Report{Read: 1, LetIn: 1}, report)
	require.Contains(t, s.letIn(3), "bad")
	report, err = s.run(quarantine.Replay{}, s.writer)
	require.NoError(t, err)
	require.Zero(t, report)
}

// What is set aside anew says what is wrong with it by the plan of today, and is not read again by the run
// that set it aside; what was history when it came still is.
func TestWhatIsKeptSaysWhy(t *testing.T) {
	s := newScene(t)
	past := event("web", "past", now, `{"id":1}`)
	past.Historical = true
	var bad []*eventv1.Event
	for i := range 1200 { // more than a batch: the run reads while it writes
		bad = append(bad, event("web", fmt.Sprint("bad-", i), now, `{}`))
	}
	s.aside(append(bad, past)...)
	numbers := planOf(t, `{"required":["id"]}`, definitionv1.PlanMode_PLAN_MODE_REJECT)
	report, err := s.run(quarantine.Replay{Plan: numbers}, s.writer)
	require.NoError(t, err)
	require.Equal(t, quarantine.Report{Read: 1201, LetIn: 1, Kept: 1200}, report)
	require.True(t, s.letIn(1)["past"].GetHistorical())
	anew := 0
	for _, r := range s.records(topics.Quarantine, 2401) {
		var kept planv1.QuarantinedEvent
		require.NoError(t, kept.UnmarshalVT(r.Value))
		if len(kept.GetViolation().GetIssues()) == 0 {
			continue // as it was set aside first
		}
		anew++
		require.Equal(t, planv1.Action_ACTION_QUARANTINED, kept.GetViolation().GetAction())
		require.Equal(t, kept.GetEvent().GetMessageId(), kept.GetViolation().GetMessageId())
		require.Equal(t, "/id", kept.GetViolation().GetIssues()[0].GetPath())
	}
	require.Equal(t, 1200, anew)
}

// cut writes a number of batches and then no more.
type cut struct {
	quarantine.Writer
	left int
}

func (c *cut) Write(ctx context.Context, batch *producer.Batch) error {
	if c.left--; c.left < 0 {
		return errors.New("cut off")
	}
	return c.Writer.Write(ctx, batch)
}

// A run that is cut off loses nothing and goes on where it was.
func TestReplayIsCutOff(t *testing.T) {
	s := newScene(t)
	for part := range 5 {
		var events []*eventv1.Event
		for i := range 500 {
			events = append(events, event("web", fmt.Sprintf("%d-%d", part, i), now, `{}`))
		}
		s.aside(events...)
	}
	report, err := s.run(quarantine.Replay{}, &cut{s.writer, 1})
	require.ErrorContains(t, err, "letting events in: cut off")
	require.Greater(t, report.Read, 1000)
	report, err = s.run(quarantine.Replay{}, s.writer)
	require.NoError(t, err)
	require.Equal(t, 1500, report.LetIn, "the first batch is done with")
	require.Len(t, s.letIn(2500), 2500)
}
