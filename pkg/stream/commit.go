package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// finish ends the transaction in hand: it commits unless there was a failure, and what it did goes into
// the stores only if it committed. Stopping does not cut it short.
func (m *member) finish(ctx context.Context, failure error, begun time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if failure == nil {
		m.each(func(t *ownedTask) bool { return t.used }, m.writeChangelog)
		if err := m.session.client().Flush(ctx); err != nil {
			return fmt.Errorf("%w: flushing: %w", errRebuild, err)
		}
		failure = m.takeProduceErr()
	}
	if failure != nil {
		return m.abort(ctx, failure)
	}
	ending := time.Now()
	committed, err := m.session.end(ctx, true, m.fence())
	if err != nil {
		// What happened is not known: nothing goes into the stores, and the changelog will tell.
		return fmt.Errorf("%w: %w: %w", errRebuild, errOutcomeLost, err)
	}
	if !committed {
		m.rolledBack(ctx, errRebalanced)
		return nil
	}
	m.rollbacks = 0
	m.metrics.committed(ctx, time.Since(ending), time.Since(begun))
	m.apply(ctx)
	return nil
}

// writeChangelog writes the changes of a task to its partition of the changelog.
func (m *member) writeChangelog(t *ownedTask) {
	changes := t.task.changes()
	records := make([]kgo.Record, len(changes))
	client := m.session.client()
	done := func(r *kgo.Record, err error) {
		if err != nil {
			m.produced(r, err)
			return
		}
		t.endMu.Lock()
		t.logEnd = max(t.logEnd, r.Offset+1)
		t.endMu.Unlock()
	}
	topic := m.top.ChangelogTopic()
	for i := range changes {
		r := &records[i]
		r.Topic, r.Partition, r.Key, r.Value = topic, t.partition, changes[i].key, changes[i].value
		client.Produce(context.Background(), r, done)
	}
}

// fence has the offsets of every task of the transaction in all its topics: where it stands, which is not
// always where the client has polled to. The client would leave out what it believes to be committed: after
// a transaction that ended before all was worked on that polled, it believes that of records to come. And
// even a task that only fires timers is refused in this way when it has gone to another member.
func (m *member) fence() []fenceOffset {
	var fence []fenceOffset
	for _, t := range m.tasks {
		if !t.used {
			continue
		}
		for topic, offset := range t.offsets {
			fence = append(fence, fenceOffset{topic: topic, partition: t.partition, offset: offset})
		}
	}
	return fence
}

// apply takes a committed transaction into the stores.
func (m *member) apply(ctx context.Context) {
	m.each(func(t *ownedTask) bool { return t.used }, func(t *ownedTask) {
		t.samples = t.task.count
		t.pending.timers += t.task.over.timersChange()
		t.pending.held += int64(t.task.count.held)
		position := max(t.logEnd, t.store.position())
		t.store.current(m.restore.settings.now())
		m.held.at(t.partition, position)
		if err := t.task.commit(position); err != nil {
			// The transaction stands; only this copy of the state is behind. The changelog brings it up.
			m.logger.ErrorContext(ctx, "writing local state failed; restoring the partition from its changelog",
				slog.Int("partition", int(t.partition)), slog.String("error", err.Error()))
			t.task.over.err = errors.Join(errBehind, err)
		}
	})
	for _, t := range m.tasks {
		if !t.used {
			continue
		}
		m.metrics.batch(ctx, t)
		t.used, t.logEnd = false, 0
		if t.task.fault() != nil {
			m.reset(t)
			m.suspend(ctx, t)
		}
	}
}

// errBehind marks a store that missed a committed batch.
var errBehind = errors.New("the local store missed a batch")

func (m *member) abort(ctx context.Context, failure error) error {
	if _, err := m.session.end(ctx, false, nil); err != nil {
		return fmt.Errorf("%w: aborting: %w", errRebuild, errors.Join(err, failure))
	}
	if errors.Is(failure, errRebuild) || permanent(failure) {
		m.metrics.aborts.Add(ctx, 1, m.metrics.because(failure))
		return failure
	}
	_ = m.takeProduceErr() // what was still buffered has failed with the abort
	m.rolledBack(ctx, failure)
	if c := causeOf(failure); c == causeTooLarge || c == causeTopicGone {
		// A client keeps what it once learned of a topic; a new one asks for its limits and its identity.
		m.pause(ctx)
		return fmt.Errorf("%w: %w", errRebuild, failure)
	}
	return nil
}

// rolledBack drops what the transaction did, and lets every task begin again from what is committed. The
// group's offsets and the changelog are asked for it rather than this client's memory: when the answer to
// EndTxn was an error, the broker may have committed all the same.
func (m *member) rolledBack(ctx context.Context, reason error) {
	m.metrics.aborted(ctx, reason)
	m.rollbacks++
	for _, t := range m.tasks {
		if t.task == nil {
			continue
		}
		if errors.Is(t.task.fault(), errCorrupt) && t.store != nil {
			t.store.broken.Store(true)
		}
		fault := t.task.fault()
		m.reset(t)
		switch {
		case !t.active:
		case errors.Is(fault, errNewer), errors.Is(fault, errUpgrade):
			m.refuse(ctx, t, fault)
		default:
			m.suspend(ctx, t)
		}
	}
}

// pause lets time pass after transactions that did not commit, more each time: what stands in the way may
// need it, and nothing is to turn round at full speed.
func (m *member) pause(ctx context.Context) {
	if m.rollbacks < 2 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(min(5*time.Millisecond<<min(m.rollbacks, 10), time.Second)):
	}
}

// reset forgets the batch in hand of a task.
func (m *member) reset(t *ownedTask) {
	t.task.abort()
	clear(t.input)
	t.input = t.input[:0]
	t.used, t.heldBack, t.logEnd, t.lag = false, false, 0, 0
}
