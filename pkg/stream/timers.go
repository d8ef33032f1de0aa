package stream

import (
	"bytes"
	"container/heap"
	"strings"
	"time"
)

// timerCursor remembers where in the due index the next timer can be, so that neither the sweep nor the
// wait for the next one walks over what has fired already (deleted keys that a store still carries).
type timerCursor struct {
	floor []byte // no committed timer lies before it; nil: nothing is known yet
	first []byte // the first timer of the store, if known is set
	known bool
	sweep []byte // in the batch in hand: everything in the store before it has been looked at
	swept int    // how many of the store's the batch in hand has looked at

	spare []byte     // memory for the next sweep
	found []dueTimer // scratch of a sweep
}

// sweptRange is from how many timers on a sweep is deleted as one range. A range is one entry instead of
// many, and tables that it covers go without being read; but each costs every later look at the index.
const sweptRange = 128

func (c *timerCursor) start() []byte {
	if c.sweep != nil {
		return c.sweep
	}
	return c.base()
}

// base is where the batch in hand began.
func (c *timerCursor) base() []byte {
	if c.floor != nil {
		return c.floor
	}
	return []byte{kindDue}
}

// cleared is the part of the due index in which the batch in hand leaves no timer that the store had; a
// zero span if it is too small to be worth a range.
func (c *timerCursor) cleared() span {
	if c.swept < sweptRange {
		return span{}
	}
	return span{from: c.base(), to: c.sweep}
}

// span is the keys from `from` to before `to`.
type span struct{ from, to []byte }

func (s span) covers(key []byte) bool {
	return s.to != nil && bytes.Compare(key, s.from) >= 0 && bytes.Compare(key, s.to) < 0
}

// committed moves the floor up to where the sweep came, and down again to the first timer just set.
func (c *timerCursor) committed(lowest []byte) {
	c.known = false
	if c.sweep != nil {
		c.spare, c.floor, c.sweep = c.floor, c.sweep, nil
	}
	c.swept = 0
	if lowest != nil && c.floor != nil && bytes.Compare(lowest, c.floor) < 0 {
		c.floor = append([]byte(nil), lowest...)
	}
}

func (c *timerCursor) aborted() {
	if c.sweep != nil {
		c.spare, c.sweep = c.sweep, nil
	}
	c.known, c.swept = false, 0
}

// advance notes that everything up to and with a key of the index has been looked at.
func (c *timerCursor) advance(index []byte) {
	if c.sweep == nil {
		c.sweep, c.spare = c.spare, nil
	}
	c.sweep = append(append(c.sweep[:0], index...), 0)
	c.swept++
}

func (t *task) setTimer(k *keyOverlay, id string, due int64, trace string, payload []byte) {
	value := t.over.mem.alloc(9 + len(trace) + len(payload))
	value = appendTimerValue(value[:0], due, trace, payload)
	t.over.set(k, tableTimer, id, value)
	t.over.pushDue(due, k.key, id)
}

func (t *task) cancelTimer(k *keyOverlay, id string) {
	if t.over.get(k, tableTimer, id) != nil {
		t.over.set(k, tableTimer, id, nil)
	}
}

// dueTimer is a timer that a sweep found.
type dueTimer struct {
	index []byte // its key in the due index
	value []byte // as in the due index; nil if it was set in this batch
}

// sweepDone says that a sweep fires no more: it has come to its limit or its time is over, or the batch
// cannot go on. Its first timer it always fires.
func (t *task) sweepDone(fired, limit int) bool {
	return fired >= limit || t.over.err != nil || (fired > 0 && t.late != nil && t.late())
}

// fireTimers fires up to limit timers that are due, in order of their due time, and says how many: fewer
// although more are due if the time of the sweep is over. Timers that a timer sets and that are due take
// part.
func (t *task) fireTimers(limit int) int {
	fired := 0
	for !t.sweepDone(fired, limit) {
		page := limit - fired
		stored := t.storedDue(page)
		before := fired
		for _, d := range stored {
			// What has been set in this batch and is due earlier goes first.
			fired = t.firePending(fired, limit, d.index)
			if t.sweepDone(fired, limit) {
				return fired
			}
			if t.fire(d) {
				fired++
			}
			t.timers.advance(d.index)
		}
		if len(stored) == page {
			continue // some of them were moved or cancelled: the store may have more that go first
		}
		fired = t.firePending(fired, limit, nil)
		if fired == before && len(stored) == 0 {
			return fired
		}
	}
	return fired
}

