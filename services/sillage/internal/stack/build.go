package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition/table"
	embeddedclickhouse "github.com/sillage-cdp/sillage/pkg/embedded/clickhouse"
	embeddedkafka "github.com/sillage-cdp/sillage/pkg/embedded/kafka"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/server/grpcserver"
	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
	"github.com/sillage-cdp/sillage/pkg/server/ops"
	"github.com/sillage-cdp/sillage/pkg/service"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/telemetry/sdk"
	"github.com/sillage-cdp/sillage/pkg/version"
	analytics "github.com/sillage-cdp/sillage/services/analytics/app"
	connector "github.com/sillage-cdp/sillage/services/channel-connector/app"
	control "github.com/sillage-cdp/sillage/services/control/app"
	decision "github.com/sillage-cdp/sillage/services/decision/app"
	identity "github.com/sillage-cdp/sillage/services/identity/app"
	ingest "github.com/sillage-cdp/sillage/services/ingest/app"
	journeys "github.com/sillage-cdp/sillage/services/journey-orchestrator/app"
	scoring "github.com/sillage-cdp/sillage/services/scoring/app"
	segmentation "github.com/sillage-cdp/sillage/services/segmentation/app"
	"github.com/sillage-cdp/sillage/services/sillage/internal/outbox"
)

// Stack is everything in one process, as a component.
type Stack struct {
	*run.Group
	cfg     Config
	clock   clock.Clock
	control *control.App
	dataDir *dataDir
}

// Deps is what a stack is given.
type Deps struct {
	Logger *slog.Logger
	// Telemetry runs the SDK; nil makes one from the configuration.
	Telemetry *sdk.SDK
	// OnRestore is told how far the restore of state has come; may be nil.
	OnRestore func(stream.RestoreProgress)
}

// New takes the data directory and builds the stack; nothing is started. Close gives the directory back
// if it never is.
func New(ctx context.Context, cfg Config, deps Deps) (*Stack, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir := newDataDir(cfg.DataDir)
	if err := dir.take(); err != nil {
		return nil, err
	}
	s := &Stack{cfg: cfg, dataDir: dir}
	if err := s.build(ctx, deps); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close gives back the data directory of a stack that was not started.
func (s *Stack) Close() error { return s.dataDir.Stop(context.Background()) }

// Clock is the stack's time.
func (s *Stack) Clock() clock.Clock { return s.clock }

// Control applies definitions.
func (s *Stack) Control() *control.App { return s.control }

// Config is what the stack runs with.
func (s *Stack) Config() Config { return s.cfg }

// services are the apps of a stack.
type services struct {
	control      *control.App
	analytics    *analytics.App
	identity     *identity.App
	segmentation *segmentation.App
	scoring      *scoring.App
	journeys     *journeys.App
	connector    *connector.App
	decision     *decision.App
	ingest       *ingest.App
}

func (s *Stack) build(ctx context.Context, deps Deps) error {
	//nolint:forbidigo // the one place where the stack's time begins
	c, err := openClock(s.cfg.DataDir, s.cfg.ClockSpeed, time.Now())
	if err != nil {
		return err
	}
	s.clock = c
	tel := deps.Telemetry
	if tel == nil {
		if tel, err = sdk.New(ctx, s.cfg.Telemetry, "sillage", version.Version); err != nil {
			return err
		}
	}
	definitions, err := table.New(s.cfg.KafkaInUse(), deps.Logger)
	if err != nil {
		return fmt.Errorf("making the definitions table: %w", err)
	}
	apps, err := s.services(deps, tel.Providers(), definitions)
	if err != nil {
		return err
	}
	s.control = apps.control
	components, err := s.engines(deps.Logger)
	if err != nil {
		return err
	}
	first := &firstDefinitions{control: apps.control, definitions: definitions, engines: slices.Clone(components)}
	if deps.Telemetry == nil {
		components = append(components, run.Named{Name: "telemetry", Component: flush{sdk: tel, logger: deps.Logger}})
	}
	components = append(components,
		run.Named{Name: "topics", Component: service.Topics(s.cfg.KafkaInUse(), deps.Logger)},
		run.Named{Name: "definitions", Component: definitions},
		run.Named{Name: "control", Component: apps.control},
		run.Named{Name: "first definitions", Component: first},
		run.Named{Name: "analytics", Component: apps.analytics},
		run.Named{Name: "identity", Component: apps.identity},
		run.Named{Name: "segmentation", Component: apps.segmentation},
		run.Named{Name: "scoring", Component: apps.scoring},
		run.Named{Name: "journey-orchestrator", Component: apps.journeys},
		run.Named{Name: "channel-connector", Component: apps.connector},
		run.Named{Name: "decision", Component: apps.decision},
		run.Named{Name: "ingest", Component: apps.ingest},
	)
	s.Group = run.NewGroup(deps.Logger, s.ports(components, apps, tel, deps.Logger)...)
	return nil
}

// engines are the data directory, the embedded engines and the outbox.
func (s *Stack) engines(logger *slog.Logger) ([]run.Named, error) {
	components := []run.Named{{Name: "data directory", Component: s.dataDir}}
	if len(s.cfg.Kafka.Brokers) == 0 {
		broker, err := embeddedkafka.Open(embeddedkafka.Config{
			DataDir: s.cfg.dir("kafka"), Addr: s.cfg.Kafka.Listen, Logger: logger, Partitions: int(s.cfg.Kafka.Partitions),
		})
		if err != nil {
			return nil, err
		}
		components = append(components, run.Named{Name: "embedded Kafka", Component: broker})
	}
	if s.cfg.ClickHouse.Addr == "" {
		engine, err := embeddedclickhouse.Open(embeddedclickhouse.Config{
			Library: s.cfg.ClickHouse.Library, DataDir: s.cfg.dir("clickhouse"), Addr: s.cfg.ClickHouse.Listen, Logger: logger,
		})
		if err != nil {
			return nil, err
		}
		components = append(components, run.Named{Name: "embedded ClickHouse", Component: steady{engine}})
	}
	box := outbox.New(outbox.Config{Addr: s.cfg.SMTP.Addr, Dir: s.cfg.OutboxDir()}, logger)
	return append(components, run.Named{Name: "outbox", Component: box}), nil
}

// engine is a component that does not fail by itself once started.
type engine interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Ready(ctx context.Context) error
}

