package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

const (
	hopProbes = "bench.probes"
	hopEvery  = 10 * time.Millisecond // between probes
	// steadyRate is a load between light and half, the same on every machine.
	steadyRate = 10_000
	// defaultInterval is what a stage has if nobody says otherwise.
	defaultInterval = 50 * time.Millisecond
)

// Hop measures one hop: from the moment that a record is given to its producer (its acknowledgement is on
// the way) until what a stateful stage makes of it can be read, committed. At light load there is a probe
// every 10 ms and nothing else. Then ten thousand records a second flow beside the probes, and then half of
// what the stage does at most in this minute. Each for several commit intervals, with what the interval
// costs in rate.
func Hop(ctx context.Context, o Options) ([]Row, error) {
	o.Pairs = min(o.Pairs, 3)
	n := max(10_000, int(float64(stageSecond)*o.Duration.Seconds()))
	var turns []turn
	for _, interval := range o.Intervals {
		turns = append(turns, turn{interval.String(), func(ctx context.Context) (Sample, error) {
			return onBroker(ctx, o, n, func(b *broker) (Sample, error) { return b.stage(ctx, n, stageSettings{interval: interval}) })
		}})
	}
	rates, err := series(ctx, o, "HOP rate", turns...)
	if err != nil {
		return nil, err
	}
	standard := max(0, slices.Index(o.Intervals, defaultInterval))
	half := medians(rates[standard]).Value / 2
	var rows []Row
	for i, interval := range o.Intervals {
		rows = append(rows, Row{Figure: "HOP", What: fmt.Sprintf("the stage of P5 with a commit interval of %s", interval), Unit: "events/s",
			Against: o.Intervals[standard].String(), Ours: rates[i], Baseline: rates[standard]})
	}
	for _, load := range []struct {
		name string
		rate float64
	}{{"light load,", 0}, {number(steadyRate) + " events/s,", steadyRate}, {fmt.Sprintf("%s events/s (half of what the stage does),", number(half)), half}} {
		for _, interval := range o.Intervals {
			row, err := hopRow(ctx, o, interval, load.rate)
			if err != nil {
				return nil, err
			}
			row.What = fmt.Sprintf("one hop at %s commit interval %s, p50", load.name, interval)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func hopRow(ctx context.Context, o Options, interval time.Duration, rate float64) (Row, error) {
	var p99s []float64
	name := fmt.Sprintf("HOP %s %s/s", interval, number(rate))
	got, err := series(ctx, o, name, turn{"p50", func(ctx context.Context) (Sample, error) {
		var took []time.Duration
		_, err := onBroker(ctx, o, 0, func(b *broker) (_ Sample, err error) {
			took, err = b.hop(ctx, o, interval, rate)
			return Sample{}, err
		})
		p99s = append(p99s, percentile(took, 99))
		return Sample{Value: percentile(took, 50)}, err
	}})
	if err != nil {
		return Row{}, err
	}
	fmt.Fprintf(o.Progress, "%s  p99 %s\n", name, number(medianOf(p99s)))
	return Row{Figure: "HOP", Unit: "ms", Ours: got[0], Note: fmt.Sprintf("p99 %s ms", number(medianOf(p99s)))}, nil
}

// onBroker runs a measurement on a broker of its own, with n records of input: each finds the same.
func onBroker(ctx context.Context, o Options, n int, run func(*broker) (Sample, error)) (sample Sample, err error) {
	b, err := startBroker(ctx, o)
	if err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.fillStage(ctx, n); err != nil {
		return Sample{}, err
	}
	return run(b)
}

// prober is the counter, but what comes of a probe goes to a topic of its own, so that reading it costs
// the machine nothing that the stage would need.
type prober struct{ counter }

var probeKey = []byte("probe/")

func (p prober) Process(ctx *stream.Context, rec stream.Record) error {
	if !bytes.HasPrefix(rec.Key, probeKey) {
		return p.counter.Process(ctx, rec)
	}
	ctx.Put("n", rec.Value)
	ctx.Emit(hopProbes, rec.Key, rec.Value)
	return nil
}

// hop runs the stage and returns how long the probes took, sorted.
func (b *broker) hop(ctx context.Context, o Options, interval time.Duration, rate float64) (took []time.Duration, err error) {
	if err := b.kafka.EnsureTopics(ctx, b.client, []topics.Topic{{Name: hopProbes, Cleanup: topics.Delete}}); err != nil {
		return nil, err
	}
	top := stream.Topology{Name: "bench", Inputs: []string{stageIn}, Outputs: []string{stageOut, hopProbes},
		New: func() stream.Processor { return prober{counter{func() {}}} }}
	runner, err := stream.NewRunner(top, stream.Config{Kafka: b.kafka, DataDir: filepath.Join(b.dir, "state"), CommitInterval: interval},
		stream.Deps{Clock: clock.System{}, Logger: quiet, Telemetry: telemetry.Nop()})
	if err != nil {
		return nil, err
	}
	if err := runner.Start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopRunner(runner)) }()
	if err := wait(ctx, 5*time.Millisecond, func() (bool, error) { return runner.Ready(ctx) == nil, nil }); err != nil {
		return nil, err
	}
	p := &probes{seen: make(map[uint64]time.Time)}
	return p.run(ctx, b, int(max(o.Duration, 100*time.Millisecond)/hopEvery), rate)
}

func stopRunner(runner *stream.Runner) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return runner.Stop(ctx)
}

