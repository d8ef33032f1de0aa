// Package app is control as a value: the definitions of all tenants over gRPC, kept in topic definitions.v1.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	"github.com/sillage-cdp/sillage/services/control/internal/catalog"
	"github.com/sillage-cdp/sillage/services/control/internal/rpc"
	"github.com/sillage-cdp/sillage/services/control/internal/topic"
)

// Config is what an operator may set.
type Config struct {
	// ChangeTimeout bounds one change, reading it back included, by the wall.
	ChangeTimeout time.Duration `koanf:"change_timeout"`
	// MaxPerRequest is how many definitions one request may apply.
	MaxPerRequest int `koanf:"max_per_request"`
	// MaxPerTenant is how many definitions a tenant may have.
	MaxPerTenant int `koanf:"max_per_tenant"`
}

// NewDefaultConfig is fit for production.
func NewDefaultConfig() Config {
	return Config{ChangeTimeout: 20 * time.Second, MaxPerRequest: 1000, MaxPerTenant: 2000}
}

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.ChangeTimeout < time.Second || c.ChangeTimeout > 10*time.Minute {
		errs = append(errs, fmt.Errorf("control.change_timeout: %s is not between 1s and 10m", c.ChangeTimeout))
	}
	if c.MaxPerRequest < 1 || c.MaxPerRequest > 10_000 {
		errs = append(errs, fmt.Errorf("control.max_per_request: %d is not between 1 and 10000", c.MaxPerRequest))
	}
	if c.MaxPerTenant < 1 || c.MaxPerTenant > 100_000 {
		errs = append(errs, fmt.Errorf("control.max_per_tenant: %d is not between 1 and 100000", c.MaxPerTenant))
	}
	return errors.Join(errs...)
}

// Definitions is the live table of definitions; *table.Table is one.
type Definitions interface {
	definition.Provider
	// Refresh returns when everything in the topic now has been read.
	Refresh(ctx context.Context) error
	// WaitFor returns when every record before offset has been read.
	WaitFor(ctx context.Context, offset int64) error
	// Ready is nil once the table has been read to the end.
	Ready(ctx context.Context) error
}

// Deps is what control works with. The caller owns all of it, and has made the topics.
type Deps struct {
	Kafka       kafka.Config
	Definitions Definitions
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
}

func (d Deps) validate() error {
	if d.Definitions == nil || d.Clock == nil || d.Logger == nil || d.Telemetry.Meter == nil {
		return errors.New("control needs Definitions, Clock, Logger and Telemetry")
	}
	return d.Kafka.Validate()
}

// App is control. It is a run.Component and serves gRPC once registered.
type App struct {
	definitions Definitions
	writer      *topic.Writer
	server      *rpc.Server
	failed      chan error
}

// New returns control; nothing is started.
func New(cfg Config, deps Deps) (*App, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	writer := topic.NewWriter(deps.Kafka, deps.Definitions, deps.Logger)
	server, err := rpc.New(rpc.Config{
		Limits:  catalog.Limits{PerRequest: cfg.MaxPerRequest, PerTenant: cfg.MaxPerTenant},
		Timeout: cfg.ChangeTimeout,
	}, store{deps.Definitions, writer}, deps.Clock, deps.Logger, deps.Telemetry.Meter.Meter("sillage.control"))
	if err != nil {
		return nil, fmt.Errorf("making the metrics of control: %w", err)
	}
	return &App{definitions: deps.Definitions, writer: writer, server: server, failed: make(chan error)}, nil
}

// RegisterGRPC adds DefinitionService.
func (a *App) RegisterGRPC(registrar grpc.ServiceRegistrar) {
	controlv1.RegisterDefinitionServiceServer(registrar, a.server)
}

// Server is DefinitionService for callers in the same process.
func (a *App) Server() controlv1.DefinitionServiceServer { return a.server }

// Start has nothing to start: control works when it is called.
func (a *App) Start(context.Context) error { return nil }

// Stop waits for a change in flight; later ones are refused.
func (a *App) Stop(ctx context.Context) error { return a.writer.Close(ctx) }

// Ready is nil once the definitions have been read.
func (a *App) Ready(ctx context.Context) error { return a.definitions.Ready(ctx) }

// Failed never has an error: a change that fails says so to its caller.
func (a *App) Failed() <-chan error { return a.failed }

// store is the topic, read through the table and written by the writer.
type store struct {
	definition.Provider
	*topic.Writer
}
