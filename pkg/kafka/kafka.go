// Package kafka is the only place that builds Kafka clients: every setting of a producer or consumer
// that matters stands here with its reason.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/sillage-cdp/sillage/pkg/topics"
)

// Config says where Kafka is.
type Config struct {
	// Brokers are `host:port` of one or more brokers.
	Brokers []string `koanf:"brokers"`
	// Partitions is the partition count of topics that are made. It cannot change later: keys would move.
	Partitions int32 `koanf:"partitions"`
	// Replication is the replication factor of topics that are made; -1 is the broker's default.
	Replication int16 `koanf:"replication"`
	// StartTimeout is how long a start waits for Kafka to answer. Default 30s: engines are often started
	// at the same time.
	StartTimeout time.Duration `koanf:"start_timeout"`
	// TLS and SASL say how, and as whom, the brokers are reached. Default: in the clear, as nobody.
	TLS  TLS  `koanf:"tls"`
	SASL SASL `koanf:"sasl"`
}

const dialTimeout = 5 * time.Second

// RetryTimeout is how long clients try a request.
const RetryTimeout = 30 * time.Second

// DefaultStartTimeout is the default of Config.StartTimeout.
const DefaultStartTimeout = 30 * time.Second

// NewDefaultConfig is for one broker on this machine.
func NewDefaultConfig() Config {
	return Config{Brokers: []string{"127.0.0.1:9092"}, Partitions: 4, Replication: -1, StartTimeout: DefaultStartTimeout}
}

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("kafka.brokers: at least one host:port is needed"))
	}
	if c.Partitions < 1 || c.Partitions > 1024 {
		errs = append(errs, fmt.Errorf("kafka.partitions: %d is not between 1 and 1024", c.Partitions))
	}
	if c.StartTimeout < 0 {
		errs = append(errs, fmt.Errorf("kafka.start_timeout: %s is negative", c.StartTimeout))
	}
	return errors.Join(append(errs, c.TLS.validate(), c.SASL.validate(c.TLS.Enabled))...)
}

// Options are the settings that every client shares. The returned slice may be appended to.
func (c Config) Options(logger *slog.Logger) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.WithLogger(quiet{kslog.New(logger.With(slog.String("component", "kafka")))}),
		// KIP-714: our metrics go to our own operators, not to the broker's.
		kgo.DisableClientMetrics(),
		// A broker that does not answer is given up in seconds, so that start-up can say so.
		kgo.DialTimeout(dialTimeout),
		kgo.RetryTimeout(RetryTimeout),
		// Metadata that is at most this old: a topic made by another service is seen within a second.
		kgo.MetadataMinAge(250 * time.Millisecond),
	}
	if c.TLS.Enabled {
		opts = append(opts, kgo.Dialer(c.TLS.dial))
	}
	return append(opts, c.SASL.options()...)
}

// quiet keeps the client's play-by-play for debugging: normal operation logs nothing.
type quiet struct{ kgo.Logger }

// Level is debug if the logger's is, else warn.
func (q quiet) Level() kgo.LogLevel {
	if level := q.Logger.Level(); level == kgo.LogLevelDebug {
		return level
	}
	return kgo.LogLevelWarn
}

// ProducerOptions are for producers whose records must be neither lost nor doubled by the client: acks
// from all in-sync replicas, idempotence (kgo's default), and bounded buffers so that a silent broker
// pushes back instead of filling memory.
func (c Config) ProducerOptions(logger *slog.Logger) []kgo.Opt {
	return append(c.Options(logger),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(1<<20),
		kgo.MaxBufferedBytes(64<<20),
		// Snappy costs little and JSON halves; no linger by default: batches form while requests are in flight.
		kgo.ProducerBatchCompression(kgo.SnappyCompression()),
		kgo.ProducerLinger(0),
	)
}

// Ping says whether Kafka answers, with an error that names the brokers and the way out.
func (c Config) Ping(ctx context.Context, logger *slog.Logger) error {
	client, err := kgo.NewClient(c.Options(logger)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		return fmt.Errorf("reaching Kafka at %v: %w (check kafka.brokers, or leave it unset for the embedded broker)", c.Brokers, err)
	}
	return nil
}

// EnsureTopics creates the topics of the catalogue that are missing, waits until all can be used, and
// checks their partition counts. It may be called by several services at once.
func (c Config) EnsureTopics(ctx context.Context, client *kgo.Client, wanted []topics.Topic) error {
	admin := kadm.NewClient(client)
	for _, t := range wanted {
		if err := c.ensureTopic(ctx, admin, t, c.partitionsOf(t)); err != nil {
			return fmt.Errorf("creating topic %s: %w", t.Name, err)
		}
	}
	for {
		missing, err := c.checkPartitions(ctx, admin, wanted)
		if err != nil || missing == "" {
			return err
		}
		// A broker answers the creation before its metadata shows the topic.
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for topic %s to show: %w", missing, ctx.Err())
		}
	}
}

func (c Config) partitionsOf(t topics.Topic) int32 {
	if t.SinglePartition {
		return 1
	}
	return c.Partitions
}

func (c Config) ensureTopic(ctx context.Context, admin *kadm.Client, t topics.Topic, partitions int32) error {
	configs := map[string]*string{"cleanup.policy": new(string(t.Cleanup))}
	if t.Cleanup == topics.Delete && t.Retention > 0 {
		configs["retention.ms"] = new(strconv.FormatInt(t.Retention.Milliseconds(), 10))
	}
	_, err := admin.CreateTopic(ctx, partitions, c.Replication, configs, t.Name)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// checkPartitions returns a topic that does not show yet, if there is one.
func (c Config) checkPartitions(ctx context.Context, admin *kadm.Client, wanted []topics.Topic) (missing string, err error) {
	names := make([]string, 0, len(wanted))
	for _, t := range wanted {
		names = append(names, t.Name)
	}
	details, err := admin.ListTopics(ctx, names...)
	if err != nil {
		return "", fmt.Errorf("listing topics: %w", err)
	}
	for _, t := range wanted {
		switch have, want := len(details[t.Name].Partitions), int(c.partitionsOf(t)); {
		case have == 0:
			missing = t.Name
		case have != want:
			return "", fmt.Errorf("topic %s has %d partitions and the configuration says %d: set kafka.partitions to %d", t.Name, have, want, have)
		}
	}
	return missing, nil
}
