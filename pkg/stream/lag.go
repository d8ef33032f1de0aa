package stream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lagTable knows how far behind this instance is in every input of every partition that it owns, also of
// those that are being restored and of those that do not get on. The end is the last stable offset; the
// position is after the last record that was handled in a committed transaction, and after the markers of
// transactions that follow it, so that an idle stage has a lag of exactly 0.
type lagTable struct {
	changed chan struct{} // something is owned whose position or end is not known

	mu    sync.Mutex // guards what follows; held for map accesses only
	owned map[int32]map[string]*inputLag
}

type inputLag struct {
	position, end int64 // -1: not known yet
}

func newLagTable() *lagTable {
	return &lagTable{changed: make(chan struct{}, 1), owned: make(map[int32]map[string]*inputLag)}
}

func (l *lagTable) own(partition int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owned[partition] != nil {
		return
	}
	l.owned[partition] = make(map[string]*inputLag)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *lagTable) disown(partition int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.owned, partition)
}

func (l *lagTable) input(topic string, partition int32) *inputLag {
	inputs := l.owned[partition]
	if inputs == nil {
		return &inputLag{} // gone meanwhile: what is noted is forgotten
	}
	in := inputs[topic]
	if in == nil {
		in = &inputLag{position: -1, end: -1}
		inputs[topic] = in
	}
	return in
}

// handled notes the offset to go on from.
func (l *lagTable) handled(topic string, partition int32, next int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.input(topic, partition).position = next
}

// stable notes the last stable offset.
func (l *lagTable) stable(topic string, partition int32, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.input(topic, partition).end = end
}

// begins notes where an input goes on unless more is known already.
func (l *lagTable) begins(topic string, partition int32, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in := l.input(topic, partition); in.position < 0 {
		in.position = at
	}
}

// byTopic is the lag of each topic that something is known of.
func (l *lagTable) byTopic() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	lag := make(map[string]int64)
	for _, inputs := range l.owned {
		for topic, in := range inputs {
			behind := int64(0)
			if in.position >= 0 && in.end >= 0 {
				behind = max(0, in.end-in.position)
			}
			lag[topic] += behind
		}
	}
	return lag
}

// partitions lists what is owned, and says whether the position of some input is not known.
func (l *lagTable) partitions(topics []string) (owned []int32, unknown bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, inputs := range l.owned {
		owned = append(owned, p)
		for _, topic := range topics {
			unknown = unknown || inputs[topic] == nil || inputs[topic].position < 0
		}
	}
	return owned, unknown
}

// lagEvery is how often the ends of the inputs are asked for: twice in a usual scrape interval.
const lagEvery = 15 * time.Second

// watch keeps the lag true between polls, and where nothing is polled, and the limits of the outputs,
// until ctx is done.
func (r *Runner) watch(ctx context.Context) {
	ticks := time.NewTicker(lagEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			if err := r.outputs.describe(ctx, kadm.NewClient(r.admin), r.top.Outputs); err != nil && ctx.Err() == nil {
				r.logger.DebugContext(ctx, "looking up the limits of the outputs failed", slog.String("error", err.Error()))
			}
		case <-r.metrics.lag.changed:
		}
		if err := r.lookUpLag(ctx); err != nil && ctx.Err() == nil {
			r.logger.DebugContext(ctx, "looking up the lag failed", slog.String("error", err.Error()))
		}
	}
}

func (r *Runner) lookUpLag(ctx context.Context) error {
	topics := r.top.consumed()
	owned, unknown := r.metrics.lag.partitions(topics)
	if len(owned) == 0 {
		return nil
	}
	admin := kadm.NewClient(r.admin)
	if unknown {
		if err := r.lookUpPositions(ctx, admin, topics, owned); err != nil {
			return err
		}
	}
	ends, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for _, p := range owned {
		for _, topic := range topics {
			if end, ok := ends.Lookup(topic, p); ok && end.Err == nil {
				r.metrics.lag.stable(topic, p, end.Offset)
			}
		}
	}
	return nil
}

// lookUpPositions asks the group where it stands: partitions that are being restored do not know yet.
func (r *Runner) lookUpPositions(ctx context.Context, admin *kadm.Client, topics []string, owned []int32) error {
	committed, err := admin.FetchOffsetsForTopics(ctx, r.top.Group(), topics...)
	if err != nil {
		return err
	}
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for _, p := range owned {
		for _, topic := range topics {
			if at, ok := committed.Lookup(topic, p); ok && at.Err == nil && at.At >= 0 {
				r.metrics.lag.begins(topic, p, at.At)
			} else if start, ok := starts.Lookup(topic, p); ok && start.Err == nil {
				r.metrics.lag.begins(topic, p, start.Offset)
			}
		}
	}
	return nil
}

// dataRecords counts what is to be handled: the markers of transactions are no work.
func dataRecords(fetches kgo.Fetches) (n int) {
	fetches.EachRecord(func(rec *kgo.Record) {
		if !rec.Attrs.IsControl() {
			n++
		}
	})
	return n
}

// skipMarkers moves the positions of tasks over a fetch that holds nothing but markers, without a
// transaction: the next one that a task has part in commits them.
func (m *member) skipMarkers(fetches kgo.Fetches) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		t := m.tasks[p.Partition]
		if len(p.Records) == 0 || t == nil || !t.active {
			return
		}
		last := p.Records[len(p.Records)-1]
		t.offsets[p.Topic] = kgo.EpochOffset{Epoch: last.LeaderEpoch, Offset: last.Offset + 1}
		m.metrics.lag.stable(p.Topic, p.Partition, p.LastStableOffset)
		if !t.used {
			m.metrics.lag.handled(p.Topic, p.Partition, last.Offset+1)
		}
	})
}
