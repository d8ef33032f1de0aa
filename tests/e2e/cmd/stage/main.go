// Command stage runs one stage of the topologies that fault tests use, as an instance of its own that can
// be killed, stopped and continued for real. It tells what it is doing in lines of JSON on standard output,
// and logs to standard error. SIGTERM ends it in order.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
)

type flags struct {
	Brokers            []string      `help:"Kafka." required:""`
	Prefix             string        `help:"What the names of topics and topologies begin with." required:""`
	Stage              string        `help:"Which stage." enum:"first,second" required:""`
	DataDir            string        `help:"Where local state lies." required:"" type:"path"`
	Instance           string        `help:"Name in the group and the transactional id." required:""`
	SessionTimeout     time.Duration `help:"When the group gives up an instance that is silent." default:"6s"`
	TransactionTimeout time.Duration `help:"When the broker aborts a transaction that does not end." default:"3s"`
	CommitInterval     time.Duration `help:"How long a transaction collects." default:"20ms"`
	MaxBatch           int           `help:"Most records of a transaction." default:"500"`
}

// state is a line of standard output.
type state struct {
	State  string `json:"state"` // waiting, ready, stopped
	Reason string `json:"reason,omitempty"`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("stage"), kong.Description("Runs one stage of the fault tests."))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, f, json.NewEncoder(os.Stdout))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags, out *json.Encoder) error {
	names := chain.NamesOf(f.Prefix)
	topology := names.FirstStage()
	if f.Stage == "second" {
		topology = names.SecondStage()
	}
	broker := kafka.NewDefaultConfig()
	broker.Brokers = f.Brokers
	runner, err := stream.NewRunner(topology, stream.Config{
		Kafka: broker, DataDir: f.DataDir, InstanceID: f.Instance, SessionTimeout: f.SessionTimeout,
		TransactionTimeout: f.TransactionTimeout, CommitInterval: f.CommitInterval, MaxBatchRecords: f.MaxBatch,
	}, stream.Deps{Clock: clock.System{}, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Telemetry: telemetry.Nop()})
	if err != nil {
		return fmt.Errorf("setting the stage up: %w", err)
	}
	if err := runner.Start(ctx); err != nil {
		if ctx.Err() != nil {
			err = nil // told to end before it had begun
		}
		return errors.Join(err, runner.Stop(context.WithoutCancel(ctx)))
	}
	failed := follow(ctx, runner, out)
	// In order, whatever the time-outs: the caller kills what takes too long.
	if err := errors.Join(failed, runner.Stop(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return out.Encode(state{State: "stopped"})
}

// follow tells whenever the stage becomes ready or stops being it, until it is told to end or fails.
func follow(ctx context.Context, runner *stream.Runner, out *json.Encoder) error {
	var last state
	looks := time.NewTicker(2 * time.Millisecond)
	defer looks.Stop()
	for {
		now := state{State: "ready"}
		if err := runner.Ready(ctx); err != nil {
			now = state{State: "waiting", Reason: err.Error()}
		}
		if now.State != last.State {
			if err := out.Encode(now); err != nil {
				return fmt.Errorf("telling the state: %w", err)
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-runner.Failed():
			return err
		case <-looks.C:
		}
	}
}
