// Package stack is everything in one process: the embedded engines, or others' addresses in their place,
// and every service on them. What starts, and in which order, is one list in build.go.
package stack

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/service"
	"github.com/sillage-cdp/sillage/pkg/telemetry/sdk"
	analytics "github.com/sillage-cdp/sillage/services/analytics/app"
	connector "github.com/sillage-cdp/sillage/services/channel-connector/app"
	control "github.com/sillage-cdp/sillage/services/control/app"
	decision "github.com/sillage-cdp/sillage/services/decision/app"
	identity "github.com/sillage-cdp/sillage/services/identity/app"
	ingest "github.com/sillage-cdp/sillage/services/ingest/app"
	journeys "github.com/sillage-cdp/sillage/services/journey-orchestrator/app"
	scoring "github.com/sillage-cdp/sillage/services/scoring/app"
	segmentation "github.com/sillage-cdp/sillage/services/segmentation/app"
)

// Kafka says which Kafka is used.
type Kafka struct {
	// Brokers are of a Kafka of one's own; empty: the embedded broker.
	Brokers []string `koanf:"brokers"`
	// Listen is where the embedded broker listens.
	Listen string `koanf:"listen"`
	// Partitions is the partition count of topics that are made.
	Partitions int32 `koanf:"partitions"`
	// Replication is the replication factor of topics that are made; -1 is the broker's default.
	Replication int16 `koanf:"replication"`
	// StartTimeout is how long a start waits for Kafka to answer.
	StartTimeout time.Duration `koanf:"start_timeout"`
	// TLS and SASL say how, and as whom, a Kafka of one's own is reached.
	TLS  kafka.TLS  `koanf:"tls"`
	SASL kafka.SASL `koanf:"sasl"`
}

// ClickHouse says which ClickHouse is used.
type ClickHouse struct {
	// Addr is of a ClickHouse of one's own; empty: the embedded engine.
	Addr string `koanf:"addr"`
	// Listen is where the embedded engine's HTTP interface listens.
	Listen string `koanf:"listen"`
	// Library is the path of the embedded engine's library; empty: where `make engines` puts it.
	Library     string `koanf:"library"`
	Database    string `koanf:"database"`
	Username    string `koanf:"username"`
	PasswordRef string `koanf:"password_ref"`
	// StartTimeout is how long a start waits for ClickHouse to answer.
	StartTimeout time.Duration `koanf:"start_timeout"`
}

// Config is what a user sets.
type Config struct {
	// DataDir holds all that the process keeps.
	DataDir  string `koanf:"data_dir"`
	LogLevel string `koanf:"log_level"`
	// ClockSpeed makes the stack's time run faster than the wall's, for demonstrations.
	ClockSpeed float64 `koanf:"clock_speed"`
	// StopTimeout bounds the stop.
	StopTimeout time.Duration `koanf:"stop_timeout"`

	HTTP       service.Listen `koanf:"http"`
	GRPC       service.Listen `koanf:"grpc"`
	Ops        service.Listen `koanf:"ops"`
	SMTP       service.Listen `koanf:"smtp"`
	Kafka      Kafka          `koanf:"kafka"`
	ClickHouse ClickHouse     `koanf:"clickhouse"`
	Telemetry  sdk.Config     `koanf:"telemetry"`

	Ingest       ingest.Config       `koanf:"ingest"`
	Identity     identity.Config     `koanf:"identity"`
	Segmentation segmentation.Config `koanf:"segmentation"`
	Scoring      scoring.Config      `koanf:"scoring"`
	Journeys     journeys.Config     `koanf:"journeys"`
	Connector    connector.Config    `koanf:"connector"`
	Analytics    analytics.Config    `koanf:"analytics"`
	Control      control.Config      `koanf:"control"`
	Decision     decision.Config     `koanf:"decision"`
}

