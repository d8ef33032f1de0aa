// Package service is the process around one service: flags, configuration, logging, telemetry, the
// operations port, the definitions table, topics, servers, signals. Everything that a `main` of
// services/<name>/cmd/<name> would repeat stands here once; what the service is stands in its app.
//
// Order of start: operations port, Kafka and its topics, definitions, the service, its ports. Stop is the
// reverse: readiness goes first, then a pause for load balancers, then everything within a bounded time.
package service

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/config"
	"github.com/sillage-cdp/sillage/pkg/definition/table"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/telemetry/sdk"
	"github.com/sillage-cdp/sillage/pkg/topics"
	"github.com/sillage-cdp/sillage/pkg/version"
)

// Env is what a service is built from.
type Env struct {
	Kafka kafka.Config
	// Definitions is started before the service and stopped after it.
	Definitions *table.Table
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
	// DataDir is the service's own folder.
	DataDir string
}

// Parts are what a service consists of. Only App is required.
type Parts struct {
	App run.Component
	// Handler is served on http.addr.
	Handler http.Handler
	// RegisterGRPC adds to the server on grpc.addr.
	RegisterGRPC func(grpc.ServiceRegistrar)
}

// Spec describes a service with settings of type C.
type Spec[C config.Validator] struct {
	// Name is the service's name, as in its folder.
	Name string
	// Settings holds the defaults; it is filled before Build is called. C is a pointer to a struct.
	Settings C
	// Build makes the service.
	Build func(settings C, env Env) (Parts, error)
}

// Main runs the process of a service and returns its exit code.
func Main[C config.Validator](spec Spec[C]) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := mainErr(ctx, spec, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", spec.Name, err)
		return 1
	}
	return 0
}

func mainErr[C config.Validator](ctx context.Context, spec Spec[C], args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet(spec.Name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config.file", "", "YAML file with settings")
	verify := flags.Bool("config.verify", false, "check the configuration and exit")
	printVersion := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if *printVersion {
		fmt.Fprintln(stderr, spec.Name, version.Version)
		return nil
	}
	settings := &Settings[C]{Process: NewDefaultProcess(), Service: spec.Settings}
	if err := config.Load(settings, config.Sources{File: *path, Lookup: os.LookupEnv}); err != nil {
		return err
	}
	if *verify {
		fmt.Fprintln(stderr, "the configuration is right")
		return nil
	}
	return serve(ctx, spec, settings, NewLogger(stderr, settings.Process.LogLevel))
}

// NewLogger writes JSON lines of the given level (debug, info, warn, error) and above.
func NewLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	// Validate has checked the word; an unknown one is info.
	_ = l.UnmarshalText([]byte(level))
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}

func serve[C config.Validator](ctx context.Context, spec Spec[C], settings *Settings[C], logger *slog.Logger) error {
	process := settings.Process
	tel, err := sdk.New(ctx, process.Telemetry, "sillage-"+spec.Name, version.Version)
	if err != nil {
		return err
	}
	definitions, err := table.New(process.Kafka, logger)
	if err != nil {
		return fmt.Errorf("making the definitions table: %w", err)
	}
	parts, err := spec.Build(settings.Service, Env{
		Kafka: process.Kafka, Definitions: definitions, Clock: clock.System{}, Logger: logger,
		Telemetry: tel.Providers(), DataDir: process.DataDir,
	})
	if err != nil {
		return fmt.Errorf("building %s: %w", spec.Name, err)
	}
	group := assemble(process, tel, logger, definitions, parts)
	failure := group.Start(ctx)
	if failure == nil {
		logger.InfoContext(ctx, "started", slog.String("service", spec.Name), slog.String("version", version.Version), slog.String("ops", process.Ops.Addr))
		failure = group.Wait(ctx)
	}
	logger.InfoContext(ctx, "stopping", slog.String("service", spec.Name))
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), process.StopTimeout)
	defer cancel()
	return errors.Join(run.Unprompted(ctx, failure), group.Stop(stopCtx), tel.Shutdown(stopCtx))
}

// topicsComponent waits for Kafka and makes the topics that are missing.
type topicsComponent struct {
	cfg    kafka.Config
	logger *slog.Logger
}

// Topics returns a component whose start waits for Kafka, as long as its configuration says, and creates missing topics.
func Topics(cfg kafka.Config, logger *slog.Logger) run.Component {
	return &topicsComponent{cfg: cfg, logger: logger}
}

func (c *topicsComponent) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.cfg.StartTimeout, kafka.DefaultStartTimeout))
	defer cancel()
	if err := c.cfg.Ping(ctx, c.logger); err != nil {
		return err
	}
	client, err := kgo.NewClient(c.cfg.Options(c.logger)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	return c.cfg.EnsureTopics(ctx, client, topics.All())
}

func (*topicsComponent) Stop(context.Context) error  { return nil }
func (*topicsComponent) Ready(context.Context) error { return nil }
func (*topicsComponent) Failed() <-chan error        { return nil }
