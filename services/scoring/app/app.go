// Package app is the scoring service as a value: one stage on the stream runtime that reads the profile
// log and keeps scores current. The caller owns the definitions and makes the topics before Start.
//
// TestOnKafka would catch the loss of the wiring: profile records in, scores out, across a restart.
package app

import (
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/stage"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/services/scoring/internal/processor"
)

// Config tunes the service.
type Config = stage.Config

// Deps are what the service works with.
type Deps = stage.Deps

// NewDefaultConfig leaves every setting to the stream runtime.
func NewDefaultConfig() Config { return Config{} }

// App is the service: its stage.
type App struct{ *stream.Runner }

var _ run.Component = (*App)(nil)

// New wires the service. Nothing is started and no connection made.
func New(cfg Config, deps Deps) (*App, error) {
	runner, err := stage.NewRunner(processor.Name, cfg, deps, NewTopology)
	if err != nil {
		return nil, err
	}
	return &App{Runner: runner}, nil
}

// NewTopology is the stage by itself, for the in-memory driver: simulation, and the oracle that a run
// under faults is compared with. Of deps it needs Definitions, Logger and Telemetry.
func NewTopology(deps Deps) (stream.Topology, error) {
	if err := deps.ForTopology(); err != nil {
		return stream.Topology{}, err
	}
	metrics, err := processor.NewMetrics(deps.Telemetry.Meter)
	if err != nil {
		return stream.Topology{}, err
	}
	return processor.Topology(processor.NewPrograms(deps.Definitions, deps.Logger), metrics), nil
}
