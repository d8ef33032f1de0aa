package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	embeddedkafka "github.com/sillage-cdp/sillage/pkg/embedded/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	ingest "github.com/sillage-cdp/sillage/services/ingest/app"
)

const partitions = 4

var quiet = slog.New(slog.DiscardHandler)

// broker is an embedded Kafka on a folder of its own, with the catalogue's topics.
type broker struct {
	kafka  kafka.Config
	client *kgo.Client // for the harness itself
	broker *embeddedkafka.Broker
	dir    string
}

func startBroker(ctx context.Context, o Options) (b *broker, err error) {
	dir, err := os.MkdirTemp(o.Dir, "kafka-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the broker: %w", err)
	}
	b = &broker{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	if b.broker, err = embeddedkafka.Open(embeddedkafka.Config{DataDir: filepath.Join(dir, "data"), Addr: "127.0.0.1:0", Logger: quiet, Partitions: partitions}); err != nil {
		return b, err
	}
	if err := b.broker.Start(ctx); err != nil {
		return b, err
	}
	b.kafka = kafka.Config{Brokers: []string{b.broker.Addr()}, Partitions: partitions, Replication: -1}
	if b.client, err = kgo.NewClient(append(b.kafka.ProducerOptions(quiet), kgo.MaxBufferedRecords(50_000))...); err != nil {
		return b, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	return b, b.kafka.EnsureTopics(ctx, b.client, topics.All())
}

// stop ends the broker and removes what it kept.
func (b *broker) stop() error {
	if b.client != nil {
		b.client.Close()
	}
	var err error
	if b.broker != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = b.broker.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

const writeKey = "bench-write-key"

// newIngest is ingest on the broker as a stack builds it, started. It waits longer for Kafka than a
// client would: a benchmark counts no 503.
func newIngest(ctx context.Context, b *broker) (*ingest.App, error) {
	cfg := ingest.NewDefaultConfig()
	cfg.AckTimeout = 10 * time.Second
	cfg.MaxIdentityEventsPerSecond = 1e9 // one visitor sends all that there is
	app, err := ingest.New(cfg, ingest.Deps{
		Kafka: b.kafka, Clock: clock.System{}, Logger: quiet, Telemetry: telemetry.Nop(),
		Definitions: definition.Static(definition.NewSnapshot(
			&definitionv1.Definition{Tenant: "bench", Name: "bench", Spec: &definitionv1.Definition_TenantSpec{TenantSpec: &definitionv1.Tenant{}}},
			&definitionv1.Definition{Tenant: "bench", Name: "web", Spec: &definitionv1.Definition_Source{Source: &definitionv1.Source{WriteKeys: []string{writeKey}}}},
		)),
	})
	if err != nil {
		return nil, err
	}
	return app, app.Start(ctx)
}
