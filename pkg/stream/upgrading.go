package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// upgradeTasks takes the state of partitions that were written in an earlier version one step on, in a
// transaction of its own, and puts to work those that are done. Between two steps the other partitions
// have their turn.
func (m *member) upgradeTasks(ctx context.Context) error {
	var chosen []*ownedTask
	for _, t := range m.tasks {
		if t.upgrading && t.restoring == nil {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	if err := m.session.begin(); err != nil {
		return fmt.Errorf("%w: beginning a transaction: %w", errRebuild, err)
	}
	begun, now := time.Now(), m.clock.Now()
	var failure error
	done := make(map[*ownedTask]bool)
	for _, t := range chosen {
		t.active, t.used = true, true
		t.task.begin(now)
		finished, err := t.task.upgrade(upgradeKeys)
		if err != nil {
			t.task.over.err = err
			failure = errors.Join(failure, err)
		}
		done[t] = finished
	}
	if err := m.finish(ctx, failure, begun); err != nil {
		return err
	}
	for _, t := range chosen {
		switch {
		case !t.active || t.restoring != nil: // it was rolled back
		case done[t]:
			t.upgrading = false
			m.logger.InfoContext(ctx, "the state of a partition is upgraded", slog.Int("partition", int(t.partition)), slog.Int("version", m.top.StateVersion))
			m.putToWork(t)
		default:
			t.active = false
		}
	}
	m.wake() // look again before waiting for records
	return nil
}

// checkVersion says whether a restored task can be put to work as it is. If not, it is upgraded first, or
// refused.
func (m *member) checkVersion(ctx context.Context, t *ownedTask) bool {
	v, err := t.task.versions()
	switch {
	case errors.Is(err, errNewer):
		m.refuse(ctx, t, err)
		return false
	case err != nil:
		t.task.over.err = err // found by the next look at it, which restores it
		return true
	case v.upgrading:
		t.upgrading = true
		m.logger.InfoContext(ctx, "upgrading the state of a partition", slog.Int("partition", int(t.partition)), slog.Int("version", m.top.StateVersion))
		return false
	default:
		return true
	}
}

// refuse leaves a task alone for good: this instance cannot do what it takes. Its state stays as it is. If
// it is of a later version, another instance may have it, and the group is told.
func (m *member) refuse(ctx context.Context, t *ownedTask, err error) {
	t.active, t.upgrading = false, false
	m.session.client().PauseFetchPartitions(m.partitionsOf(t))
	m.ready.failure(t.partition, err)
	m.restore.settings.gaveUp(err)
	m.logger.ErrorContext(ctx, "a partition stands still", slog.Int("partition", int(t.partition)), slog.String("error", err.Error()))
	if errors.Is(err, errNewer) && m.held.refuse(t.partition) {
		m.session.client().ForceRebalance()
	}
}
