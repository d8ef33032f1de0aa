package limit

import (
	"math"
	"sync"
	"time"
)

const (
	// ways is how many identities share a set of the table.
	ways = 4
	// sets times ways identities are remembered at once: 65,536 in 1 MiB.
	sets = 1 << 14
	// locks guard the sets, a share each.
	locks = 64
)

// Identities bounds the events of each identity by the generic cell rate algorithm (ITU-T I.371), which needs
// one instant for each: when the bucket would be full again. An identity whose instant has passed is the same
// as one never seen, so a fixed table with replacement suffices: what is replaced is the entry nearest to
// full. Only when more than four identities of one set are beyond their rate at once is one of them forgotten
// and let through.
//
// It is safe for concurrent use.
type Identities struct {
	mu    [locks]sync.Mutex // each guards the sets whose index it divides
	table []set
}

type set [ways]cell

// cell is one identity: the hash of its key and when its bucket is full again, in nanoseconds since the epoch.
type cell struct {
	key  uint64
	full int64
}

// NewIdentities returns a table in which nobody has sent anything.
func NewIdentities() *Identities { return &Identities{table: make([]set, sets)} }

// Allow lets an event of the identity with this hash pass, or not. The hash must spread (maphash does).
func (h *Identities) Allow(now time.Time, key uint64, r Rate) bool {
	if r.PerSecond <= 0 {
		return true
	}
	index := key % sets
	mu := &h.mu[index%locks]
	mu.Lock()
	defer mu.Unlock()
	at := now.UnixNano()
	c := h.table[index].find(key, at)
	each := float64(time.Second) / r.PerSecond
	full := max(c.full, at)
	if float64(full-at)+each > math.Min(each*float64(r.burst()), math.MaxInt64/4) {
		return false
	}
	c.full = full + int64(math.Max(each, 1))
	return true
}

// find is the cell of a key; one that is not there takes the place of the one nearest to full.
func (s *set) find(key uint64, now int64) *cell {
	place := &s[0]
	for i := range s {
		if s[i].key == key {
			return &s[i]
		}
		if s[i].full < place.full {
			place = &s[i]
		}
	}
	*place = cell{key: key, full: now}
	return place
}
