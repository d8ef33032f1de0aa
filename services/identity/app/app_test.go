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
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/identity/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDeps(t testing.TB, brokers []string) app.Deps {
	return app.Deps{
		Kafka:       kafka.Config{Brokers: brokers, Partitions: 3, Replication: 1},
		Definitions: definition.Static(definition.NewSnapshot()),
		Clock:       clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(), DataDir: t.TempDir(),
	}
}

func newClient(t testing.TB, deps app.Deps, opts ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(deps.Kafka.ProducerOptions(deps.Logger), opts...)...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func produce(t *testing.T, client *kgo.Client, messageID string, identifiers ...[2]string) {
	event := &eventv1.Event{MessageId: messageID, Tenant: "acme", Source: "web", TimestampMs: 1, ReceivedAtMs: 1}
	for _, id := range identifiers {
		event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: id[0], Value: id[1]})
	}
	value, err := event.MarshalVT()
	require.NoError(t, err)
	key := topics.Key("acme", identifiers[0][0]+":"+identifiers[0][1])
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.Events, Key: key, Value: value}).FirstErr())
}

// readLog reads the profile log until n events have come, and follows merges.
func readLog(t *testing.T, client *kgo.Client, profiles, into map[string]string, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(profiles) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err(), "%d of %d events came", len(profiles), n)
		fetches.EachRecord(func(rec *kgo.Record) {
			var entry profilev1.ProfileRecord
			require.NoError(t, entry.UnmarshalVT(rec.Value))
			switch body := entry.GetBody().(type) {
			case *profilev1.ProfileRecord_Event:
				id := body.Event.GetEvent().GetMessageId()
				require.NotContains(t, profiles, id, "emitted twice")
				profiles[id] = entry.GetProfileId()
			case *profilev1.ProfileRecord_MergedInto:
				into[entry.GetProfileId()] = body.MergedInto.GetIntoProfileId()
			}
		})
	}
}

func TestResolvesOnKafka(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		deps := newDeps(t, brokers)
		client := newClient(t, deps)
		require.NoError(t, deps.Kafka.EnsureTopics(t.Context(), client, topics.All()))
		reader := newClient(t, deps, kgo.ConsumeTopics(topics.ProfileLog), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()))

		profiles, into := map[string]string{}, map[string]string{}
		for round := range 3 { // the second on the state that the first left behind, the third from the changelog
			if round == 2 {
				deps.DataDir = t.TempDir()
			}
			service, err := app.New(app.NewDefaultConfig(), deps)
			require.NoError(t, err)
			require.NoError(t, service.Start(t.Context()))
			require.Eventually(t, func() bool { return service.Ready(t.Context()) == nil }, 20*time.Second, 10*time.Millisecond)

			produce(t, client, "seen", [2]string{"anonymous_id", "a"})
			for i := range 10 {
				anonymous := [2]string{"anonymous_id", fmt.Sprintf("a%d", i)}
				produce(t, client, fmt.Sprintf("alone-%d-%d", round, i), anonymous)
				produce(t, client, fmt.Sprintf("login-%d-%d", round, i), anonymous, [2]string{"user_id", "u"})
				produce(t, client, fmt.Sprintf("login-%d-%d", round, i), anonymous, [2]string{"user_id", "u"})
			}
			readLog(t, reader, profiles, into, 1+20*(round+1))
			require.NoError(t, service.Stop(t.Context()))
			require.NoError(t, service.Stop(t.Context()))
		}
		require.Len(t, into, 9, "ten visitors are one person")
		person := profiles["login-1-0"]
		for id, profile := range profiles {
			for into[profile] != "" {
				profile = into[profile]
			}
			require.Equal(t, id != "seen", profile == person, id)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, app.NewDefaultConfig().Validate())
	cfg := app.Config{}
	err := cfg.Validate()
	for _, field := range []string{"dedup_window", "max_held_events", "max_held_bytes", "ask_again"} {
		require.ErrorContains(t, err, field)
	}
	_, err = app.New(app.NewDefaultConfig(), app.Deps{})
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
