// Package stage is what every service that is one stage on the stream runtime has in common: its settings,
// what it is given, and how both make a runner. What the stage does is its topology, and the service's own.
package stage

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// Config tunes the service. What is computed is a matter of each tenant's definitions. Its zero value
// leaves every setting to the stream runtime.
type Config struct {
	// Stream tunes the stage. Its Kafka and DataDir are those of Deps.
	Stream stream.Config `koanf:"stream"`
}

// Validate says everything that is wrong with c by itself: nothing. Stream is checked by NewRunner, with
// Deps, which make it whole.
func (c Config) Validate() error { return nil }

// Deps are what the service works with. The caller owns all of it, and has made the topics.
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

// ForTopology says what is missing of that which a topology needs: Definitions, Logger and Telemetry.
func (d Deps) ForTopology() error {
	var errs []error
	if d.Definitions == nil {
		errs = append(errs, errors.New("deps.definitions is missing"))
	}
	if d.Logger == nil {
		errs = append(errs, errors.New("deps.logger is missing"))
	}
	if d.Telemetry.Meter == nil {
		errs = append(errs, errors.New("deps.telemetry is missing: use telemetry.Nop() for none"))
	}
	return errors.Join(errs...)
}

// NewRunner makes the runner of a service's stage. Nothing is started and no connection made.
func NewRunner(service string, cfg Config, deps Deps, topology func(Deps) (stream.Topology, error)) (*stream.Runner, error) {
	top, err := topology(deps)
	if err != nil {
		return nil, fmt.Errorf("configuring %s: %w", service, err)
	}
	settings := cfg.Stream
	settings.Kafka, settings.DataDir = deps.Kafka, deps.DataDir
	runner, err := stream.NewRunner(top, settings, stream.Deps{
		Clock: deps.Clock, Logger: deps.Logger.With(slog.String("service", service)),
		Telemetry: deps.Telemetry, OnRestore: deps.OnRestore,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring %s: %w", service, err)
	}
	return runner, nil
}
