// Package app is the journey-orchestrator service: it carries profiles through journeys and decides each
// send within the contact pressure that a person accepts. It is one stage, `journeys`, on the stream
// runtime; its README says what it reads and writes.
package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/stage"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/catalog"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/meter"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/processor"
)

// Config is what a user sets: all of the stage's own.
type Config = stage.Config

// NewDefaultConfig leaves every setting to the stream runtime.
func NewDefaultConfig() Config { return Config{} }

// Deps is what the service is given. The definitions must have been read to their end before Start: a
// journey that is not there counts as deleted, and lets go of the people in it.
type Deps = stage.Deps

// App is the service.
type App struct {
	*stream.Runner
}

var _ run.Component = (*App)(nil)

// New builds the service and starts nothing.
func New(cfg Config, deps Deps) (*App, error) {
	runner, err := stage.NewRunner("journey-orchestrator", cfg, deps, NewTopology)
	if err != nil {
		return nil, err
	}
	return &App{Runner: runner}, nil
}

// NewTopology is what the stage does, for a runner or for the stream runtime's driver.
func NewTopology(deps Deps) (stream.Topology, error) {
	if err := deps.ForTopology(); err != nil {
		return stream.Topology{}, err
	}
	counters, err := meter.New(deps.Telemetry.Meter)
	if err != nil {
		return stream.Topology{}, fmt.Errorf("making the metrics: %w", err)
	}
	definitions := catalog.New(deps.Definitions, func(err error) {
		deps.Logger.ErrorContext(context.Background(), "definitions that do not compile are left out", slog.Any("error", err))
	})
	return processor.Topology(definitions, counters), nil
}