// probes are records whose way is timed.
type probes struct {
	sent []time.Time
	seen map[uint64]time.Time
}

// warmUp is how many probes go ahead of those that count.
const warmUp = 20

func (p *probes) run(ctx context.Context, b *broker, n int, rate float64) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("probes did not come through within a minute"))
	defer cancel()
	reader, err := kgo.NewClient(append(b.kafka.Options(quiet), kgo.ConsumeTopics(hopProbes), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return nil, fmt.Errorf("configuring the reader: %w", err)
	}
	defer reader.Close()
	sender, err := kgo.NewClient(b.kafka.ProducerOptions(quiet)...)
	if err != nil {
		return nil, fmt.Errorf("configuring the sender: %w", err)
	}
	defer sender.Close()
	loading, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return b.pour(loading, rate) })
	group.Go(func() error { return p.send(ctx, sender, n+warmUp) })
	err = p.read(ctx, reader, n+warmUp)
	stop()
	if err = errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	var took []time.Duration
	for id, at := range p.seen {
		if id >= warmUp {
			took = append(took, at.Sub(p.sent[id]))
		}
	}
	slices.Sort(took)
	return took, nil
}

func (p *probes) send(ctx context.Context, sender *kgo.Client, n int) error {
	ticker := time.NewTicker(hopEvery)
	defer ticker.Stop()
	for id := range uint64(n) {
		value := binary.BigEndian.AppendUint64(nil, id)
		p.sent = append(p.sent, time.Now())
		if err := sender.ProduceSync(ctx, &kgo.Record{Topic: stageIn, Key: fmt.Appendf(nil, "probe/%d", id%100), Value: value}).FirstErr(); err != nil {
			return fmt.Errorf("sending a probe: %w", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *probes) read(ctx context.Context, reader *kgo.Client, n int) error {
	for len(p.seen) < n {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return errors.Join(fmt.Errorf("reading probes: %w", err), context.Cause(ctx))
		}
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) { p.seen[binary.BigEndian.Uint64(r.Value)] = now })
	}
	return nil
}

// pour writes records at a rate until ctx is done.
func (b *broker) pour(ctx context.Context, rate float64) error {
	if rate == 0 {
		return nil
	}
	client, err := kgo.NewClient(append(b.kafka.ProducerOptions(quiet), kgo.MaxBufferedRecords(50_000))...)
	if err != nil {
		return fmt.Errorf("configuring the load: %w", err)
	}
	defer client.Close()
	written := kgo.AbortingFirstErrPromise(client)
	value := stageValue()
	begun, sent := time.Now(), 0
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		for due := int(time.Since(begun).Seconds() * rate); sent < due; sent++ {
			client.Produce(context.WithoutCancel(ctx), &kgo.Record{Topic: stageIn, Key: topics.Key("tenant", fmt.Sprint("profile-", sent%stageKeys)), Value: value}, written.Promise())
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(client.Flush(context.WithoutCancel(ctx)), written.Err())
		}
	}
}
