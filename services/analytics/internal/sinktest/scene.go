// Package sinktest is what tests of the sink and of the check of its tables stand on: a broker with topics, a
// database with the schema, and a sink that takes small batches often.
package sinktest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	"github.com/sillage-cdp/sillage/services/analytics/internal/schema"
	"github.com/sillage-cdp/sillage/services/analytics/internal/sink"
)

// Scene is a broker with topics, a database with the schema, and a producer. All of it ends with the test.
type Scene struct {
	Kafka  kafka.Config
	Conn   driver.Conn
	Client *kgo.Client

	t *testing.T
}

// New starts broker and database.
func New(t *testing.T) Scene {
	t.Helper()
	cfg := Kafka(t, kafkatest.StartEmbedded(t))
	conn := clickhousetest.Start(t).Conn(t)
	require.NoError(t, schema.Apply(t.Context(), conn))
	client, err := kgo.NewClient(cfg.ProducerOptions(slog.New(slog.DiscardHandler))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return Scene{t: t, Kafka: cfg, Conn: conn, Client: client}
}

// Kafka makes the topics on a broker.
func Kafka(t *testing.T, brokers []string) kafka.Config {
	t.Helper()
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers, cfg.Partitions = brokers, 3
	client, err := kgo.NewClient(cfg.Options(slog.New(slog.DiscardHandler))...)
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()))
	return cfg
}

// Start starts a sink from a broker to a database; the caller stops it.
func Start(t *testing.T, cfg kafka.Config, conn driver.Conn) *sink.Sink {
	t.Helper()
	k, err := sink.New(sink.Config{
		Kafka: cfg, Group: sink.DefaultGroup, Parallel: 2,
		Limits: sink.Limits{Records: 50, Bytes: 1 << 20, Age: 20 * time.Millisecond, Buffered: 8 << 20},
	}, conn, telemetry.Nop(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, k.Start(t.Context()))
	return k
}

// Produce writes a message of a person of tenant "demo" and waits until the broker has it.
func (s Scene) Produce(topic, person string, m interface{ MarshalVT() ([]byte, error) }) error {
	raw, err := m.MarshalVT()
	if err != nil {
		return err //nolint:wrapcheck // tests show it
	}
	return s.Client.ProduceSync(s.t.Context(), &kgo.Record{Topic: topic, Key: topics.Key("demo", person), Value: raw}).FirstErr() //nolint:wrapcheck // tests show it
}