// storedDue returns up to limit timers of the store that are due now, from the sweep's position on.
func (t *task) storedDue(limit int) []dueTimer {
	found := t.timers.found[:0]
	upper := appendDueKey(nil, t.now.UnixMilli()+1, nil, "")[:9]
	lower := t.timers.start()
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	err := t.store.scan(lower, upper, func(key, value []byte) bool {
		found = append(found, dueTimer{index: t.over.mem.copy(key), value: t.over.mem.copy(value)})
		return len(found) < limit
	})
	t.timers.found = found
	if err != nil {
		t.over.err = err
	}
	return found
}

// firePending fires timers set in this batch that are due, up to the given place in the index (nil: all),
// and says how many the sweep has fired by then.
func (t *task) firePending(fired, limit int, until []byte) int {
	upper := appendDueKey(nil, t.now.UnixMilli()+1, nil, "")[:9]
	for len(t.over.due) > 0 && !t.sweepDone(fired, limit) {
		first := t.over.due[0]
		if bytes.Compare(first, upper) >= 0 || (until != nil && bytes.Compare(first, until) >= 0) {
			return fired
		}
		heap.Pop(&t.over.due)
		if t.fire(dueTimer{index: first}) {
			fired++
		}
	}
	return fired
}

// fire fires one timer unless it has been cancelled or moved since it was put into the index.
func (t *task) fire(d dueTimer) bool {
	due, key, id, err := splitDueKey(d.index)
	if err != nil {
		return false // not written by this runtime; nothing else writes here
	}
	k, name := t.over.bind(key), string(id)
	var value []byte
	if d.value != nil {
		value = t.over.note(k, tableTimer, name, d.value).value
	} else {
		value = t.over.get(k, tableTimer, name)
	}
	timer, err := parseTimerValue(value)
	if value == nil || err != nil || timer.due != due {
		return false
	}
	t.over.set(k, tableTimer, name, nil)
	if strings.HasPrefix(name, internalPrefix) {
		t.internalTimer(k, name)
		return true
	}
	t.count.timers++
	t.count.lateness = append(t.count.lateness, t.now.Sub(fromMillis(due)))
	t.runTimer(k, name, timer)
	return true
}

func (t *task) runTimer(k *keyOverlay, id string, timer timerValue) {
	arg := Timer{ID: id, Due: fromMillis(timer.due), Payload: timer.payload}
	span := t.tracing.startFrom(t.top.Name, string(timer.trace))
	err := t.guard(k, span.parent(), func(ctx *Context) error { return t.proc.Timer(ctx, arg) })
	span.end(err)
	if err != nil && t.over.err == nil {
		t.deadLetter(DeadLetter{
			TimerID: id, TimerDue: arg.Due,
			Record: Record{Partition: t.partition, Offset: -1, Key: k.key, Value: timer.payload, Timestamp: t.now},
		}, err)
	}
}

// nextDue is when the next timer of the store or of the batch in hand is due.
func (t *task) nextDue() (time.Time, bool) {
	first, err := t.firstStored()
	if err != nil {
		t.over.err = err
		return time.Time{}, false
	}
	if len(t.over.due) > 0 && (first == nil || bytes.Compare(t.over.due[0], first) < 0) {
		first = t.over.due[0]
	}
	if first == nil {
		return time.Time{}, false
	}
	due, _, _, err := splitDueKey(first)
	return fromMillis(due), err == nil
}

// firstStored is the place of the first timer of the store in the due index, nil if there is none. It is
// looked up once for each committed batch; in a batch, a sweep moves it on.
func (t *task) firstStored() ([]byte, error) {
	c := &t.timers
	if c.known && (c.first == nil || c.sweep == nil || bytes.Compare(c.first, c.sweep) >= 0) {
		return c.first, nil
	}
	var first []byte
	err := t.store.scan(c.start(), []byte{kindDue + 1}, func(key, _ []byte) bool {
		first = append([]byte(nil), key...)
		return false
	})
	if err != nil {
		return nil, err
	}
	c.first, c.known = first, true
	return first, nil
}
