package kafka_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestEnsureTopicsMakesWhatIsMissingAndChecksWhatIsThere(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		cfg := kafka.NewDefaultConfig()
		cfg.Brokers = brokers
		client, err := kgo.NewClient(cfg.ProducerOptions(quiet())...)
		require.NoError(t, err)
		defer client.Close()
		require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()))
		require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()), "a second time changes nothing")
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.Sends, Value: []byte("x")}).FirstErr())

		cfg.Partitions = 7
		require.ErrorContains(t, cfg.EnsureTopics(t.Context(), client, topics.All()), "set kafka.partitions to 4")
	})
}

func TestPingNamesTheBrokersAndTheWayOut(t *testing.T) {
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = []string{"127.0.0.1:1"}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := cfg.Ping(ctx, quiet())
	require.ErrorContains(t, err, "127.0.0.1:1")
	require.ErrorContains(t, err, "kafka.brokers")
}

func TestValidateNamesTheSetting(t *testing.T) {
	err := kafka.Config{Partitions: 0}.Validate()
	require.ErrorContains(t, err, "kafka.brokers")
	require.ErrorContains(t, err, "kafka.partitions")
}