// NewDefaultConfig is everything embedded, on this machine only.
func NewDefaultConfig() Config {
	channels := connector.NewDefaultConfig()
	// Links in mails lead to wherever the HTTP port is, unless the user names another address.
	channels.PublicURL = ""
	return Config{
		DataDir: "data", LogLevel: "warn", ClockSpeed: 1, StopTimeout: 30 * time.Second,
		HTTP:       service.Listen{Addr: "127.0.0.1:8080"},
		GRPC:       service.Listen{Addr: "127.0.0.1:9090"},
		Ops:        service.Listen{Addr: "127.0.0.1:9464"},
		SMTP:       service.Listen{Addr: "127.0.0.1:2525"},
		Kafka:      Kafka{Listen: "127.0.0.1:9092", Partitions: 4, Replication: -1, StartTimeout: kafka.DefaultStartTimeout},
		ClickHouse: ClickHouse{Listen: "127.0.0.1:8123", Database: "sillage", StartTimeout: analytics.DefaultStartTimeout},
		Telemetry:  sdk.NewDefaultConfig(),
		Ingest:     ingest.NewDefaultConfig(), Identity: identity.NewDefaultConfig(), Segmentation: segmentation.NewDefaultConfig(),
		Scoring: scoring.NewDefaultConfig(), Journeys: journeys.NewDefaultConfig(), Connector: channels,
		Analytics: analytics.NewDefaultConfig(), Control: control.NewDefaultConfig(), Decision: decision.NewDefaultConfig(),
	}
}

// Validate says everything that is wrong with c by itself; services check their own settings when built.
func (c *Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir: must not be empty"))
	}
	if c.ClockSpeed < 1 || c.ClockSpeed > 100_000 {
		errs = append(errs, fmt.Errorf("clock_speed: %v is not between 1 and 100000", c.ClockSpeed))
	}
	if c.StopTimeout <= 0 {
		errs = append(errs, fmt.Errorf("stop_timeout: %s is not positive", c.StopTimeout))
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %q is none of debug, info, warn, error", c.LogLevel))
	}
	if len(c.Kafka.Brokers) == 0 && (c.Kafka.TLS.Enabled || c.Kafka.SASL.Mechanism != "") {
		errs = append(errs, errors.New("kafka.tls, kafka.sasl: the embedded broker listens on this machine in the clear; name the brokers of your own Kafka in kafka.brokers"))
	}
	return errors.Join(append(errs, c.KafkaInUse().Validate(), c.Telemetry.Validate())...)
}

// KafkaInUse is how clients reach the Kafka in use, the embedded one or one's own.
func (c *Config) KafkaInUse() kafka.Config {
	brokers := c.Kafka.Brokers
	if len(brokers) == 0 {
		brokers = []string{c.Kafka.Listen}
	}
	return kafka.Config{
		Brokers: brokers, Partitions: c.Kafka.Partitions, Replication: c.Kafka.Replication, StartTimeout: c.Kafka.StartTimeout,
		TLS: c.Kafka.TLS, SASL: c.Kafka.SASL,
	}
}

// analytics are the settings of analytics with the ClickHouse in use.
func (c *Config) analytics() analytics.Config {
	cfg := c.Analytics
	addr := c.ClickHouse.Addr
	if addr == "" {
		addr = c.ClickHouse.Listen
	}
	cfg.ClickHouse = analytics.ClickHouse{
		Addr: addr, Database: c.ClickHouse.Database, Username: c.ClickHouse.Username, PasswordRef: c.ClickHouse.PasswordRef, StartTimeout: c.ClickHouse.StartTimeout,
	}
	return cfg
}

// publicURL is where tracking links lead.
func (c *Config) publicURL() string {
	if c.Connector.PublicURL != "" {
		return c.Connector.PublicURL
	}
	host, port, err := net.SplitHostPort(c.HTTP.Addr)
	if err != nil {
		return "http://" + c.HTTP.Addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// dir is a folder of the data directory.
func (c *Config) dir(name string) string { return filepath.Join(c.DataDir, name) }

// OutboxDir is where the mails that left are kept.
func (c *Config) OutboxDir() string { return c.dir("outbox") }
