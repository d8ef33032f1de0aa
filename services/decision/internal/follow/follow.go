// Package follow keeps the serving copy current: it reads every partition of the folded topics, without a
// consumer group, from where the copy stands.
//
// Every instance of decision holds all profiles, so that any of them answers any question; what was read
// and what it changed are written together. TestRestartNeitherLosesNorRepeats would catch the loss of this.
package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
	"github.com/sillage-cdp/sillage/services/decision/internal/view"
)

// maxBatch bounds the records of one batch.
const maxBatch = 5000

// Follower is a component.
type Follower struct {
	cfg    kafka.Config
	store  *store.Store
	logger *slog.Logger
	badN   metric.Int64Counter

	client  *kgo.Client
	cancel  context.CancelFunc
	loop    sync.WaitGroup
	failed  chan error
	missing atomic.Int64               // partitions that have not reached their target; -1 before the start
	targets map[string]map[int32]int64 // the ends at the start that were not reached yet; owned by the loop
}

// New returns a follower that is not started.
func New(cfg kafka.Config, s *store.Store, tel telemetry.Providers, logger *slog.Logger) (*Follower, error) {
	bad, err := tel.Meter.Meter("decision").Int64Counter("sillage.decision.unreadable",
		metric.WithUnit("{record}"), metric.WithDescription("Records that could not be folded."))
	if err != nil {
		return nil, fmt.Errorf("making a counter: %w", err)
	}
	f := &Follower{cfg: cfg, store: s, logger: logger, badN: bad, failed: make(chan error, 1), targets: map[string]map[int32]int64{}}
	f.missing.Store(-1)
	return f, nil
}

// Start begins to read where the copy stands.
func (f *Follower) Start(ctx context.Context) error {
	client, err := kgo.NewClient(append(f.cfg.Options(f.logger),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// A position that retention has taken is no error: what there is, is read.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Markers count for the position: a topic may end with them.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(16<<20),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	positions, err := f.positions(ctx, client)
	if err != nil {
		client.Close()
		return err
	}
	client.AddConsumePartitions(positions)
	f.client = client
	loopCtx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.loop.Go(func() { f.run(loopCtx) })
	return nil
}

// positions reads where each partition stands and where its committed end is now.
func (f *Follower) positions(ctx context.Context, client *kgo.Client) (map[string]map[int32]kgo.Offset, error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, view.Topics()...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the starts of topics: %w", err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, view.Topics()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the ends of topics: %w", err)
	}
	positions := map[string]map[int32]kgo.Offset{}
	missing := int64(0)
	for topic, partitions := range ends {
		positions[topic], f.targets[topic] = map[int32]kgo.Offset{}, map[int32]int64{}
		for number, end := range partitions {
			start, _ := starts.Lookup(topic, number)
			at, err := f.position(topic, number, start.Offset, end.Offset)
			if err != nil {
				return nil, err
			}
			positions[topic][number] = kgo.NewOffset().At(at)
			if at < end.Offset {
				f.targets[topic][number] = end.Offset
				missing++
			}
		}
	}
	f.missing.Store(missing)
	return positions, nil
}

// position is where to go on in a partition that holds [start, end).
func (f *Follower) position(topic string, number int32, start, end int64) (int64, error) {
	at, err := f.store.Offset(topic, number)
	switch {
	case err != nil:
		return 0, err
	case at > end:
		return 0, fmt.Errorf("the serving copy has read partition %d of %s up to %d and it ends at %d: the copy belongs to another Kafka; delete its folder, it is made again", number, topic, at, end)
	case at > 0 && at < start:
		f.logger.Warn("records between the serving copy and the start of the topic are gone: retention took them while decision was away", slog.String("topic", topic), slog.Int("partition", int(number)), slog.Int64("records", start-at))
	}
	// What retention took will not come: waiting for it would be for ever.
	return max(at, start), nil
}

// Stop ends the reading.
func (f *Follower) Stop(context.Context) error {
	if f.client == nil {
		return nil
	}
	f.cancel()
	f.loop.Wait()
	f.client.Close()
	f.client = nil
	return nil
}

// Ready is nil once everything that was there at the start has been read.
func (f *Follower) Ready(context.Context) error {
	switch n := f.missing.Load(); {
	case n < 0:
		return errors.New("not started")
	case n > 0:
		return fmt.Errorf("reading %d partitions up to where they stood at the start", n)
	default:
		return nil
	}
}

// Failed tells of a copy that cannot be read or written.
func (f *Follower) Failed() <-chan error { return f.failed }

func (f *Follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := f.client.PollRecords(ctx, maxBatch)
		fetches.EachError(func(topic string, p int32, err error) {
			if ctx.Err() == nil {
				f.logger.WarnContext(ctx, "fetching failed and is tried again", slog.String("topic", topic), slog.Int("partition", int(p)), slog.Any("error", err))
			}
		})
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := f.apply(ctx, fetches); err != nil {
			f.failed <- err
			return
		}
	}
}

func (f *Follower) apply(ctx context.Context, fetches kgo.Fetches) error {
	batch := f.store.NewBatch()
	for records := fetches.RecordIter(); !records.Done(); {
		rec := records.Next()
		if !rec.Attrs.IsControl() {
			switch err := view.Apply(batch, rec.Topic, rec.Value); {
			case errors.Is(err, view.ErrRecord):
				f.badN.Add(ctx, 1, metric.WithAttributes(attribute.String("topic", rec.Topic))) // the copy serves the rest
			case err != nil:
				return fmt.Errorf("folding partition %d of %s at %d: %w", rec.Partition, rec.Topic, rec.Offset, err)
			}
		}
		batch.Read(rec.Topic, rec.Partition, rec.Offset+1)
	}
	if err := batch.Commit(); err != nil {
		return err
	}
	fetches.EachPartition(f.reached)
	return nil
}

// reached strikes off a partition that has come to its target.
func (f *Follower) reached(p kgo.FetchTopicPartition) {
	target, waiting := f.targets[p.Topic][p.Partition]
	if n := len(p.Records); waiting && n > 0 && p.Records[n-1].Offset+1 >= target {
		delete(f.targets[p.Topic], p.Partition)
		f.missing.Add(-1)
	}
}
