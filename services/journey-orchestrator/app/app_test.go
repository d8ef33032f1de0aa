package app_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/app"
)

func TestMain(m *testing.M) {
	// The Apache Kafka that all tests share, where one is asked for, lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/sillage-cdp/sillage/pkg/kafkatest.(*Apache).reap"))
}

const base = `
kind: tenant
tenant: bank
name: bank
spec: {timezone: Europe/Paris}
---
kind: channel
tenant: bank
name: email
spec: {email: {from: "Bank <hello@bank.example>"}}
---
kind: template
tenant: bank
name: hello
spec: {email: {subject: Hello, html: "<p>Hello</p>"}}
---
kind: template
tenant: bank
name: changed
spec: {email: {subject: Changed, html: "<p>Changed</p>"}}
---
`

func snapshot(t *testing.T, version int64, template string) *definition.Snapshot {
	journey := `
kind: journey
tenant: bank
name: welcome
spec:
  entry: {event: {event: Signed Up}}
  steps:
    - {id: pause, wait: {for: 45m}}
    - {id: mail, send: {channel: email, template: ` + template + `}}
`
	defs, err := definition.ParseYAML(strings.NewReader(base+journey), "test")
	require.NoError(t, err)
	for _, def := range defs {
		def.Version = version
	}
	return definition.NewSnapshot(defs...)
}

type live struct {
	current atomic.Pointer[definition.Snapshot]
}

func (l *live) Snapshot() *definition.Snapshot { return l.current.Load() }

// TestRestartInMidWait: a person waits on version 1 when the instance stops, its disk is lost, and
// version 2 comes into force. The next instance has the wait and version 1 from the changelog, and the
// message goes out once, as it was defined when the person entered.
func TestRestartInMidWait(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		cfg := kafka.Config{Brokers: brokers, Partitions: 2, Replication: 1}
		client, err := kgo.NewClient(append(cfg.ProducerOptions(slog.New(slog.DiscardHandler)),
			kgo.ConsumeTopics(topics.Steps, topics.Sends), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
		require.NoError(t, err)
		defer client.Close()
		require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()))
		// A broker answers that a topic is made before its own metadata show it.
		require.Eventually(t, func() bool {
			listed, err := kadm.NewClient(client).ListTopics(t.Context(), topics.ProfileLog, topics.Segments, topics.Scores, topics.Sends, topics.Steps)
			return err == nil && listed.Error() == nil
		}, 20*time.Second, 50*time.Millisecond)
		definitions := &live{}
		definitions.current.Store(snapshot(t, 1, "hello"))
		manual := clock.NewManual(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
		begin := func() *app.App {
			a, err := app.New(app.NewDefaultConfig(), app.Deps{
				Kafka: cfg, Definitions: definitions, Clock: manual, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(), DataDir: t.TempDir(),
			})
			require.NoError(t, err)
			require.NoError(t, a.Start(t.Context()))
			require.Eventually(t, func() bool { return a.Ready(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)
			return a
		}
		stop := func(a *app.App) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			require.NoError(t, a.Stop(ctx))
		}

		first := begin()
		signUp(t, client)
		got := &tail{client: client}
		got.until(t, func() bool { return len(got.steps) == 2 })
		require.Equal(t, journeyv1.StepAction_STEP_ACTION_WAITING, got.steps[1].GetAction())
		stop(first)

		definitions.current.Store(snapshot(t, 2, "changed"))
		second := begin()
		defer stop(second)
		manual.Advance(45 * time.Minute)
		got.until(t, func() bool { return len(got.sends) == 1 && len(got.steps) == 5 })
		require.Equal(t, "hello", got.sends[0].GetTemplate())
		require.Equal(t, int64(1), got.sends[0].GetVersion())
		require.Equal(t, deliveryv1.Decision_DECISION_SEND, got.sends[0].GetDecision())
		require.JSONEq(t, `{"name":"Signed Up","properties":{"plan":"gold"}}`, string(got.sends[0].GetTrigger()))
		require.Equal(t, "completed", got.steps[4].GetReason())
	})
}

func signUp(t *testing.T, client *kgo.Client) {
	rec := &profilev1.ProfileRecord{Tenant: "bank", ProfileId: "ada", Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
		Event: &eventv1.Event{
			MessageId: "m1", Tenant: "bank", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Signed Up", TimestampMs: 1,
			Properties: []byte(`{"plan":"gold"}`), Traits: []byte(`{"email":"ada@x.example"}`),
		},
	}}}
	value, err := rec.MarshalVT()
	require.NoError(t, err)
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.ProfileLog, Key: topics.Key("bank", "ada"), Value: value}).FirstErr())
}

// tail gathers what the service wrote.
type tail struct {
	client *kgo.Client
	steps  []*journeyv1.JourneyStep
	sends  []*deliveryv1.Send
}

func (l *tail) until(t *testing.T, done func() bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !done() {
		fetches := l.client.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "waited in vain: %d steps, %d sends", len(l.steps), len(l.sends))
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Topic == topics.Sends {
				s := &deliveryv1.Send{}
				require.NoError(t, s.UnmarshalVT(rec.Value))
				l.sends = append(l.sends, s)
				return
			}
			s := &journeyv1.JourneyStep{}
			require.NoError(t, s.UnmarshalVT(rec.Value))
			l.steps = append(l.steps, s)
		})
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, app.NewDefaultConfig().Validate())
	_, err := app.New(app.NewDefaultConfig(), app.Deps{})
	require.ErrorContains(t, err, "deps.definitions")
	cfg := app.NewDefaultConfig()
	cfg.Stream.Standbys = -1
	_, err = app.New(cfg, app.Deps{Definitions: definition.Static(definition.NewSnapshot()), Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop()})
	require.ErrorContains(t, err, "standbys")
}
