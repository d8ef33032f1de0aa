package stream

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// compactions lets Pebble compact one thing at a time in a store, and nothing while the store is at rest.
// Pebble's own scheduler cannot rest, and looks ten times a second for each store whether its limit has
// changed; this one does not change.
type compactions struct {
	db pebble.DBForCompaction // set by Register, before any other call

	mu      sync.Mutex // after the database's own; guards what follows
	resting bool
	running bool
	closed  bool
	asking  bool       // the database is asked what it would like to do
	missed  bool       // it was refused while it was asked
	asked   *sync.Cond // asking is over
}

var (
	_ pebble.CompactionScheduler   = (*compactions)(nil)
	_ pebble.CompactionGrantHandle = (*compactions)(nil)
)

func newCompactions() *compactions {
	c := &compactions{}
	c.asked = sync.NewCond(&c.mu)
	return c
}

// Register is called by Pebble once, when it opens.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// Unregister is called by Pebble when it closes. Nothing is granted afterwards.
func (c *compactions) Unregister() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for c.asking {
		c.asked.Wait()
	}
}

// TrySchedule says whether Pebble may compact something now. If not, it waits to be asked.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.resting || c.running {
		c.missed = true
		return false, nil
	}
	c.running = true
	return true, c
}

// UpdateGetAllowedWithoutPermission would tell of another limit; there is none.
func (*compactions) UpdateGetAllowedWithoutPermission() {}

// Started, MeasureCPU and CumulativeStats are of no use to a fixed limit.
func (*compactions) Started() {}

// MeasureCPU is described at Started.
func (*compactions) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats is described at Started.
func (*compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done is called by Pebble when a compaction is over.
func (c *compactions) Done() {
	c.mu.Lock()
	c.running = false
	c.mu.Unlock()
	c.grant()
}

// rest stops compactions from beginning, or lets them begin again.
func (c *compactions) rest(resting bool) {
	c.mu.Lock()
	c.resting = resting
	c.mu.Unlock()
	if !resting {
		c.grant()
	}
}

// grant lets a compaction begin that was refused before. The database is asked without the lock, which
// stands after its own; what it is refused meanwhile, it is asked for once more.
func (c *compactions) grant() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.asking {
		c.asked.Wait()
	}
	for again := true; again && !c.closed && !c.resting && !c.running; {
		c.asking, c.running, c.missed = true, true, false
		c.mu.Unlock()
		waiting, _ := c.db.GetWaitingCompaction()
		accepted := waiting && c.db.Schedule(c)
		c.mu.Lock()
		if !accepted {
			c.running = false
		}
		again = !accepted && c.missed
		c.asking = false
		c.asked.Broadcast()
	}
}
