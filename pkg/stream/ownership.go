package stream

import (
	"maps"
	"sync"
)

// ownership knows which tasks this member owns at any moment. What it loses is told by the group protocol
// itself (the metadata of every join and the assignment of every sync) and not by the revoke callbacks
// alone: a GroupTransactSession passes on only the first of several revokes between two transactions. What
// it gets is told by the assign callback, after it has paused the partitions: whoever learned of a task
// from the sync could have restored and resumed it before the callback pauses it, for good.
//
// A task that went away and came back has a new stint, so that its owner notices even if it did not look
// in between. So has one that gets another of its topics, which is paused as all that is new.
type ownership struct {
	changed func() // called after every change, without the lock

	mu     sync.Mutex // guards what follows; never held while calling out
	stints map[int32]uint64
	next   uint64
	synced bool // there has been an assignment
}

func newOwnership(changed func()) *ownership {
	return &ownership{changed: changed, stints: make(map[int32]uint64)}
}

// only is told all that this member has, when it joins and when it is assigned: everything else is gone.
func (o *ownership) only(have map[string][]int32) {
	tasks := taskSet(have)
	o.update(func() {
		maps.DeleteFunc(o.stints, func(task int32, _ uint64) bool { return !tasks[task] })
	})
}

// added is told what has come with an assignment, paused by then; it may be nothing.
func (o *ownership) added(come map[string][]int32) {
	o.update(func() {
		o.synced = true
		for task := range taskSet(come) {
			o.next++
			o.stints[task] = o.next
		}
	})
}

// lost is told that some tasks are no longer this member's.
func (o *ownership) lost(gone map[string][]int32) {
	if len(gone) == 0 {
		return
	}
	o.update(func() {
		for task := range taskSet(gone) {
			delete(o.stints, task)
		}
	})
}

// owned returns the tasks with their stints, and whether there has been an assignment yet.
func (o *ownership) owned() (stints map[int32]uint64, synced bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.stints), o.synced
}

func (o *ownership) update(fn func()) {
	o.mu.Lock()
	fn()
	o.mu.Unlock()
	o.changed()
}

func taskSet(assignment map[string][]int32) map[int32]bool {
	tasks := make(map[int32]bool)
	for _, partitions := range assignment {
		for _, p := range partitions {
			tasks[p] = true
		}
	}
	return tasks
}
