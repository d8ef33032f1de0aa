package faults

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/network"
)

// inside is an instance of a stage inside the test process, for faults that a process would hide: its disk,
// its network and its clock are the test's.
type inside struct {
	t        testing.TB
	topology stream.Topology
	brokers  []string
	dir      string
	clock    clock.Clock
	network  *network.Network
	tune     func(*stream.Config) // may be nil
	hooks    []kgo.Hook           // of its Kafka clients

	runner *stream.Runner

	mu       sync.Mutex // guards what follows
	restores int
	warnings []string
}

// newInside prepares an instance on a data directory of its own; nothing runs yet.
func newInside(t testing.TB, topology stream.Topology, brokers []string) *inside {
	return &inside{t: t, topology: topology, brokers: brokers, dir: t.TempDir(), clock: clock.System{}, network: network.New(nil)}
}

// config finds out soon that an instance is gone.
func (i *inside) config() stream.Config {
	cfg := stream.Config{
		Kafka:   kafka.Config{Brokers: i.brokers, Partitions: 1, Replication: -1},
		DataDir: i.dir, CommitInterval: 20 * time.Millisecond, SessionTimeout: 2 * time.Second, TransactionTimeout: 2 * time.Second,
		MaxBatchRecords: 2000,
	}
	if i.tune != nil {
		i.tune(&cfg)
	}
	return cfg
}

func (i *inside) start() {
	i.t.Helper()
	runner, err := stream.NewRunner(i.topology, i.config(), stream.Deps{
		Clock: i.clock, Logger: slog.New(slog.NewTextHandler(i, &slog.HandlerOptions{Level: slog.LevelWarn})), Telemetry: telemetry.Nop(),
		KafkaOptions: []kgo.Opt{kgo.Dialer(i.network.Dial), kgo.WithHooks(i.hooks...)},
		OnRestore: func(stream.RestoreProgress) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.restores++
		},
	})
	require.NoError(i.t, err)
	require.NoError(i.t, runner.Start(context.Background()))
	i.runner = runner
	i.t.Cleanup(i.stop)
}

// Write takes a warning of the instance.
func (i *inside) Write(line []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.warnings = append(i.warnings, strings.TrimSpace(string(line)))
	return len(line), nil
}

// forget begins a new count of restores and warnings.
func (i *inside) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.restores, i.warnings = 0, nil
}

// noticed is how often a restore has told of its progress, and what was warned of.
func (i *inside) noticed() (restores int, warnings string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.restores, strings.Join(i.warnings, "\n")
}

func (i *inside) ready() {
	i.t.Helper()
	require.NoError(i.t, untilReady(i.runner))
}

// stop ends the instance in order. Without a network it is left to the group's time-out.
func (i *inside) stop() {
	if i.runner == nil {
		return
	}
	i.network.Mend()
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	err := i.runner.Stop(ctx)
	i.runner = nil
	require.NoError(i.t, err)
}
