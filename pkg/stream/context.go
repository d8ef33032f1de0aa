package stream

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// internalPrefix begins the ids of the runtime's own timers.
const internalPrefix = "\x00"

// Context is a processor's only way to act: it reads and writes the state of one key, sets its timers
// and emits records. It is valid during the call that it is given to.
//
// Misuse (a topic that is not among the outputs, a name or record over the limit) is kept and fails the
// record when the call returns, as if the processor had returned an error.
type Context struct {
	task  *task
	key   *keyOverlay
	trace string // traceparent of what is emitted, empty if not sampled
	err   error
}

// Key is the key that the record or timer belongs to.
func (c *Context) Key() []byte { return c.key.key }

// Now is the injected clock's time, in UTC with millisecond precision; the same for a whole batch. It is
// never before the due time of the timer in hand.
func (c *Context) Now() time.Time { return c.task.now }

// Get returns the value of a name, and false if it has none.
func (c *Context) Get(name string) ([]byte, bool) {
	v := c.task.over.get(c.key, tableState, name)
	return v, v != nil
}

// Put sets the value of a name; it is copied.
func (c *Context) Put(name string, value []byte) {
	if err := c.task.checkEntry(name, value); err != nil {
		c.fail(fmt.Errorf("putting state: %w", err))
		return
	}
	c.task.over.set(c.key, tableState, name, c.task.over.mem.copy(value))
}

// Delete removes a name; one that is not there is no error.
func (c *Context) Delete(name string) { c.task.over.set(c.key, tableState, name, nil) }

// Range calls fn for every name that begins with prefix, in name order, until fn returns false. fn may
// change state; whether the walk still meets what fn puts or deletes ahead of it is not defined.
func (c *Context) Range(prefix string, fn func(name string, value []byte) bool) {
	c.task.over.scan(c.key, tableState, prefix, fn)
}

// SetTimer sets a timer to fire at due (to the millisecond), in place of one of the same id. One that is
// due already fires as soon as the record is done.
func (c *Context) SetTimer(id string, due time.Time, payload []byte) {
	if err := errors.Join(checkTimerID(id), c.task.checkEntry(id, payload)); err != nil {
		c.fail(fmt.Errorf("setting a timer: %w", err))
		return
	}
	c.task.setTimer(c.key, id, due.UnixMilli(), c.trace, payload)
}

// CancelTimer cancels a timer; one that is not set is no error.
func (c *Context) CancelTimer(id string) {
	if err := checkTimerID(id); err != nil {
		c.fail(fmt.Errorf("cancelling a timer: %w", err))
		return
	}
	c.task.cancelTimer(c.key, id)
}

// TimerDue says when a timer is due, and false if it is not set.
func (c *Context) TimerDue(id string) (time.Time, bool) {
	v := c.task.over.get(c.key, tableTimer, id)
	if v == nil {
		return time.Time{}, false
	}
	timer, err := parseTimerValue(v)
	if err != nil {
		return time.Time{}, false
	}
	return fromMillis(timer.due), true
}

// Emit writes a record to one of the topology's outputs, in the transaction of the record in hand. Key
// and value are copied; a nil value is a tombstone.
func (c *Context) Emit(topic string, key, value []byte) {
	if !c.task.isOutput(topic) {
		c.fail(fmt.Errorf("emitting to %q: it is not among the outputs of topology %s", topic, c.task.top.Name))
		return
	}
	if n, limit := len(key)+len(value), c.task.outputLimit(topic); n > limit {
		c.fail(fmt.Errorf("emitting to %s: %d bytes are more than the %d that a record may have there", topic, n, limit))
		return
	}
	c.task.emit(topic, key, value, c.trace)
}

func (c *Context) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func checkTimerID(id string) error {
	if strings.HasPrefix(id, internalPrefix) {
		return fmt.Errorf("id %q: ids that begin with a zero byte are the runtime's", id)
	}
	return nil
}

// Source is the state of a key that ended, as Merge is given it. It is valid during the call.
type Source struct {
	key    []byte
	state  []named
	timers []sourceTimer
}

type sourceTimer struct {
	id    string
	value timerValue
}

// Key is the key that ended.
func (s *Source) Key() []byte { return s.key }

// Get returns the value that a name had, and false if it had none.
func (s *Source) Get(name string) ([]byte, bool) {
	lo, hi := 0, len(s.state)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.state[mid].name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(s.state) && s.state[lo].name == name {
		return s.state[lo].value, true
	}
	return nil, false
}

// Range calls fn for every name that begins with prefix, in name order, until fn returns false.
func (s *Source) Range(prefix string, fn func(name string, value []byte) bool) {
	for _, e := range s.state {
		if strings.HasPrefix(e.name, prefix) && !fn(e.name, e.value) {
			return
		}
	}
}

// Timers calls fn for every timer that was set, in id order, until fn returns false.
func (s *Source) Timers(fn func(id string, due time.Time, payload []byte) bool) {
	for _, t := range s.timers {
		if !fn(t.id, fromMillis(t.value.due), t.value.payload) {
			return
		}
	}
}
