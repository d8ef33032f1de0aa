package stream

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// syncTasks makes the tasks match what this member owns: it closes what has gone, opens what has come,
// and puts to work what has been restored.
func (m *member) syncTasks(ctx context.Context) {
	owned, synced := m.own.owned()
	changed := false
	for p, t := range m.tasks {
		if stint, ok := owned[p]; !ok || stint != t.stint {
			m.closeTask(t)
			delete(m.tasks, p)
			changed = true
		}
	}
	for p, stint := range owned {
		if m.tasks[p] == nil {
			t := &ownedTask{partition: p, stint: stint, store: m.standbys.take(p)}
			m.tasks[p] = t
			m.suspend(ctx, t)
			changed = true
		}
	}
	for _, t := range m.tasks {
		if t.active && (t.store.usable() != nil || t.task.fault() != nil) {
			m.reset(t)
			m.suspend(ctx, t)
		}
		if !t.active {
			m.resume(ctx, t)
		}
	}
	m.standbys.sync(ctx, func(p int32) bool { return m.tasks[p] != nil })
	if synced {
		m.janitor.sweep(ctx, func(p int32) bool { return m.tasks[p] != nil || m.standbys.has(p) })
	}
	if changed {
		m.logger.InfoContext(ctx, "tasks assigned", slog.Int("tasks", len(m.tasks)))
	}
	m.ready.set(m.tasks, synced)
}

// suspend stops the records of a task and brings its store up to the changelog in the background. The
// other tasks go on meanwhile.
func (m *member) suspend(ctx context.Context, t *ownedTask) {
	t.active = false
	m.session.client().PauseFetchPartitions(m.partitionsOf(t))
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t.cancel = cancel
	done := make(chan restored, 1)
	t.restoring = done
	store := t.store
	t.store = nil // the restore has it until it is done
	m.metrics.suspended(t.partition)
	before, begun := standing(store), time.Now()
	go func() {
		result, err := m.restore.restore(ctx, t.partition, store)
		if err == nil {
			err = t.recount(before, result.store)
		}
		if err != nil {
			result.offsets = nil
		} else {
			m.metrics.restores.Record(ctx, time.Since(begun).Seconds(), m.metrics.attrs)
		}
		done <- result
		m.wake()
	}()
}

// resume puts a task to work if its restore is done.
func (m *member) resume(ctx context.Context, t *ownedTask) {
	select {
	case result := <-t.restoring:
		t.cancel()
		t.restoring, t.store = nil, result.store
		t.offsets, t.backlog = result.offsets, backlog{ends: result.ends}
	default:
		return
	}
	if t.offsets == nil {
		m.suspend(ctx, t) // it was restored, and could not be read then
		return
	}
	if t.task == nil || t.task.store != store(t.store) {
		t.task = newTask(m.top, t.partition, t.store)
		t.task.limits.held, t.task.limits.outputs = m.cfg.MaxHeld, m.outputs.lower()
		t.task.tracing, t.task.logger = m.tracing, m.logger
	} else {
		t.task.timers = timerCursor{}
	}
	t.upgrading = false
	if m.checkVersion(ctx, t) {
		m.putToWork(t)
	}
}

// putToWork lets the records of a task come.
func (m *member) putToWork(t *ownedTask) {
	offsets := make(map[string]map[int32]kgo.EpochOffset, len(t.offsets))
	for topic, offset := range t.offsets {
		offsets[topic] = map[int32]kgo.EpochOffset{t.partition: offset}
	}
	client := m.session.client()
	client.SetOffsets(offsets)
	t.backlog.update(t.offsets, time.Now())
	client.ResumeFetchPartitions(m.fetchable(t))
	t.active = true
	m.metrics.resumed(t)
}

// closeTask drops the batch in hand and closes the store.
func (m *member) closeTask(t *ownedTask) {
	t.active = false
	if t.restoring != nil {
		t.cancel()
		result := <-t.restoring
		t.store, t.restoring = result.store, nil
	}
	if t.task != nil {
		t.task.abort()
	}
	if t.store == nil {
		return
	}
	m.held.at(t.partition, t.store.position())
	if err := t.store.close(); err != nil {
		m.logger.Error("closing a local store", slog.Int("partition", int(t.partition)), slog.String("error", err.Error()))
	}
	if t.store.usable() != nil {
		m.held.gone(t.partition)
	}
	m.metrics.forget(t.partition)
}

func (m *member) closeTasks() {
	m.standbys.close()
	for p, t := range m.tasks {
		m.closeTask(t)
		delete(m.tasks, p)
	}
	m.ready.left()
}

func (m *member) partitionsOf(t *ownedTask) map[string][]int32 {
	partitions := make(map[string][]int32)
	for _, topic := range m.top.consumed() {
		partitions[topic] = []int32{t.partition}
	}
	return partitions
}

// onAssigned runs before anything of the new partitions is fetched: they stay paused until their state
// is there. Only then are they this member's: a resume must come after the pause.
func (m *member) onAssigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	if len(added) > 0 {
		client.PauseFetchPartitions(added)
	}
	m.own.added(added)
}

func (m *member) onGone(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	m.own.lost(gone)
}
