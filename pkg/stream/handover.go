package stream

import (
	"fmt"
)

// Records of the hand-over topic: either a record of a key that ended, on its way to the key that goes
// on, or a part of the state of such a key.
const (
	handoverRecord = 1
	handoverPart   = 2
	// handoverVersioned is a part with the version of its state, which is not 0.
	handoverVersioned = 3
)

// hop is a forward pointer that a hand-over record has followed: the key that it was at, and which of
// the pointers that this key has had.
type hop struct {
	key   string
	epoch uint64
}

// envelope is a record with the way that it came.
type envelope struct {
	rec  Record
	key  []byte // whose record it is now; nil: rec.Key
	path []hop
	// announced is set on a held merge announcement: its wait is noted already.
	announced bool
}

func (e *envelope) target() []byte {
	if e.key != nil {
		return e.key
	}
	return e.rec.Key
}

// part is a piece of the state of a key that ended. The last of its transfer carries what the key was
// itself still waiting for.
type part struct {
	path  []hop
	merge string // id of the merge
	key   string // that ended
	epoch uint64 // of its forward pointer: with key the name of the transfer
	index uint64
	count uint64
	// version of the state, see Topology.StateVersion
	version int
	waits   []wait
	done    []string
	// entries in order: state by name, then timers by id
	state  []named
	timers []sourceTimer
}

func encodeEnvelope(e *envelope) []byte {
	w := writer{buf: make([]byte, 0, 64+len(e.rec.Key)+len(e.rec.Value))}
	w.byte(handoverRecord)
	w.path(e.path)
	w.bool(e.announced)
	w.string(e.rec.Topic)
	w.int(int64(e.rec.Partition))
	w.int(e.rec.Offset)
	w.int(e.rec.Timestamp.UnixMilli())
	w.optional(e.rec.Key)
	w.optional(e.rec.Value)
	w.uint(uint64(len(e.rec.Headers)))
	for _, h := range e.rec.Headers {
		w.string(h.Key)
		w.optional(h.Value)
	}
	return w.buf
}

// decodeEnvelope reads an envelope; its record refers to data.
func decodeEnvelope(data []byte) (*envelope, error) {
	r := reader{buf: data}
	if kind := r.byte(); kind != handoverRecord {
		return nil, fmt.Errorf("reading a forwarded record: kind %d is not known", kind)
	}
	e := &envelope{path: r.path(), announced: r.byte() == 1}
	e.rec.Topic = r.string()
	e.rec.Partition = int32(r.int())
	e.rec.Offset = r.int()
	e.rec.Timestamp = fromMillis(r.int())
	e.rec.Key = r.optional()
	e.rec.Value = r.optional()
	for range r.count() {
		e.rec.Headers = append(e.rec.Headers, Header{Key: r.string(), Value: r.optional()})
	}
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("reading a forwarded record: %w", err)
	}
	return e, nil
}

func encodePart(p *part) []byte {
	w := writer{buf: make([]byte, 0, 1024)}
	if p.version == 0 {
		w.byte(handoverPart)
	} else {
		w.byte(handoverVersioned)
		w.uint(uint64(p.version))
	}
	w.path(p.path)
	w.string(p.merge)
	w.string(p.key)
	w.uint(p.epoch)
	w.uint(p.index)
	w.uint(p.count)
	w.waits(p.waits)
	w.strings(p.done)
	w.uint(uint64(len(p.state)))
	for _, e := range p.state {
		w.string(e.name)
		w.bytes(e.value)
	}
	w.uint(uint64(len(p.timers)))
	for _, t := range p.timers {
		w.string(t.id)
		w.int(t.value.due)
		w.bytes(t.value.trace)
		w.bytes(t.value.payload)
	}
	return w.buf
}

// decodePart reads a part; values refer to data.
func decodePart(data []byte) (*part, error) {
	r := reader{buf: data}
	version := 0
	switch kind := r.byte(); kind {
	case handoverPart:
	case handoverVersioned:
		version = int(r.uint())
	default:
		return nil, fmt.Errorf("reading handed-over state: kind %d is not known", kind)
	}
	p := &part{version: version, path: r.path(), merge: r.string(), key: r.string(), epoch: r.uint(), index: r.uint(), count: r.uint()}
	p.waits = r.waits()
	p.done = r.strings()
	for range r.count() {
		p.state = append(p.state, named{name: r.string(), value: r.bytes()})
	}
	for range r.count() {
		t := sourceTimer{id: r.string()}
		t.value.due = r.int()
		t.value.trace = r.bytes()
		t.value.payload = r.bytes()
		p.timers = append(p.timers, t)
	}
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("reading handed-over state: %w", err)
	}
	if p.count == 0 || p.index >= p.count {
		return nil, fmt.Errorf("reading handed-over state: part %d of %d", p.index, p.count)
	}
	return p, nil
}

func (w *writer) bool(v bool) {
	if v {
		w.byte(1)
		return
	}
	w.byte(0)
}

func (w *writer) path(path []hop) {
	w.uint(uint64(len(path)))
	for _, h := range path {
		w.string(h.key)
		w.uint(h.epoch)
	}
}

func (r *reader) path() []hop {
	var path []hop
	for range r.count() {
		path = append(path, hop{key: r.string(), epoch: r.uint()})
	}
	return path
}

func (w *writer) waits(waits []wait) {
	w.uint(uint64(len(waits)))
	for _, v := range waits {
		w.string(v.merge)
		w.int(v.deadline)
	}
}

func (r *reader) waits() []wait {
	var waits []wait
	for range r.count() {
		waits = append(waits, wait{merge: r.string(), deadline: r.int()})
	}
	return waits
}

func (w *writer) strings(list []string) {
	w.uint(uint64(len(list)))
	for _, s := range list {
		w.string(s)
	}
}

func (r *reader) strings() []string {
	var list []string
	for range r.count() {
		list = append(list, r.string())
	}
	return list
}
