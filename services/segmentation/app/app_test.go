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
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/segmentation/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDeps(t *testing.T, brokers []string) app.Deps {
	viewed := &definitionv1.Condition{Performed: &definitionv1.Performed{
		Filter: &definitionv1.EventFilter{Event: "Product Viewed"}, AtLeast: 2, Within: "7d",
	}}
	return app.Deps{
		Kafka: kafka.Config{Brokers: brokers, Partitions: 3, Replication: 1},
		Definitions: definition.Static(definition.NewSnapshot(&definitionv1.Definition{
			Tenant: "acme", Name: "keen", Version: 4,
			Spec: &definitionv1.Definition_Segment{Segment: &definitionv1.Segment{Condition: viewed}},
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

// TestOnKafka sends one view of each profile before a restart and one after it: the second makes the segment.
func TestOnKafka(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		const profiles = 20
		deps := newDeps(t, brokers)
		client := newClient(t, deps)
		require.NoError(t, deps.Kafka.EnsureTopics(t.Context(), client, topics.All()))
		reader := newClient(t, deps, kgo.ConsumeTopics(topics.Segments), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
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
				readEntries(t, reader, profiles)
			}
			require.NoError(t, service.Stop(t.Context()))
			require.NoError(t, service.Stop(t.Context()))
		}
	})
}

// readEntries reads until n profiles have entered the segment, each by its second event.
func readEntries(t *testing.T, reader *kgo.Client, n int) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := map[string]bool{}
	for len(seen) < n {
		fetches := reader.PollFetches(ctx)
		require.NoError(t, fetches.Err(), "%d of %d entries came", len(seen), n)
		fetches.EachRecord(func(rec *kgo.Record) {
			var change segmentv1.MembershipChanged
			require.NoError(t, change.UnmarshalVT(rec.Value))
			require.Equal(t, segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED, change.GetState())
			require.Equal(t, "m-"+change.GetProfileId()[1:]+"-1", change.GetCauseId())
			require.Equal(t, int64(4), change.GetVersion())
			require.False(t, seen[change.GetProfileId()], "entered twice")
			seen[change.GetProfileId()] = true
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
