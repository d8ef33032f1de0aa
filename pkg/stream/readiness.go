package stream

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// readiness is what Ready answers from.
type readiness struct {
	mu      sync.Mutex // guards what follows; held for map accesses only
	joined  bool
	waiting map[int32]bool // partitions whose state is being restored
	active  map[int32]bool // partitions at work
	seen    map[int32]RestoreProgress
	failed  map[int32]error // why the last attempt to restore a partition failed
}

func newReadiness() *readiness {
	return &readiness{waiting: make(map[int32]bool), active: make(map[int32]bool), seen: make(map[int32]RestoreProgress), failed: make(map[int32]error)}
}

// set notes which of the member's tasks are not at work yet.
func (r *readiness) set(tasks map[int32]*ownedTask, joined bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = joined
	clear(r.waiting)
	clear(r.active)
	for p, t := range tasks {
		if t.active {
			r.active[p] = true
		} else {
			r.waiting[p] = true
		}
	}
}

// left notes that the member is none any more.
func (r *readiness) left() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joined = false
	clear(r.waiting)
	clear(r.active)
	clear(r.seen)
	clear(r.failed)
}

// failure notes why a partition has no state yet; nil if nothing failed.
func (r *readiness) failure(partition int32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.failed, partition)
		return
	}
	r.failed[partition] = err
}

func (r *readiness) progress(p RestoreProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[p.Partition] = p
}

// blocked is how many partitions stand still for a reason.
func (r *readiness) blocked() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.failed {
		if r.waiting[p] {
			n++
		}
	}
	return n
}

func (r *readiness) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.joined {
		return errors.New("joining the consumer group")
	}
	var errs []error
	for _, p := range slices.Sorted(maps.Keys(r.waiting)) {
		if err := r.failed[p]; err != nil {
			errs = append(errs, fmt.Errorf("partition %d stands still: %w", p, err))
			continue
		}
		seen := r.seen[p]
		errs = append(errs, fmt.Errorf("restoring partition %d: at %d of %d", p, seen.Position, seen.End))
	}
	return errors.Join(errs...)
}

// tasks are the partitions that this member owns and is at work on.
func (r *readiness) tasks() (active []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sortedKeys(r.active)
}
