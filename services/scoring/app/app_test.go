package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	"github.com/sillage-cdp/sillage/services/scoring/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDeps(t *testing.T, brokers []string) app.Deps {
	interest := &definitionv1.Heat{HalfLife: "52w", Rules: []*definitionv1.HeatRule{{
		Filter: &definitionv1.EventFilter{Event: "Product Viewed"}, Points: 2,
	}}}
	return app.Deps{
		Kafka: kafka.Config{Brokers: brokers, Partitions: 3, Replication: 1},
		Definitions: definition.Static(definition.NewSnapshot(&definitionv1.Definition{
			Tenant: "acme", Name: "interest", Version: 4,
			Spec: &definitionv1.Definition_Score{Score: &definitionv1.Score{Heat: interest}},
		})),
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(), DataDir: t.TempDir(),
	}
}

func newClient(t *testing.T, deps app.Deps, opts ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(deps.Kafka.ProducerOptions(deps.Logger), opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func produce(t *testing.T, client *kgo.Client, profileID, messageID string) {
	record := &profilev1.ProfileRecord{Tenant: "acme", ProfileId: profileID, Body: &profilev1.ProfileRecord_Event{
		Event: &profilev1.ResolvedEvent{Event: &eventv1.Event{
			MessageId: messageID, Tenant: "acme", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Product Viewed",
			TimestampMs: time.Now().UnixMilli(),
		}},
	}}
	value, err := record.MarshalVT()
	require.NoError(t, err)
	rec := &kgo.Record{Topic: topics.ProfileLog, Key: topics.Key("acme", profileID), Value: value}
	require.NoError(t, client.ProduceSync(t.Context(), rec).FirstErr())
}

// TestOnKafka sends one view of each profile before a restart and one after it: the points add up.
func TestOnKafka(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		const profiles = 20
		deps := newDeps(t, brokers)
		client := newClient(t, deps)
		require.NoError(t, deps.Kafka.EnsureTopics(t.Context(), client, topics.All()))
		reader := newClient(t, deps, kgo.ConsumeTopics(topics.Scores), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		for round := range 2 {
			service, err := app.New(app.NewDefaultConfig(), deps)
			require.NoError(t, err)
			require.NoError(t, service.Start(t.Context()))
			require.Eventually(t, func() bool { return service.Ready(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)
			for i := range profiles {
				produce(t, client, fmt.Sprintf("p%d", i), fmt.Sprintf("m-%d-%d", i, round))
			}
			if round == 1 {
				readScores(t, reader, profiles)
			}
			require.NoError(t, service.Stop(t.Context()))
			require.NoError(t, service.Stop(t.Context()))
		}
	})
}

// readScores reads until n profiles have the points of both their events.
func readScores(t *testing.T, reader *kgo.Client, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := map[string]int{}
	for done := 0; done < n; {
		fetches := reader.PollFetches(ctx)
		require.NoError(t, fetches.Err(), "%d of %d scores came", done, n)
		fetches.EachRecord(func(rec *kgo.Record) {
			var change scorev1.ScoreChanged
			require.NoError(t, change.UnmarshalVT(rec.Value))
			round := seen[change.GetProfileId()]
			seen[change.GetProfileId()]++
			require.Equal(t, fmt.Sprintf("m-%s-%d", change.GetProfileId()[1:], round), change.GetCauseId())
			require.InDelta(t, 2*float64(round+1), change.GetValue(), 1e-3)
			require.Equal(t, int64(4), change.GetVersion())
			done += round
		})
	}
}

func TestDepsAreChecked(t *testing.T) {
	_, err := app.New(app.NewDefaultConfig(), app.Deps{})
	require.ErrorContains(t, err, "deps.definitions")
	deps := newDeps(t, []string{"127.0.0.1:1"})
	deps.DataDir = ""
	_, err = app.New(app.NewDefaultConfig(), deps)
	require.ErrorContains(t, err, "data_dir")
}

func TestStopBeforeStart(t *testing.T) {
	service, err := app.New(app.NewDefaultConfig(), newDeps(t, []string{"127.0.0.1:1"}))
	require.NoError(t, err)
	require.NoError(t, service.Stop(t.Context()))
	require.Error(t, service.Ready(t.Context()))
}
