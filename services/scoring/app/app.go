// Package app is the scoring service as a value: one stage on the stream runtime that reads the profile
// log and keeps scores current. The caller owns the definitions and makes the topics before Start.
//
// TestOnKafka would catch the loss of the wiring: profile records in, scores out, across a restart.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/scoring/internal/processor"
)

// Config tunes the service. What is computed is a matter of each tenant's definitions.
type Config struct {
	// Stream tunes the stage. Its Kafka and DataDir are those of Deps.
	Stream stream.Config `koanf:"stream"`
}

// NewDefaultConfig leaves every setting to the stream runtime.
func NewDefaultConfig() Config { return Config{} }

// Validate says everything that is wrong with c. Stream is checked by New, with Deps, which make it whole.
func (c Config) Validate() error { return nil }

// Deps are what the service works with.
type Deps struct {
	Kafka       kafka.Config
	Definitions definition.Provider
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
	// DataDir is where the stage keeps its local state, in a directory of its own name.
	DataDir string
	// OnRestore, if set, is told how far the restore of a partition has come. It must not block.
	OnRestore func(stream.RestoreProgress)
}

// App is the service.
type App struct {
	runner *stream.Runner
}

var _ run.Component = (*App)(nil)

// New wires the service. Nothing is started and no connection made.
func New(cfg Config, deps Deps) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring scoring: %w", err)
	}
	top, err := NewTopology(deps)
	if err != nil {
		return nil, fmt.Errorf("configuring scoring: %w", err)
	}
	settings := cfg.Stream
	settings.Kafka, settings.DataDir = deps.Kafka, deps.DataDir
	runner, err := stream.NewRunner(top, settings, stream.Deps{
		Clock: deps.Clock, Logger: deps.Logger.With(slog.String("service", processor.Name)),
		Telemetry: deps.Telemetry, OnRestore: deps.OnRestore,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring scoring: %w", err)
	}
	return &App{runner: runner}, nil
}

// NewTopology is the stage by itself, for the in-memory driver: simulation, and the oracle that a run
// under faults is compared with. Of deps it needs Definitions, Logger and Telemetry.
func NewTopology(deps Deps) (stream.Topology, error) {
	var errs []error
	if deps.Definitions == nil {
		errs = append(errs, errors.New("deps.definitions is missing"))
	}
	if deps.Logger == nil {
		errs = append(errs, errors.New("deps.logger is missing"))
	}
	if deps.Telemetry.Meter == nil {
		errs = append(errs, errors.New("deps.telemetry is missing: use telemetry.Nop() for none"))
	}
	if err := errors.Join(errs...); err != nil {
		return stream.Topology{}, err
	}
	metrics, err := processor.NewMetrics(deps.Telemetry.Meter)
	if err != nil {
		return stream.Topology{}, err
	}
	return processor.Topology(processor.NewPrograms(deps.Definitions, deps.Logger), metrics), nil
}

// Start starts the stage. State may still be restored when it returns; see Ready.
func (a *App) Start(ctx context.Context) error { return a.runner.Start(ctx) }

// Stop finishes what the stage has in hand, within ctx.
func (a *App) Stop(ctx context.Context) error { return a.runner.Stop(ctx) }

// Ready is nil once the stage owns its partitions and has their state.
func (a *App) Ready(ctx context.Context) error { return a.runner.Ready(ctx) }

// Failed tells that the stage gave up.
func (a *App) Failed() <-chan error { return a.runner.Failed() }
