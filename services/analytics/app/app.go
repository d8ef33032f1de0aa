// Package app is the analytics service: every stream in the analysts' tables of ClickHouse, each row
// once. The tables, views and their columns stand in internal/schema, with comments that DESCRIBE shows.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/secret"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/analytics/internal/schema"
	"github.com/sillage-cdp/sillage/services/analytics/internal/sink"
)

// ClickHouse says where the tables are.
type ClickHouse struct {
	// Addr is `host:port` of ClickHouse's HTTP interface.
	Addr string `koanf:"addr"`
	// Database holds the tables; it is made if it is missing.
	Database string `koanf:"database"`
	// Username and PasswordRef (`env:NAME`, `file:PATH`) log in; empty for the embedded engine.
	Username    string `koanf:"username"`
	PasswordRef string `koanf:"password_ref"`
	// StartTimeout is how long a start waits for ClickHouse to answer; 0 is the default. A server that
	// answers and refuses is not waited for.
	StartTimeout time.Duration `koanf:"start_timeout"`
}

// DefaultStartTimeout is the default of ClickHouse.StartTimeout: engines are often started at the same time.
const DefaultStartTimeout = 30 * time.Second

// Config is what a user sets.
type Config struct {
	ClickHouse ClickHouse `koanf:"clickhouse"`
	// BatchRecords, BatchBytes and BatchAge end a batch of one partition.
	BatchRecords int           `koanf:"batch_records"`
	BatchBytes   int           `koanf:"batch_bytes"`
	BatchAge     time.Duration `koanf:"batch_age"`
	// BufferBytes bounds what is read and not yet written.
	BufferBytes int `koanf:"buffer_bytes"`
	// Parallel is how many partitions are written at once.
	Parallel int `koanf:"parallel"`
}

// NewDefaultConfig writes to this machine's ClickHouse; a row is there about a second after its event.
func NewDefaultConfig() Config {
	return Config{
		ClickHouse:   ClickHouse{Addr: "127.0.0.1:8123", Database: "sillage", StartTimeout: DefaultStartTimeout},
		BatchRecords: 20_000, BatchBytes: 16 << 20, BatchAge: time.Second, BufferBytes: 64 << 20, Parallel: 2,
	}
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.ClickHouse.Addr == "" {
		errs = append(errs, errors.New("clickhouse.addr: host:port of ClickHouse's HTTP interface is needed"))
	}
	if !plainName.MatchString(c.ClickHouse.Database) {
		errs = append(errs, fmt.Errorf("clickhouse.database: %q is no plain name", c.ClickHouse.Database))
	}
	if err := secret.Check(c.ClickHouse.PasswordRef); err != nil {
		errs = append(errs, fmt.Errorf("clickhouse.password_ref: %w", err))
	}
	if c.ClickHouse.StartTimeout < 0 {
		errs = append(errs, fmt.Errorf("clickhouse.start_timeout: %s is negative", c.ClickHouse.StartTimeout))
	}
	for name, n := range map[string]int{
		"batch_records": c.BatchRecords, "batch_bytes": c.BatchBytes, "buffer_bytes": c.BufferBytes, "parallel": c.Parallel,
	} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("%s: %d is not positive", name, n))
		}
	}
	if c.BatchAge < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("batch_age: %s is under 10ms", c.BatchAge))
	}
	return errors.Join(errs...)
}

// Deps is what the service is given.
type Deps struct {
	Kafka     kafka.Config
	Logger    *slog.Logger
	Telemetry telemetry.Providers
}

// App is the service as a component.
type App struct {
	cfg    Config
	conn   driver.Conn
	sink   *sink.Sink
	logger *slog.Logger
}

// New builds the service and starts nothing.
func New(cfg Config, deps Deps) (*App, error) {
	if err := errors.Join(cfg.Validate(), deps.Kafka.Validate()); err != nil {
		return nil, err
	}
	conn, err := open(cfg.ClickHouse, cfg.ClickHouse.Database, cfg.Parallel)
	if err != nil {
		return nil, err
	}
	s, err := sink.New(sink.Config{
		Kafka: deps.Kafka, Group: sink.DefaultGroup, Parallel: cfg.Parallel,
		Limits: sink.Limits{Records: cfg.BatchRecords, Bytes: cfg.BatchBytes, Age: cfg.BatchAge, Buffered: cfg.BufferBytes},
	}, conn, deps.Telemetry, deps.Logger)
	if err != nil {
		return nil, err
	}
	return &App{cfg: cfg, conn: conn, sink: s, logger: deps.Logger}, nil
}

func open(cfg ClickHouse, database string, parallel int) (driver.Conn, error) {
	password, err := secret.Resolve(cfg.PasswordRef)
	if err != nil {
		return nil, err
	}
	conn, err := ch.Open(&ch.Options{
		Protocol: ch.HTTP, Addr: []string{cfg.Addr},
		Auth:         ch.Auth{Database: database, Username: cfg.Username, Password: password.Reveal()},
		DialTimeout:  5 * time.Second,
		ReadTimeout:  2 * time.Minute,
		MaxOpenConns: parallel + 2,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring the ClickHouse client: %w", err)
	}
	return conn, nil
}

// Start makes the database and its schema and begins to write. A ClickHouse that does not answer in time,
// or does not let us in, is an error that names it.
func (a *App) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.cfg.ClickHouse.StartTimeout, DefaultStartTimeout))
	defer cancel()
	if err := a.makeDatabase(ctx); err != nil {
		return err
	}
	if err := schema.Apply(ctx, a.conn); err != nil {
		return err
	}
	return a.sink.Start(ctx)
}

func (a *App) makeDatabase(ctx context.Context) error {
	admin, err := open(a.cfg.ClickHouse, "default", 1)
	if err != nil {
		return err
	}
	defer admin.Close() //nolint:errcheck // its work is done
	for said := false; ; {
		err := admin.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+a.cfg.ClickHouse.Database)
		if err == nil {
			return nil
		}
		if denied(err) {
			return fmt.Errorf("making the database on ClickHouse at %s: %w (check clickhouse.username and clickhouse.password_ref)", a.cfg.ClickHouse.Addr, err)
		}
		if !said {
			said = true
			a.logger.WarnContext(ctx, "ClickHouse does not answer; trying again", slog.String("addr", a.cfg.ClickHouse.Addr), slog.Any("error", err))
		}
		timer := time.NewTimer(500 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("reaching ClickHouse at %s: %w (check clickhouse.addr, or leave it unset for the embedded engine)", a.cfg.ClickHouse.Addr, err)
		}
	}
}

// denials are ClickHouse's codes for a user that it does not know or that may not do this.
var denials = map[int32]bool{
	164: true, // READONLY
	192: true, // UNKNOWN_USER
	193: true, // WRONG_PASSWORD
	194: true, // REQUIRED_PASSWORD
	497: true, // ACCESS_DENIED
	516: true, // AUTHENTICATION_FAILED
}

func denied(err error) bool {
	exception, ok := errors.AsType[*ch.Exception](err)
	return ok && denials[exception.Code]
}

// Stop ends the writing; what was not written is read again at the next start.
func (a *App) Stop(ctx context.Context) error { return errors.Join(a.sink.Stop(ctx), a.conn.Close()) }

// Ready is nil if ClickHouse answers.
func (a *App) Ready(ctx context.Context) error {
	if err := a.conn.Ping(ctx); err != nil {
		return fmt.Errorf("reaching ClickHouse at %s: %w", a.cfg.ClickHouse.Addr, err)
	}
	return nil
}

// Failed tells of a sink that cannot go on.
func (a *App) Failed() <-chan error { return a.sink.Failed() }
