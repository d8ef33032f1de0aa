package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

// keeper keeps the value of every record under its key.
type keeper struct{}

func (keeper) Process(ctx *stream.Context, rec stream.Record) error {
	ctx.Put("v", rec.Value)
	return nil
}

func (keeper) Timer(*stream.Context, stream.Timer) error   { return nil }
func (keeper) Merge(*stream.Context, *stream.Source) error { return nil }

// Restore measures P14: an instance with an empty disk, from its start until all partitions are ready,
// against a consumer that reads the same changelog and does nothing with it.
func Restore(ctx context.Context, o Options) (rows []Row, err error) {
	n := max(10_000, int(2*stageSecond*o.Duration.Seconds()))
	b, err := startBroker(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	top, err := b.fillState(ctx, n)
	if err != nil {
		return nil, err
	}
	times := 0
	got, err := series(ctx, o, "P14",
		turn{"restore", func(ctx context.Context) (Sample, error) {
			times++
			return b.restore(ctx, top, filepath.Join(b.dir, fmt.Sprint("lost-", times)), n)
		}},
		turn{"plain consume", func(ctx context.Context) (Sample, error) { return b.consume(ctx, top.ChangelogTopic(), n) }})
	if err != nil {
		return nil, err
	}
	return []Row{{Figure: "P14", What: fmt.Sprintf("restore of a lost store from its changelog, %d entries of 256 bytes", n), Unit: "entries/s",
		Against: "plain consume", Target: "≥ 0.5", Ours: got[0], Baseline: got[1]}}, nil
}

// fillState runs a stage until its changelog has n entries.
func (b *broker) fillState(ctx context.Context, n int) (top stream.Topology, err error) {
	const in = "bench.kept"
	if err := b.kafka.EnsureTopics(ctx, b.client, []topics.Topic{{Name: in, Cleanup: topics.Delete}}); err != nil {
		return top, err
	}
	value := make([]byte, 256)
	for i := range value {
		value[i] = byte(i * i * i >> 3)
	}
	written := kgo.AbortingFirstErrPromise(b.client)
	for i := range n {
		b.client.Produce(ctx, &kgo.Record{Topic: in, Key: topics.Key("tenant", fmt.Sprint("profile-", i)), Value: value}, written.Promise())
	}
	if err := errors.Join(b.client.Flush(ctx), written.Err()); err != nil {
		return top, fmt.Errorf("writing the input: %w", err)
	}
	top = stream.Topology{Name: "bench-kept", Inputs: []string{in}, New: func() stream.Processor { return keeper{} }}
	runner, err := b.runner(top, filepath.Join(b.dir, "kept"))
	if err != nil {
		return top, err
	}
	if err := runner.Start(ctx); err != nil {
		return top, err
	}
	defer func() { err = errors.Join(err, stopRunner(runner)) }()
	admin := kadm.NewClient(b.client)
	return top, wait(ctx, 10*time.Millisecond, func() (bool, error) {
		committed, err := b.committed(ctx, admin, top.Group(), in)
		return committed >= int64(n), err
	})
}

func (b *broker) runner(top stream.Topology, dir string) (*stream.Runner, error) {
	return stream.NewRunner(top, stream.Config{Kafka: b.kafka, DataDir: dir}, stream.Deps{Clock: clock.System{}, Logger: quiet, Telemetry: telemetry.Nop()})
}

func (b *broker) restore(ctx context.Context, top stream.Topology, dir string, n int) (sample Sample, err error) {
	runner, err := b.runner(top, dir)
	if err != nil {
		return Sample{}, err
	}
	watch := startWatch()
	if err := runner.Start(ctx); err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, stopRunner(runner)) }()
	if err := wait(ctx, time.Millisecond, func() (bool, error) { return runner.Ready(ctx) == nil, nil }); err != nil {
		return Sample{}, err
	}
	return watch.rate(n), nil
}

// consume reads a topic once, from a client that is made for it to its last record.
func (b *broker) consume(ctx context.Context, topic string, n int) (Sample, error) {
	watch := startWatch()
	client, err := kgo.NewClient(append(b.kafka.Options(quiet), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return Sample{}, fmt.Errorf("configuring the reader: %w", err)
	}
	defer client.Close()
	for read := 0; read < n; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return Sample{}, fmt.Errorf("reading the changelog: %w", err)
		}
		read += fetches.NumRecords()
	}
	return watch.rate(n), nil
}
