package stream

import (
	"errors"
	"fmt"
	"slices"
)

// Replay is the record that puts the letter back: written to [Topology.ReplayTopic], the stage that gave
// up on it handles it once more, as if it were read from its topic, or fires the timer. partition and
// offset are the letter's own place among the dead letters; the processor sees them in HeaderReplayed, and
// so does who reads the new letter if it fails again. The record has to go to the partition that it names.
//
// It goes to that stage alone and not to the topic that it came from, whose other readers have handled
// it already and would count it twice.
func (d *DeadLetter) Replay(partition int32, offset int64) (Record, error) {
	if d.Dropped > 0 {
		return Record{}, fmt.Errorf("%d bytes of it did not fit into the dead letters; the original is partition %d, offset %d of %s, as long as that keeps it",
			d.Dropped, d.Record.Partition, d.Record.Offset, d.Record.Topic)
	}
	headers := slices.DeleteFunc(d.headers(), func(h Header) bool { return h.Key == HeaderReplayed || h.Key == HeaderReason || h.Key == HeaderClass })
	headers = append(headers, Header{HeaderReplayed, fmt.Appendf(nil, "%d/%d", partition, offset)})
	return Record{
		Topic: Topology{Name: d.Topology}.ReplayTopic(), Partition: d.Record.Partition,
		Key: d.Record.Key, Value: d.Record.Value, Headers: headers,
	}, nil
}

// replay handles a dead letter that was put back.
func (t *task) replay(rec *Record) {
	t.count.replays++
	d, err := ParseDeadLetter(t.top.Name, *rec)
	if err != nil {
		t.deadLetter(DeadLetter{Record: *rec}, classified{classInternal, err})
		return
	}
	switch {
	case d.Record.Topic == "":
		t.replayTimer(&d)
	case t.top.Merges != nil && d.Record.Topic == t.top.HandoverTopic():
		t.receive(&d.Record)
	case slices.Contains(t.top.Inputs, d.Record.Topic):
		t.route(&envelope{rec: d.Record})
	default:
		t.deadLetter(d, classified{classReplay, fmt.Errorf("%s is no input of this stage any more", d.Record.Topic)})
	}
}

// replayTimer fires a timer once more. One that was set anew under the same id stays as it is.
func (t *task) replayTimer(d *DeadLetter) {
	if len(d.Record.Key) > maxKeyBytes {
		t.deadLetter(*d, errKeyTooLong)
		return
	}
	k := t.over.bind(d.Record.Key)
	if t.top.Merges != nil && t.meta(k).forward != "" {
		t.deadLetter(*d, classified{classReplay, errors.New("the key of the timer has ended in another, which got its timers then")})
		return
	}
	arg := Timer{ID: d.TimerID, Due: d.TimerDue, Payload: d.Record.Value}
	span := t.tracing.start(t.top.Name, d.Record.Headers)
	err := t.guard(k, span.parent(), func(ctx *Context) error { return t.proc.Timer(ctx, arg) })
	span.end(err)
	if err != nil && t.over.err == nil {
		t.deadLetter(*d, err)
	}
}
