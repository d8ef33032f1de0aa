package intake

import "sync/atomic"

// Budget bounds bytes in memory over all requests. It is safe for concurrent use.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// Take takes n bytes; false if there is no room for them.
func (b *Budget) Take(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	return false
}

// Give gives n bytes back.
func (b *Budget) Give(n int64) { b.used.Add(-n) }
