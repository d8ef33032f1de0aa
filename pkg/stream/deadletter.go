package stream

import (
	"fmt"
	"strconv"
	"time"
)

// Headers of dead letters. The record's own key, value and other headers stay as they were.
const (
	HeaderReason    = "sillage-reason"
	HeaderTopic     = "sillage-topic"
	HeaderPartition = "sillage-partition"
	HeaderOffset    = "sillage-offset"
	HeaderTimestamp = "sillage-timestamp-ms"
	HeaderTimer     = "sillage-timer"
	HeaderTimerDue  = "sillage-timer-due-ms"
)

// DeadLetter is a record or a timer that could not be handled: where it was, why, and its original bytes.
type DeadLetter struct {
	// Topology is the stage that gave up on it.
	Topology string
	// Reason is the error of the processor or the runtime.
	Reason string
	// Record is the record as it was read. For a timer its key is the timer's, its value the payload, its
	// topic empty and its offset -1.
	Record Record
	// TimerID and TimerDue are set for a timer.
	TimerID  string
	TimerDue time.Time
}

// maxReason bounds the reason, which may quote what it complains about.
const maxReason = 4 << 10

func (t *task) deadLetter(d DeadLetter) {
	t.count.deadLetters++
	d.Topology = t.top.Name
	if len(d.Reason) > maxReason {
		d.Reason = d.Reason[:maxReason]
	}
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

func (d *DeadLetter) headers() []Header {
	headers := append([]Header(nil), d.Record.Headers...)
	headers = append(headers,
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

// ParseDeadLetter reads a record of a dead-letter topic back: what is needed to show it, or to send it
// again to the topic that it came from.
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
