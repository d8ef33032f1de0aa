package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/pkg/config"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/service"
	"github.com/sillage-cdp/sillage/services/sillage/internal/stack"
)

// stackFlags are the flags of commands that run a stack. Each is also a key of the configuration file
// and a variable; a flag wins.
type stackFlags struct {
	Config     string   `help:"YAML file with settings." type:"path" placeholder:"FILE"`
	DataDir    string   `help:"Where everything is kept." placeholder:"data"`
	ClockSpeed float64  `help:"Run the stack's time so many times faster than the wall's." placeholder:"1"`
	HTTPAddr   string   `name:"http-addr" help:"Ingest HTTP." placeholder:"127.0.0.1:8080"`
	GRPCAddr   string   `name:"grpc-addr" help:"gRPC of all services." placeholder:"127.0.0.1:9090"`
	OpsAddr    string   `help:"Operations: /livez /readyz /metrics." placeholder:"127.0.0.1:9464"`
	SQLAddr    string   `name:"clickhouse-listen" help:"HTTP interface of the embedded ClickHouse." placeholder:"127.0.0.1:8123"`
	KafkaAddr  string   `name:"kafka-listen" help:"Embedded Kafka." placeholder:"127.0.0.1:9092"`
	SMTPAddr   string   `name:"smtp-addr" help:"SMTP of the outbox." placeholder:"127.0.0.1:2525"`
	Kafka      []string `name:"kafka" help:"Brokers of a Kafka of your own instead of the embedded one." placeholder:"HOST:PORT"`
	ClickHouse string   `name:"clickhouse" help:"HTTP interface of a ClickHouse of your own instead of the embedded one." placeholder:"HOST:PORT"`
	LogLevel   string   `help:"debug, info, warn or error." placeholder:"warn"`
	Set        []string `help:"Any other setting, as key=value; 'up --print-config' lists the keys." placeholder:"KEY=VALUE"`
}

// load is the configuration after file, environment and flags.
func (f *stackFlags) load(more map[string]any) (stack.Config, error) {
	cfg := stack.NewDefaultConfig()
	overrides := map[string]any{}
	maps.Copy(overrides, more)
	for key, value := range map[string]string{
		"data_dir": f.DataDir, "http.addr": f.HTTPAddr, "grpc.addr": f.GRPCAddr, "ops.addr": f.OpsAddr, "smtp.addr": f.SMTPAddr,
		"clickhouse.listen": f.SQLAddr, "kafka.listen": f.KafkaAddr, "clickhouse.addr": f.ClickHouse, "log_level": f.LogLevel,
	} {
		if value != "" {
			overrides[key] = value
		}
	}
	if f.ClockSpeed != 0 {
		overrides["clock_speed"] = f.ClockSpeed
	}
	if len(f.Kafka) > 0 {
		overrides["kafka.brokers"] = f.Kafka
	}
	for _, pair := range f.Set {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return cfg, fmt.Errorf("--set %q: write key=value", pair)
		}
		overrides[key] = value
	}
	err := config.Load(&cfg, config.Sources{File: f.Config, Lookup: os.LookupEnv, Overrides: overrides})
	return cfg, err
}

// upCmd is `sillage up`.
type upCmd struct {
	stackFlags
	PrintConfig  bool `help:"Print every setting with its variable and value, and exit."`
	VerifyConfig bool `help:"Check the configuration and exit."`
}

// Run runs the stack until it is interrupted or a part of it fails.
func (c *upCmd) Run(ctx context.Context, streams Streams) error {
	cfg, err := c.load(nil)
	if err != nil {
		return err
	}
	if c.PrintConfig {
		return printConfig(streams.Out, &cfg)
	}
	if c.VerifyConfig {
		fmt.Fprintln(streams.Out, "the configuration is right")
		return nil
	}
	logger := service.NewLogger(streams.Err, cfg.LogLevel)
	s, err := stack.New(ctx, cfg, stack.Deps{Logger: logger})
	if err != nil {
		return err
	}
	err = serve(ctx, streams, s)
	fmt.Fprintln(streams.Err, "stopping …")
	return errors.Join(run.Unprompted(ctx, err), stop(ctx, s))
}

// serve starts s and returns when ctx is done, or with what failed; s is to be stopped then.
func serve(ctx context.Context, streams Streams, s *stack.Stack) error {
	begun := time.Now()
	fmt.Fprintf(streams.Err, "starting Sillage on %s …\n", s.Config().DataDir)
	if err := s.Start(ctx); err != nil {
		return err
	}
	if err := waitReady(ctx, s); err != nil {
		return err
	}
	printSurfaces(streams.Out, s.Config(), time.Since(begun))
	return s.Wait(ctx)
}

// waitReady waits until all state is restored.
func waitReady(ctx context.Context, s *stack.Stack) error {
	for {
		reason := s.Ready(ctx)
		if reason == nil {
			return nil
		}
		select {
		case err := <-s.Failed():
			return err
		case <-ctx.Done():
			return fmt.Errorf("waiting until everything is ready: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop stops a stack within its configured time, whatever became of ctx.
func stop(ctx context.Context, s *stack.Stack) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Config().StopTimeout)
	defer cancel()
	return s.Stop(ctx)
}

func printSurfaces(w io.Writer, cfg stack.Config, took time.Duration) {
	kafka, clickhouse := cfg.Kafka.Listen, "http://"+cfg.ClickHouse.Listen
	if len(cfg.Kafka.Brokers) > 0 {
		kafka = strings.Join(cfg.Kafka.Brokers, ",") + " (yours)"
	}
	if cfg.ClickHouse.Addr != "" {
		clickhouse = "http://" + cfg.ClickHouse.Addr + " (yours)"
	}
	speed := ""
	if cfg.ClockSpeed != 1 {
		speed = fmt.Sprintf(", time runs %g times as fast as the wall's", cfg.ClockSpeed)
	}
	fmt.Fprintf(w, `Sillage is up after %s%s.

  ingest HTTP      http://%s      write key of the tenant demo: demo-key
  gRPC             %s      reflection and health
  operations       http://%s      /livez /readyz /metrics
  ClickHouse HTTP  %s      database %s, or: sillage sql 'SELECT …'
  Kafka            %s
  outbox SMTP      %s      mails in %s, or: sillage outbox
  data             %s

Interrupt to stop.
`, took.Round(time.Millisecond), speed, cfg.HTTP.Addr, cfg.GRPC.Addr, cfg.Ops.Addr, clickhouse, cfg.ClickHouse.Database, kafka, cfg.SMTP.Addr, cfg.OutboxDir(), cfg.DataDir)
}

func printConfig(w io.Writer, cfg *stack.Config) error {
	keys, values, err := config.Keys(cfg)
	if err != nil {
		return err
	}
	for _, key := range keys {
		fmt.Fprintf(w, "%-45s %-55s %v\n", key, config.EnvName(key), values[key])
	}
	return nil
}
