package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

const (
	timersPerSecond = 10_000
	timersIn        = "bench.alarms"
	timersOut       = "bench.fired"
)

// alarm sets a timer for the time in its record's value and says so when it fires.
type alarm struct{}

func (alarm) Process(ctx *stream.Context, rec stream.Record) error {
	if len(rec.Value) != 8 {
		return fmt.Errorf("a time of %d bytes", len(rec.Value))
	}
	ctx.SetTimer("t", time.UnixMicro(int64(binary.BigEndian.Uint64(rec.Value))), rec.Value)
	return nil
}

func (alarm) Timer(ctx *stream.Context, timer stream.Timer) error {
	ctx.Emit(timersOut, ctx.Key(), timer.Payload)
	return nil
}

func (alarm) Merge(*stream.Context, *stream.Source) error { return nil }

// Timers measures the second half of P13: ten thousand timers are due each second, on the wall clock, and
// what counts is how long after its time the output of each can be read, committed. (The first half, the
// rate at which timers are set and fired against bare puts, is BenchmarkTimers of pkg/stream.)
func Timers(ctx context.Context, o Options) ([]Row, error) {
	var p99s, worst []float64
	got, err := series(ctx, o, "P13", turn{"p50 ms", func(ctx context.Context) (Sample, error) {
		var late []time.Duration
		sample, err := onBroker(ctx, o, 0, func(b *broker) (sample Sample, err error) {
			late, sample, err = b.alarms(ctx, int(2*o.Duration.Seconds()*timersPerSecond))
			return sample, err
		})
		p99s, worst = append(p99s, percentile(late, 99)), append(worst, percentile(late, 100))
		return sample, err
	}})
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("lateness of timers, %d due each second, until their output can be read", timersPerSecond)
	var p99 []Sample
	for _, v := range p99s {
		p99 = append(p99, Sample{Value: v})
	}
	return []Row{
		{Figure: "P13", What: what + ", p50", Unit: "ms", Ours: got[0]},
		{Figure: "P13", What: what + ", p99", Unit: "ms", Target: "≤ 1000", Ours: p99, Note: fmt.Sprintf("the latest %s ms", number(medianOf(worst)))},
	}, nil
}

// alarms sets n timers that come due one after the other, and returns how late each was, sorted.
func (b *broker) alarms(ctx context.Context, n int) (late []time.Duration, sample Sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("timers did not fire within two minutes"))
	defer cancel()
	if err := b.kafka.EnsureTopics(ctx, b.client, []topics.Topic{{Name: timersIn, Cleanup: topics.Delete}, {Name: timersOut, Cleanup: topics.Delete}}); err != nil {
		return nil, Sample{}, err
	}
	top := stream.Topology{Name: "bench-alarms", Inputs: []string{timersIn}, Outputs: []string{timersOut}, New: func() stream.Processor { return alarm{} }}
	runner, err := stream.NewRunner(top, stream.Config{Kafka: b.kafka, DataDir: filepath.Join(b.dir, "state")},
		stream.Deps{Clock: clock.System{}, Logger: quiet, Telemetry: telemetry.Nop()})
	if err != nil {
		return nil, Sample{}, err
	}
	if err := runner.Start(ctx); err != nil {
		return nil, Sample{}, err
	}
	defer func() { err = errors.Join(err, stopRunner(runner)) }()
	if err := wait(ctx, 5*time.Millisecond, func() (bool, error) { return runner.Ready(ctx) == nil, nil }); err != nil {
		return nil, Sample{}, err
	}
	// They are all set before the first is due.
	first := time.Now().Add(time.Second + time.Duration(n)*20*time.Microsecond)
	written := kgo.AbortingFirstErrPromise(b.client)
	for i := range n {
		due := first.Add(time.Duration(i) * time.Second / timersPerSecond)
		b.client.Produce(ctx, &kgo.Record{Topic: timersIn, Key: topics.Key("tenant", fmt.Sprint("profile-", i)), Value: binary.BigEndian.AppendUint64(nil, uint64(due.UnixMicro()))}, written.Promise())
	}
	if err := errors.Join(b.client.Flush(ctx), written.Err()); err != nil {
		return nil, Sample{}, fmt.Errorf("writing the input: %w", err)
	}
	reader, err := kgo.NewClient(append(b.kafka.Options(quiet), kgo.ConsumeTopics(timersOut), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return nil, Sample{}, fmt.Errorf("configuring the reader: %w", err)
	}
	defer reader.Close()
	for len(late) < n {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, Sample{}, errors.Join(fmt.Errorf("reading what fired: %w", err), context.Cause(ctx))
		}
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			late = append(late, now.Sub(time.UnixMicro(int64(binary.BigEndian.Uint64(r.Value)))))
		})
	}
	slices.Sort(late)
	return late, Sample{Value: percentile(late, 50)}, nil
}
