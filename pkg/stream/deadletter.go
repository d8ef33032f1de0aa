package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers of dead letters, and of what is put back. The record's own key, value and other headers stay as
// they were.
const (
	HeaderReason    = "sillage-reason"
	HeaderTopic     = "sillage-topic"
	HeaderPartition = "sillage-partition"
	HeaderOffset    = "sillage-offset"
	HeaderTimestamp = "sillage-timestamp-ms"
	HeaderTimer     = "sillage-timer"
	HeaderTimerDue  = "sillage-timer-due-ms"
	HeaderClass     = "sillage-class"
	HeaderDropped   = "sillage-dropped-bytes"
	// HeaderReplayed is on a record that was put back: partition/offset of its letter.
	HeaderReplayed = "sillage-replayed-from"
)

// DeadLetter is a record or a timer that could not be handled: where it was, why, and its original bytes.
type DeadLetter struct {
	// Topology is the stage that gave up on it.
	Topology string
	// Class says what kind of fault it was: "error" (the processor refused it), "panic", "misuse" (the
	// processor used its Context wrongly, or emitted or kept more than fits), "merge" (Merge refused the
	// state of a key that ended), "size" (the record is over a limit of the runtime), "internal" (it could
	// not be read as what the runtime writes) or "replay" (it was put back and does not fit any more).
	Class string
	// Reason is the error of the processor or the runtime. It may quote the record.
	Reason string
	// Record is the record as it was read. For a timer its key is the timer's, its value the payload, its
	// topic empty and its offset -1.
	Record Record
	// TimerID and TimerDue are set for a timer.
	TimerID  string
	TimerDue time.Time
	// Dropped is how many bytes were left out because the whole did not fit into a record: the value, and
	// if need be headers and key. The original lies where Record says, as long as its topic keeps it.
	Dropped int64
}

// class is a value of DeadLetter.Class.
type class string

const (
	classError    class = "error"
	classPanic    class = "panic"
	classMisuse   class = "misuse"
	classMerge    class = "merge"
	classSize     class = "size"
	classInternal class = "internal"
	classReplay   class = "replay"
)

// allClasses numbers them for counting.
var allClasses = [...]class{classError, classPanic, classMisuse, classMerge, classSize, classInternal, classReplay}

// classified is an error that says what kind of fault it is.
type classified struct {
	class class
	err   error
}

// Error is that of the fault itself.
func (c classified) Error() string { return c.err.Error() }

// Unwrap returns the fault itself.
func (c classified) Unwrap() error { return c.err }

// classOf is the class of a fault of a processor.
func classOf(err error) class {
	if c, ok := errors.AsType[classified](err); ok {
		return c.class
	}
	return classError
}

// maxReason bounds the reason, which may quote what it complains about.
const maxReason = 4 << 10

// maxDeadLetter bounds key, value and headers of a dead letter, with room for the runtime's own headers.
const maxDeadLetter = internalRecordBytes - 32<<10

// deadLetter gives up on a record or a timer because of err.
func (t *task) deadLetter(d DeadLetter, err error) {
	c := classOf(err)
	t.count.deadLetters[slices.Index(allClasses[:], c)]++
	d.Topology, d.Class, d.Reason = t.top.Name, string(c), err.Error()
	if len(d.Reason) > maxReason {
		d.Reason = strings.ToValidUTF8(d.Reason[:maxReason], "")
	}
	d.shrink()
	if t.dead != nil {
		t.dead(d)
	}
	rec := &d.Record
	out := output{topic: t.top.DeadLetterTopic(), headers: d.headers()}
	if rec.Key != nil {
		out.key = t.over.mem.copy(rec.Key)
	}
	if rec.Value != nil {
		out.value = t.over.mem.copy(rec.Value)
	}
	t.outputs = append(t.outputs, out)
}

// shrink leaves out what does not fit into a record of the dead-letter topic: an input may take more.
func (d *DeadLetter) shrink() {
	headers := 0
	for _, h := range d.Record.Headers {
		headers += len(h.Key) + len(h.Value)
	}
	rec := &d.Record
	size := len(rec.Key) + len(rec.Value) + headers
	drop := func(n int) {
		d.Dropped += int64(n)
		size -= n
	}
	if size > maxDeadLetter {
		drop(len(rec.Value))
		rec.Value = nil
	}
	if size > maxDeadLetter {
		drop(headers)
		rec.Headers = nil
	}
	if size > maxDeadLetter {
		drop(len(rec.Key))
		rec.Key = nil
	}
}

// logPanic says where a processor panicked, at a bounded rate: a stream of bad records is no stream of stacks.
func (t *task) logPanic(p any) {
	if now := time.Now(); now.Sub(t.panicked) >= logEvery {
		t.panicked = now
		t.logger.Error("processor panicked; the record goes to the dead letters (more panics within half a minute are only counted)",
			slog.Int("partition", int(t.partition)), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
	}
}

func (d *DeadLetter) headers() []Header {
	headers := append([]Header(nil), d.Record.Headers...)
	if d.Dropped > 0 {
		headers = append(headers, Header{HeaderDropped, strconv.AppendInt(nil, d.Dropped, 10)})
	}
	headers = append(headers,
		Header{HeaderClass, []byte(d.Class)},
		Header{HeaderReason, []byte(d.Reason)},
		Header{HeaderPartition, strconv.AppendInt(nil, int64(d.Record.Partition), 10)},
		Header{HeaderTimestamp, strconv.AppendInt(nil, d.Record.Timestamp.UnixMilli(), 10)},
	)
	if d.TimerID != "" || d.Record.Topic == "" {
		return append(headers,
			Header{HeaderTimer, []byte(d.TimerID)},
			Header{HeaderTimerDue, strconv.AppendInt(nil, d.TimerDue.UnixMilli(), 10)})
	}
	return append(headers,
		Header{HeaderTopic, []byte(d.Record.Topic)},
		Header{HeaderOffset, strconv.AppendInt(nil, d.Record.Offset, 10)})
}

// ParseDeadLetter reads a record of a dead-letter topic back. Package dlq reads whole topics and puts
// letters back.
func ParseDeadLetter(topology string, rec Record) (DeadLetter, error) {
	d := DeadLetter{Topology: topology, Record: Record{Key: rec.Key, Value: rec.Value, Offset: -1}}
	var errs error
	number := func(h Header, bits int) int64 {
		v, err := strconv.ParseInt(string(h.Value), 10, bits)
		if err != nil && errs == nil {
			errs = fmt.Errorf("reading header %s of a dead letter: %w", h.Key, err)
		}
		return v
	}
	for _, h := range rec.Headers {
		switch h.Key {
		case HeaderClass:
			d.Class = string(h.Value)
		case HeaderDropped:
			d.Dropped = number(h, 64)
		case HeaderReason:
			d.Reason = string(h.Value)
		case HeaderTopic:
			d.Record.Topic = string(h.Value)
		case HeaderPartition:
			d.Record.Partition = int32(number(h, 32))
		case HeaderOffset:
			d.Record.Offset = number(h, 64)
		case HeaderTimestamp:
			d.Record.Timestamp = fromMillis(number(h, 64))
		case HeaderTimer:
			d.TimerID = string(h.Value)
		case HeaderTimerDue:
			d.TimerDue = fromMillis(number(h, 64))
		default:
			d.Record.Headers = append(d.Record.Headers, h)
		}
	}
	return d, errs
}
