// Package app is the identity service as a value: the resolver and the graph, each a stage on the stream
// runtime. The caller owns the definitions and makes the topics before Start.
//
// TestResolvesOnKafka would catch the loss of the wiring: events in, profiles out, across a restart.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/services/identity/internal/topology"
)

// meterName names the service's instruments.
const meterName = "github.com/sillage-cdp/sillage/services/identity"

// App is the service, a run.Component.
type App struct {
	group  *run.Group
	failed chan error

	mu    sync.Mutex         // guards what follows
	watch context.CancelFunc // ends the watcher; nil if there is none
	done  chan struct{}      // closed when the watcher has ended
}

var _ run.Component = (*App)(nil)

// New wires the service. Nothing is started and no connection made.
func New(cfg Config, deps Deps) (*App, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("configuring identity: %w", err)
	}
	meter := deps.Telemetry.Meter.Meter(meterName)
	resolver, err := topology.Resolver(cfg.resolver(), deps.Definitions, meter)
	if err != nil {
		return nil, fmt.Errorf("making the resolver: %w", err)
	}
	graph, err := topology.Graph(deps.Definitions, meter)
	if err != nil {
		return nil, fmt.Errorf("making the graph: %w", err)
	}
	logger := deps.Logger.With(slog.String("service", "identity"))
	settings := cfg.Stream
	settings.Kafka, settings.DataDir = deps.Kafka, deps.DataDir
	var components []run.Named
	// The graph first: when the resolver asks, there is someone to answer.
	for _, top := range []stream.Topology{graph, resolver} {
		runner, err := stream.NewRunner(top, settings, stream.Deps{
			Clock: deps.Clock, Logger: logger, Telemetry: deps.Telemetry, OnRestore: deps.OnRestore,
		})
		if err != nil {
			return nil, fmt.Errorf("configuring %s: %w", top.Name, err)
		}
		components = append(components, run.Named{Name: top.Name, Component: runner})
	}
	return &App{group: run.NewGroup(logger, components...), failed: make(chan error, 1)}, nil
}

// Start starts both stages. State may still be restored when it returns; see Ready.
func (a *App) Start(ctx context.Context) error {
	if err := a.group.Start(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.watch, a.done = cancel, make(chan struct{})
	go a.passOn(watching, a.done)
	return nil
}

// passOn waits for the first failure of a stage.
func (a *App) passOn(ctx context.Context, done chan struct{}) {
	defer close(done)
	if err := a.group.Wait(ctx); err != nil {
		a.failed <- err
	}
}

// Stop finishes what the stages have in hand, within ctx.
func (a *App) Stop(ctx context.Context) error {
	a.mu.Lock()
	if a.watch != nil {
		a.watch()
		<-a.done
		a.watch = nil
	}
	a.mu.Unlock()
	return a.group.Stop(ctx)
}

// Ready is nil once both stages own their partitions and have their state.
func (a *App) Ready(ctx context.Context) error { return a.group.Ready(ctx) }

// Failed tells of a stage that gave up.
func (a *App) Failed() <-chan error { return a.failed }
