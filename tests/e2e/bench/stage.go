package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

// counter is a stage as services have them: it reads, changes and writes state and emits a record.
type counter struct{ began func() }

func (c counter) Process(ctx *stream.Context, rec stream.Record) error {
	c.began()
	var n uint64
	if v, ok := ctx.Get("n"); ok && len(v) == 8 {
		n = binary.BigEndian.Uint64(v)
	}
	ctx.Put("n", binary.BigEndian.AppendUint64(nil, n+1))
	ctx.Emit(stageOut, rec.Key, rec.Value)
	return nil
}

func (counter) Timer(*stream.Context, stream.Timer) error   { return nil }
func (counter) Merge(*stream.Context, *stream.Source) error { return nil }

const (
	stageIn, stageOut, stageLog = "bench.in", "bench.out", "bench.log"
	stageKeys                   = 20_000
	// stageSecond is how many records stand for a second of Duration.
	stageSecond = 150_000
)

// Stage measures P5 and P6: a stage with state at exactly-once against the loop that does the least (it
// reads, writes an output and a changelog record, commits every 50ms) and against the same stage at-least-once.
func Stage(ctx context.Context, o Options) ([]Row, error) {
	n := max(10_000, int(float64(stageSecond)*o.Duration.Seconds()))
	each := func(run func(*broker, context.Context, int) (Sample, error)) func(context.Context) (Sample, error) {
		return func(ctx context.Context) (Sample, error) {
			return onBroker(ctx, o, n, func(b *broker) (Sample, error) { return run(b, ctx, n) })
		}
	}
	got, err := series(ctx, o, "P5",
		turn{"exactly-once", each(func(b *broker, ctx context.Context, n int) (Sample, error) { return b.stage(ctx, n, stageSettings{}) })},
		turn{"bare loop", each((*broker).bareLoop)},
		turn{"at-least-once", each(func(b *broker, ctx context.Context, n int) (Sample, error) {
			return b.stage(ctx, n, stageSettings{atLeastOnce: true})
		})})
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("a stateful stage at exactly-once, %d records of 400 bytes over %d keys", n, stageKeys)
	return []Row{
		{Figure: "P5", What: what, Unit: "events/s", Against: "bare exactly-once loop", Target: "≥ 0.3", Ours: got[0], Baseline: got[1]},
		{Figure: "P6", What: "the same", Unit: "events/s", Against: "own at-least-once", Target: "≥ 0.8", Ours: got[0], Baseline: got[2]},
	}, nil
}

// fillStage writes the input.
func (b *broker) fillStage(ctx context.Context, n int) error {
	wanted := []topics.Topic{}
	for _, name := range []string{stageIn, stageOut, stageLog} {
		wanted = append(wanted, topics.Topic{Name: name, Cleanup: topics.Delete})
	}
	if err := b.kafka.EnsureTopics(ctx, b.client, wanted); err != nil {
		return err
	}
	value := stageValue()
	written := kgo.AbortingFirstErrPromise(b.client)
	for i := range n {
		b.client.Produce(ctx, &kgo.Record{Topic: stageIn, Key: topics.Key("tenant", fmt.Sprint("profile-", i%stageKeys)), Value: value}, written.Promise())
	}
	// A record that was not written would be waited for without end.
	if err := errors.Join(b.client.Flush(ctx), written.Err()); err != nil {
		return fmt.Errorf("writing the input: %w", err)
	}
	return nil
}

func stageValue() []byte {
	value := make([]byte, 400)
	for i := range value {
		value[i] = byte('a' + i*i%23)
	}
	return value
}

// stageSettings are how a stage is run; zero means as it comes.
type stageSettings struct {
	atLeastOnce bool
	interval    time.Duration
}

// stage runs the stage from its first record until the offsets of all are committed.
func (b *broker) stage(ctx context.Context, n int, settings stageSettings) (sample Sample, err error) {
	var once sync.Once
	var watch stopwatch
	began := func() { once.Do(func() { watch = startWatch() }) }
	top := stream.Topology{Name: "bench", Inputs: []string{stageIn}, Outputs: []string{stageOut}, New: func() stream.Processor { return counter{began} }}
	runner, err := stream.NewRunner(top, stream.Config{Kafka: b.kafka, DataDir: filepath.Join(b.dir, "state"), AtLeastOnce: settings.atLeastOnce, CommitInterval: settings.interval},
		stream.Deps{Clock: clock.System{}, Logger: quiet, Telemetry: telemetry.Nop()})
	if err != nil {
		return Sample{}, err
	}
	if err := runner.Start(ctx); err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, stopRunner(runner)) }()
	admin := kadm.NewClient(b.client)
	err = wait(ctx, 5*time.Millisecond, func() (bool, error) {
		select {
		case err := <-runner.Failed():
			return false, err
		default:
		}
		committed, err := b.committed(ctx, admin, top.Group(), stageIn)
		return committed >= int64(n), err
	})
	if err != nil {
		return Sample{}, err
	}
	once.Do(func() { err = errors.New("the stage committed records that it never saw") })
	return watch.rate(n), err
}

// committed is how many records of a topic a group has behind it.
func (b *broker) committed(ctx context.Context, admin *kadm.Client, group, topic string) (n int64, err error) {
	offsets, err := admin.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return 0, nil // it has not joined yet
	}
	if err != nil {
		return 0, fmt.Errorf("reading the offsets of %s: %w", group, err)
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Topic == topic && o.At > 0 {
			n += o.At
		}
	})
	return n, nil
}

// bareLoop is the least that exactly-once costs, with the settings of a stage.
func (b *broker) bareLoop(ctx context.Context, n int) (Sample, error) {
	session, err := kgo.NewGroupTransactSession(append(b.kafka.ProducerOptions(quiet),
		kgo.TransactionalID("bare"), kgo.ConsumerGroup("bare"), kgo.ConsumeTopics(stageIn),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MaxBufferedRecords(100_000))...)
	if err != nil {
		return Sample{}, fmt.Errorf("configuring the bare loop: %w", err)
	}
	defer session.Close()
	var watch stopwatch
	for done := 0; done < n; {
		if err := session.Begin(); err != nil {
			return Sample{}, fmt.Errorf("beginning a transaction: %w", err)
		}
		begun := time.Now()
		for done < n && time.Since(begun) < 50*time.Millisecond {
			fetches := session.PollRecords(ctx, 4096)
			if err := fetches.Err(); err != nil {
				return Sample{}, fmt.Errorf("polling: %w", err)
			}
			if done == 0 {
				watch = startWatch()
			}
			fetches.EachRecord(func(r *kgo.Record) {
				session.Produce(ctx, &kgo.Record{Topic: stageOut, Key: r.Key, Value: r.Value}, nil)
				session.Produce(ctx, &kgo.Record{Topic: stageLog, Key: r.Key, Value: r.Key[:8]}, nil)
				done++
			})
		}
		committed, err := session.End(ctx, kgo.TryCommit)
		if err != nil || !committed {
			return Sample{}, fmt.Errorf("the bare loop did not commit: %w", err)
		}
	}
	return watch.rate(n), nil
}
