package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/sillage-cdp/sillage/pkg/secret"
	"github.com/sillage-cdp/sillage/pkg/service"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/control/examples"
	"github.com/sillage-cdp/sillage/services/sillage/internal/demo"
	"github.com/sillage-cdp/sillage/services/sillage/internal/progress"
	"github.com/sillage-cdp/sillage/services/sillage/internal/stack"
)

// demoCmd is `sillage demo`.
type demoCmd struct {
	stackFlags
	Seed   uint64 `help:"Decides who the bank's people are and what they do." default:"1"`
	People int    `help:"How many people visit the bank." default:"300"`
	Keep   bool   `help:"Keep running after the report, until interrupted."`
}

// The demonstration's data directory, and the file that says that it is one and may be emptied.
const (
	demoDir    = ".demo"
	demoMarker = "sillage-demo"
)

// Run starts a stack on an empty data directory and plays the demonstration on it.
func (c *demoCmd) Run(ctx context.Context, streams Streams) error {
	if c.People < 1 || c.People > 100_000 {
		return fmt.Errorf("--people %d is not between 1 and 100000", c.People)
	}
	cfg, err := c.load(c.settings())
	if err != nil {
		return err
	}
	if err := emptyDemoDir(cfg.DataDir); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(cfg.DataDir, "sillage.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close() //nolint:errcheck // nothing is lost but a log line
	return c.onStack(ctx, streams, cfg, service.NewLogger(log, cfg.LogLevel))
}

// settings are those of the demonstration where the user says nothing.
func (c *demoCmd) settings() map[string]any {
	settings := map[string]any{}
	if c.DataDir == "" {
		settings["data_dir"] = demoDir
	}
	if c.ClockSpeed == 0 {
		settings["clock_speed"] = 60.0
	}
	return settings
}

func (c *demoCmd) onStack(ctx context.Context, streams Streams, cfg stack.Config, logger *slog.Logger) error {
	out := progress.New(streams.Err)
	out.Stagef("starting every service in one process, on an empty data directory")
	begun := time.Now()
	s, err := stack.New(ctx, cfg, stack.Deps{Logger: logger})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	err = waitReady(ctx, s)
	if err == nil {
		out.Linef("up after %s", time.Since(begun).Round(time.Millisecond))
		err = c.play(ctx, streams, s, out, logger)
	}
	if err == nil {
		printWhere(streams, cfg, time.Since(begun), c.Keep)
		if c.Keep {
			err = s.Wait(ctx)
		}
	}
	return errors.Join(err, stop(ctx, s))
}

// play runs the demonstration; a stack that fails meanwhile ends it.
func (c *demoCmd) play(ctx context.Context, streams Streams, s *stack.Stack, out *progress.Output, logger *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	defer func() { cancel(nil); <-watched }()
	go func() {
		defer close(watched)
		if err := s.Wait(ctx); err != nil {
			cancel(err)
		}
	}()
	centre, err := c.callCentre(ctx, s, logger)
	if err != nil {
		return err
	}
	defer centre.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // the demonstration is over
	cfg := s.Config()
	clickhouse := cfg.ClickHouse.Listen
	if cfg.ClickHouse.Addr != "" {
		clickhouse = cfg.ClickHouse.Addr
	}
	d, err := demo.New(demo.Options{
		Ingest: "http://" + cfg.HTTP.Addr, ClickHouse: clickhouse, Database: cfg.ClickHouse.Database, OutboxDir: cfg.OutboxDir(),
		Clock: s.Clock(), Seed: c.Seed, People: c.People, Calls: centre.Tasks(), Progress: out, Report: streams.Out,
	})
	if err != nil {
		return err
	}
	err = errors.Join(d.Run(ctx), d.Close())
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// callCentre starts the bank's call centre and has tasks sent there, signed.
func (c *demoCmd) callCentre(ctx context.Context, s *stack.Stack, logger *slog.Logger) (*demo.CallCentre, error) {
	ref, err := s.Secret("call-centre.secret", "whsec_")
	if err != nil {
		return nil, err
	}
	key, err := secret.Resolve(ref)
	if err != nil {
		return nil, err
	}
	centre, err := demo.StartCallCentre(ctx, key.Reveal(), logger)
	if err != nil {
		return nil, err
	}
	defs, err := examples.Load(stack.FirstTenant)
	if err != nil {
		return nil, fmt.Errorf("reading the example definitions: %w", err)
	}
	for _, def := range defs {
		if webhook := def.GetChannel().GetWebhook(); webhook != nil {
			webhook.Url, webhook.SecretRef = centre.URL(), ref
			_, err := s.Control().Server().ApplyDefinitions(ctx, &controlv1.ApplyDefinitionsRequest{Definitions: []*definitionv1.Definition{def}})
			return centre, err
		}
	}
	return nil, errors.New("the examples have no webhook channel for the call centre")
}

// emptyDemoDir makes the directory, or empties one that an earlier demonstration made; any other
// directory with something in it is left alone.
func emptyDemoDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking at the data directory: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, demoMarker)); err != nil {
			return fmt.Errorf("the data directory %s holds something else than a demonstration: name an empty one with --data-dir", dir)
		}
		if err := stack.InUse(dir); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("emptying the data directory: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, demoMarker), []byte("This directory is emptied by the next `sillage demo`.\n"), 0o600)
}

func printWhere(streams Streams, cfg stack.Config, took time.Duration, keeps bool) {
	fmt.Fprintf(streams.Out, "\nDone in %s. What it made is yours to look at:\n", took.Round(time.Second))
	fmt.Fprintf(streams.Out, "  mails    %s (also: sillage outbox --data-dir %s)\n", cfg.OutboxDir(), cfg.DataDir)
	fmt.Fprintf(streams.Out, "  data     %s\n", cfg.DataDir)
	if keeps {
		fmt.Fprintf(streams.Out, "  SQL      http://%s, database %s (also: sillage sql 'SELECT …')\nInterrupt to stop.\n", cfg.ClickHouse.Listen, cfg.ClickHouse.Database)
		return
	}
	fmt.Fprintf(streams.Out, "  SQL      http://%s, database %s, while this runs: sillage up --data-dir %s\n", cfg.ClickHouse.Listen, cfg.ClickHouse.Database, cfg.DataDir)
}
