// Package app is the decision service: it answers who somebody is, now, from its own serving copy.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	"github.com/sillage-cdp/sillage/services/decision/internal/follow"
	"github.com/sillage-cdp/sillage/services/decision/internal/rpc"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
)

// Config is what a user sets.
type Config struct {
	// CacheBytes is how much of the serving copy is kept in memory.
	CacheBytes int64 `koanf:"cache_bytes"`
}

// NewDefaultConfig keeps 64 MiB in memory.
func NewDefaultConfig() Config { return Config{CacheBytes: 64 << 20} }

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	if c.CacheBytes < 1<<20 {
		return fmt.Errorf("cache_bytes: %d is under a mebibyte", c.CacheBytes)
	}
	return nil
}

// Deps is what the service is given.
type Deps struct {
	Kafka     kafka.Config
	Logger    *slog.Logger
	Telemetry telemetry.Providers
	DataDir   string
}

// App is the service as a component.
type App struct {
	store    *store.Store
	follower *follow.Follower
	server   *rpc.Server
}

// New opens the serving copy, which Stop closes, and builds the service; it reads nothing yet.
func New(cfg Config, deps Deps) (*App, error) {
	if err := errors.Join(cfg.Validate(), deps.Kafka.Validate()); err != nil {
		return nil, err
	}
	s, err := store.Open(deps.DataDir, cfg.CacheBytes)
	if err != nil {
		return nil, err
	}
	follower, err := follow.New(deps.Kafka, s, deps.Telemetry, deps.Logger)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &App{store: s, follower: follower, server: rpc.New(s, follower.Ready, deps.Logger)}, nil
}

// RegisterGRPC adds ProfileService.
func (a *App) RegisterGRPC(r grpc.ServiceRegistrar) {
	decisionv1.RegisterProfileServiceServer(r, a.server)
}

// Start begins to follow the topics.
func (a *App) Start(ctx context.Context) error { return a.follower.Start(ctx) }

// Stop ends the following and closes the serving copy; a second call does nothing.
func (a *App) Stop(ctx context.Context) error {
	if a.store == nil {
		return nil
	}
	err := errors.Join(a.follower.Stop(ctx), a.store.Close())
	a.store = nil
	return err
}

// Ready is nil once the copy holds what was there at the start.
func (a *App) Ready(ctx context.Context) error { return a.follower.Ready(ctx) }

// Failed tells of a copy that cannot be written.
func (a *App) Failed() <-chan error { return a.follower.Failed() }
