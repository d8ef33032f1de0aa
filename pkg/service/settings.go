package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sillage-cdp/sillage/pkg/config"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/server/grpcserver"
	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
	"github.com/sillage-cdp/sillage/pkg/server/ops"
	"github.com/sillage-cdp/sillage/pkg/telemetry/sdk"
)

// Listen is one port.
type Listen struct {
	// Addr is `host:port`.
	Addr string `koanf:"addr"`
}

// Process are the settings that every process has.
type Process struct {
	DataDir   string       `koanf:"data_dir"`
	LogLevel  string       `koanf:"log_level"`
	Kafka     kafka.Config `koanf:"kafka"`
	Telemetry sdk.Config   `koanf:"telemetry"`
	Ops       Listen       `koanf:"ops"`
	HTTP      Listen       `koanf:"http"`
	GRPC      Listen       `koanf:"grpc"`
	// StopTimeout bounds the whole stop, draining included.
	StopTimeout time.Duration `koanf:"stop_timeout"`
}

// NewDefaultProcess listens on this machine only.
func NewDefaultProcess() Process {
	return Process{
		DataDir:     "data",
		LogLevel:    "info",
		Kafka:       kafka.NewDefaultConfig(),
		Telemetry:   sdk.NewDefaultConfig(),
		Ops:         Listen{Addr: "127.0.0.1:9464"},
		HTTP:        Listen{Addr: "127.0.0.1:8080"},
		GRPC:        Listen{Addr: "127.0.0.1:9090"},
		StopTimeout: 30 * time.Second,
	}
}

// Validate says everything that is wrong with p.
func (p Process) Validate() error {
	var errs []error
	if p.DataDir == "" {
		errs = append(errs, errors.New("data_dir: must not be empty"))
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(p.LogLevel)); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %q is none of debug, info, warn, error", p.LogLevel))
	}
	if p.StopTimeout <= 0 {
		errs = append(errs, fmt.Errorf("stop_timeout: %v is not positive", p.StopTimeout))
	}
	return errors.Join(append(errs, p.Kafka.Validate(), p.Telemetry.Validate())...)
}

// Settings are the settings of one process: its own and its service's, which stand under `service`.
type Settings[C config.Validator] struct {
	Process Process `koanf:"process"`
	Service C       `koanf:"service"`
}

// Validate says everything that is wrong with s.
func (s *Settings[C]) Validate() error {
	return errors.Join(s.Process.Validate(), s.Service.Validate())
}

// assemble puts the components of a process in their order of start.
func assemble(process Process, tel *sdk.SDK, logger *slog.Logger, definitions run.Component, parts Parts) *run.Group {
	var group *run.Group
	ready := func(ctx context.Context) error { return group.Ready(ctx) }
	components := []run.Named{
		{Name: "operations port", Component: httpserver.New(
			httpserver.Config{Name: "the operations port", Addr: process.Ops.Addr, Setting: "process.ops.addr"},
			ops.Handler(ready, tel.Metrics()), logger)},
		{Name: "topics", Component: Topics(process.Kafka, logger)},
		{Name: "definitions", Component: definitions},
		{Name: "service", Component: parts.App},
	}
	if parts.RegisterGRPC != nil {
		components = append(components, run.Named{Name: "gRPC", Component: grpcserver.New(
			httpserver.Config{Name: "gRPC", Addr: process.GRPC.Addr, Setting: "process.grpc.addr"},
			tel.Providers(), logger, parts.RegisterGRPC)})
	}
	if parts.Handler != nil {
		components = append(components, run.Named{Name: "HTTP", Component: httpserver.New(
			httpserver.Config{Name: "HTTP", Addr: process.HTTP.Addr, Setting: "process.http.addr"}, parts.Handler, logger)})
	}
	group = run.NewGroup(logger, components...)
	return group
}