// steady makes an engine a component.
type steady struct{ engine }

// Failed never has an error.
func (steady) Failed() <-chan error { return nil }

func (s *Stack) services(deps Deps, tel telemetry.Providers, definitions *table.Table) (apps services, err error) {
	k, c, logger := s.cfg.KafkaInUse(), s.clock, deps.Logger
	build := func(name string, fn func() error) {
		if err != nil {
			return
		}
		if failure := fn(); failure != nil {
			err = fmt.Errorf("building %s: %w", name, failure)
		}
	}
	build("control", func() (err error) {
		apps.control, err = control.New(s.cfg.Control, control.Deps{Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel})
		return err
	})
	build("analytics", func() (err error) {
		apps.analytics, err = analytics.New(s.cfg.analytics(), analytics.Deps{Kafka: k, Logger: logger, Telemetry: tel})
		return err
	})
	build("identity", func() (err error) {
		apps.identity, err = identity.New(s.cfg.Identity, identity.Deps{
			Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel, DataDir: s.cfg.dir("identity"), OnRestore: deps.OnRestore,
		})
		return err
	})
	build("segmentation", func() (err error) {
		apps.segmentation, err = segmentation.New(s.cfg.Segmentation, segmentation.Deps{
			Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel, DataDir: s.cfg.dir("segmentation"), OnRestore: deps.OnRestore,
		})
		return err
	})
	build("scoring", func() (err error) {
		apps.scoring, err = scoring.New(s.cfg.Scoring, scoring.Deps{
			Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel, DataDir: s.cfg.dir("scoring"), OnRestore: deps.OnRestore,
		})
		return err
	})
	build("journey-orchestrator", func() (err error) {
		apps.journeys, err = journeys.New(s.cfg.Journeys, journeys.Deps{
			Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel, DataDir: s.cfg.dir("journeys"), OnRestore: deps.OnRestore,
		})
		return err
	})
	build("channel-connector", func() (err error) {
		cfg, err := s.connector()
		if err != nil {
			return err
		}
		apps.connector, err = connector.New(cfg, connector.Deps{
			Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel, DataDir: s.cfg.dir("connector"),
		})
		return err
	})
	build("decision", func() (err error) {
		apps.decision, err = decision.New(s.cfg.Decision, decision.Deps{Kafka: k, Logger: logger, Telemetry: tel, DataDir: s.cfg.dir("decision")})
		return err
	})
	build("ingest", func() (err error) {
		apps.ingest, err = ingest.New(s.cfg.Ingest, ingest.Deps{Kafka: k, Definitions: definitions, Clock: c, Logger: logger, Telemetry: tel})
		return err
	})
	return apps, err
}

// connector are the settings of channel-connector with what the stack provides.
func (s *Stack) connector() (connector.Config, error) {
	cfg := s.cfg.Connector
	cfg.OutboxSMTP = s.cfg.SMTP.Addr
	cfg.PublicURL = s.cfg.publicURL()
	if cfg.TrackingKeyRef != "" {
		return cfg, nil
	}
	ref, err := secretFile(s.cfg.DataDir, "tracking.key", "")
	cfg.TrackingKeyRef = ref
	return cfg, err
}

// ports puts the operations port before and the public ports behind the components.
func (s *Stack) ports(components []run.Named, apps services, tel *sdk.SDK, logger *slog.Logger) []run.Named {
	ready := func(ctx context.Context) error { return s.Ready(ctx) }
	events, tracking := apps.ingest.Handler(), apps.connector.Handler()
	// No ServeMux: it redirects `//v1/batch`, the path of a client whose host ends in a slash, and there are
	// clients that take a redirect for success.
	public := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/t/") {
			tracking.ServeHTTP(w, r)
			return
		}
		events.ServeHTTP(w, r)
	})
	operations := httpserver.New(httpserver.Config{Name: "the operations port", Addr: s.cfg.Ops.Addr, Setting: "--ops-addr (ops.addr)"},
		ops.Handler(ready, tel.Metrics()), logger)
	rpc := grpcserver.New(httpserver.Config{Name: "gRPC", Addr: s.cfg.GRPC.Addr, Setting: "--grpc-addr (grpc.addr)"}, tel.Providers(), logger,
		func(r grpc.ServiceRegistrar) { apps.control.RegisterGRPC(r) },
		func(r grpc.ServiceRegistrar) { apps.decision.RegisterGRPC(r) },
		func(r grpc.ServiceRegistrar) { apps.ingest.RegisterGRPC(r) })
	web := httpserver.New(httpserver.Config{Name: "ingest HTTP", Addr: s.cfg.HTTP.Addr, Setting: "--http-addr (http.addr)"}, public, logger)
	all := append([]run.Named{components[0], {Name: "operations port", Component: operations}}, components[1:]...)
	return append(all, run.Named{Name: "gRPC", Component: rpc}, run.Named{Name: "HTTP", Component: web})
}
