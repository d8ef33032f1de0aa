// Package app is the journey-orchestrator service: it carries profiles through journeys and decides each
// send within the contact pressure that a person accepts. It is one stage, `journeys`, on the stream
// runtime; its README says what it reads and writes.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/catalog"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/meter"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/processor"
)

// Config is what a user sets. Zero values are the stream runtime's defaults.
type Config struct {
	// InstanceID names this instance among those that are live; default: made once and kept with the state.
	InstanceID string `koanf:"instance_id"`
	// CommitInterval is how long a transaction may collect records under load.
	CommitInterval time.Duration `koanf:"commit_interval"`
	// MaxBatchRecords bounds the records of a transaction.
	MaxBatchRecords int `koanf:"max_batch_records"`
	// CacheBytes is the block cache of the state.
	CacheBytes int64 `koanf:"cache_bytes"`
}

// NewDefaultConfig is the stream runtime's defaults.
func NewDefaultConfig() Config { return Config{} }

// Validate says everything that is wrong with c by itself; New checks the rest with what it is given.
func (c Config) Validate() error {
	var errs []error
	if c.CommitInterval < 0 {
		errs = append(errs, fmt.Errorf("commit_interval: %s is negative", c.CommitInterval))
	}
	if c.MaxBatchRecords < 0 {
		errs = append(errs, fmt.Errorf("max_batch_records: %d is negative", c.MaxBatchRecords))
	}
	if c.CacheBytes < 0 {
		errs = append(errs, fmt.Errorf("cache_bytes: %d is negative", c.CacheBytes))
	}
	return errors.Join(errs...)
}

// Deps is what the service is given. The definitions must have been read to their end before Start: a
// journey that is not there counts as deleted, and lets go of the people in it.
type Deps struct {
	Kafka       kafka.Config
	Definitions definition.Provider
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
	// DataDir is where local state lies.
	DataDir string
	// OnRestore, if set, is told how far the restore of state has come.
	OnRestore func(stream.RestoreProgress)
}

// App is the service.
type App struct {
	*stream.Runner
}

var _ run.Component = (*App)(nil)

// New builds the service and starts nothing.
func New(cfg Config, deps Deps) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Definitions == nil || deps.Logger == nil || deps.Telemetry.Meter == nil {
		return nil, errors.New("deps: definitions, logger and telemetry are needed")
	}
	counters, err := meter.New(deps.Telemetry.Meter)
	if err != nil {
		return nil, fmt.Errorf("making the metrics: %w", err)
	}
	logger := deps.Logger.With(slog.String("service", "journey-orchestrator"))
	definitions := catalog.New(deps.Definitions, func(err error) {
		logger.ErrorContext(context.Background(), "definitions that do not compile are left out", slog.Any("error", err))
	})
	runner, err := stream.NewRunner(processor.Topology(definitions, counters), streamConfig(cfg, deps),
		stream.Deps{Clock: deps.Clock, Logger: logger, Telemetry: deps.Telemetry, OnRestore: deps.OnRestore})
	if err != nil {
		return nil, fmt.Errorf("making the stage %s: %w", processor.Name, err)
	}
	return &App{Runner: runner}, nil
}

func streamConfig(cfg Config, deps Deps) stream.Config {
	return stream.Config{
		Kafka: deps.Kafka, DataDir: deps.DataDir, InstanceID: cfg.InstanceID,
		CommitInterval: cfg.CommitInterval, MaxBatchRecords: cfg.MaxBatchRecords, CacheBytes: cfg.CacheBytes,
	}
}
