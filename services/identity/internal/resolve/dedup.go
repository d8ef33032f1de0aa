package resolve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// seenPrefix begins the state names of message ids: the prefix, two hex digits of a hash (the
	// shard), the id. The value is the arrival in milliseconds.
	seenPrefix = "d/"
	// sweepTimer is the id of the timer that forgets message ids.
	sweepTimer = "d"
	// sweepPause is the least time between two sweeps of an anchor, and so how much longer than the
	// window an id may lie in the state. (It does not count as a duplicate then.)
	sweepPause = 24 * time.Hour
	// sweepBatch bounds the entries that one firing of the timer looks at, but for the last shard.
	sweepBatch = 4096
	shards     = 256
)

var errSeenEntry = errors.New("decoding the arrival of a message id: not a number of milliseconds")

const hexDigits = "0123456789abcdef"

// seenName is the state name of a message id.
func seenName(messageID string) string {
	hash := uint32(2166136261) // FNV-1a
	for i := range len(messageID) {
		hash = (hash ^ uint32(messageID[i])) * 16777619
	}
	shard := byte(hash ^ hash>>8 ^ hash>>16 ^ hash>>24)
	return shardPrefix(int(shard)) + messageID
}

func shardPrefix(shard int) string {
	return string([]byte{seenPrefix[0], seenPrefix[1], hexDigits[shard>>4], hexDigits[shard&15]})
}

// duplicate says whether the message id came within the window, and remembers it if not. It sets
// rec.sweeping when it sets the timer.
func (r *Resolver) duplicate(st State, rec *record, messageID string, now time.Time) (bool, error) {
	name := seenName(messageID)
	nowMs := now.UnixMilli()
	if value, ok := st.Get(name); ok {
		arrival, err := parseArrival(value)
		if err != nil {
			return false, err
		}
		if nowMs-arrival < r.cfg.DedupWindow.Milliseconds() {
			return true, nil
		}
	}
	var scratch [binary.MaxVarintLen64]byte
	st.Put(name, binary.AppendVarint(scratch[:0], nowMs))
	if !rec.sweeping {
		rec.sweeping = true
		st.SetTimer(sweepTimer, now.Add(r.cfg.DedupWindow+sweepPause), nil)
	}
	return false, nil
}

func parseArrival(value []byte) (int64, error) {
	arrival, n := binary.Varint(value)
	if n != len(value) || n <= 0 {
		return 0, errSeenEntry
	}
	return arrival, nil
}

// sweepCursor stands between two firings that together make one sweep of a large anchor.
type sweepCursor struct {
	shard    int
	oldestMs int64 // the oldest arrival that stays, of the shards done; MaxInt64 if none
}

func (c sweepCursor) append(b []byte) []byte {
	return binary.AppendVarint(append(b, byte(c.shard)), c.oldestMs)
}

func parseSweepCursor(b []byte) (sweepCursor, error) {
	if len(b) < 2 {
		return sweepCursor{}, fmt.Errorf("decoding the sweep's position: %w", errTruncated)
	}
	oldest, n := binary.Varint(b[1:])
	if n != len(b)-1 {
		return sweepCursor{}, fmt.Errorf("decoding the sweep's position: %w", errTruncated)
	}
	return sweepCursor{shard: int(b[0]), oldestMs: oldest}, nil
}

// sweep forgets message ids older than the window and sets the timer for the next sweep, at once if this
// one is not done. Most anchors are swept in one walk; one with more than sweepBatch ids is swept shard
// by shard, so that no firing looks at more than a bounded number of them.
func (r *Resolver) sweep(st State, rec *record, now time.Time, position []byte) error {
	cursor := sweepCursor{oldestMs: math.MaxInt64}
	if len(position) == 0 {
		scan, err := r.forget(st, seenPrefix, now, sweepBatch)
		if err != nil {
			return err
		}
		if scan.complete {
			r.endSweep(st, rec, now, scan.oldestMs)
			return nil
		}
	} else {
		var err error
		if cursor, err = parseSweepCursor(position); err != nil {
			return err
		}
		for seen := 0; cursor.shard < shards && seen < sweepBatch; cursor.shard++ {
			scan, err := r.forget(st, shardPrefix(cursor.shard), now, math.MaxInt)
			if err != nil {
				return err
			}
			seen += scan.seen
			cursor.oldestMs = min(cursor.oldestMs, scan.oldestMs)
		}
		if cursor.shard == shards {
			r.endSweep(st, rec, now, cursor.oldestMs)
			return nil
		}
	}
	st.SetTimer(sweepTimer, now, cursor.append(nil))
	return nil
}

func (r *Resolver) endSweep(st State, rec *record, now time.Time, oldestMs int64) {
	if oldestMs == math.MaxInt64 {
		rec.sweeping = false
		return
	}
	due := time.UnixMilli(oldestMs).Add(r.cfg.DedupWindow)
	if earliest := now.Add(sweepPause); due.Before(earliest) {
		due = earliest
	}
	st.SetTimer(sweepTimer, due, nil)
}

type sweepScan struct {
	seen     int
	oldestMs int64
	complete bool
}

// forget walks at most limit ids under a prefix and deletes those whose window has passed.
func (r *Resolver) forget(st State, prefix string, now time.Time, limit int) (sweepScan, error) {
	scan := sweepScan{oldestMs: math.MaxInt64, complete: true}
	expiredBefore := now.Add(-r.cfg.DedupWindow).UnixMilli()
	var expired []string
	var failed error
	st.Range(prefix, func(name string, value []byte) bool {
		if scan.seen == limit {
			scan.complete = false
			return false
		}
		scan.seen++
		arrival, err := parseArrival(value)
		if err != nil {
			failed = err
			return false
		}
		if arrival <= expiredBefore {
			expired = append(expired, name)
		} else {
			scan.oldestMs = min(scan.oldestMs, arrival)
		}
		return true
	})
	for _, name := range expired {
		st.Delete(name)
	}
	return scan, failed
}
