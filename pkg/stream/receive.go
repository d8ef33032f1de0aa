package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// receive takes a record of the hand-over topic.
func (t *task) receive(rec *Record) {
	if len(rec.Value) > 0 && (rec.Value[0] == handoverPart || rec.Value[0] == handoverVersioned) {
		p, err := decodePart(rec.Value)
		if err != nil {
			t.deadLetter(DeadLetter{Record: *rec}, classified{classInternal, err})
			return
		}
		if p.version > t.top.StateVersion {
			t.over.err = fmt.Errorf("%w (what a merge hands over is of version %d, the instance's is %d)", errNewer, p.version, t.top.StateVersion)
			return
		}
		t.receivePart(rec, p)
		return
	}
	env, err := decodeEnvelope(rec.Value)
	if err != nil {
		t.deadLetter(DeadLetter{Record: *rec}, classified{classInternal, err})
		return
	}
	env.key = rec.Key
	t.route(env)
}

// receivePart keeps a part until its transfer is whole, and then merges it. If this key has ended, too,
// the part goes on to where this key went.
func (t *task) receivePart(rec *Record, p *part) {
	k := t.over.bind(rec.Key)
	meta := t.meta(k)
	if meta.forward != "" && !t.closesCycle(k, &meta, &p.path) {
		p.path = append(p.path, hop{key: string(k.key), epoch: meta.epoch})
		t.emitHandover(meta.forward, encodePart(p), rec.Headers)
		return
	}
	if p.count == 1 {
		t.merge(rec, k, &meta, []*part{p})
		return
	}
	// The part keeps the way that it came: should this key end before the rest is here, it goes on as if
	// it had never stopped, ahead of the rest.
	transfer := transferName(p)
	t.over.set(k, tableMeta, partName(transfer, p.index), encodePart(p))
	have := 1
	if n := t.over.get(k, tableMeta, partsCount+transfer); n != nil {
		have += int(binary.BigEndian.Uint64(n))
	}
	if uint64(have) < p.count {
		t.over.set(k, tableMeta, partsCount+transfer, binary.BigEndian.AppendUint64(nil, uint64(have)))
		return
	}
	t.merge(rec, k, &meta, t.takeParts(k, transfer))
}

// transferName names a transfer by the key that ended and which of its pointers it followed.
func transferName(p *part) string {
	var w writer
	w.string(p.key)
	w.uint(p.epoch)
	return string(w.buf)
}

func partName(transfer string, index uint64) string {
	return partPrefix + transfer + string(binary.BigEndian.AppendUint64(nil, index))
}

// takeParts removes the parts of one transfer (or of all, if it is empty) that wait here and returns them
// in order.
func (t *task) takeParts(k *keyOverlay, transfer string) []*part {
	var parts []*part
	var names []string
	t.over.scan(k, tableMeta, partPrefix+transfer, func(name string, value []byte) bool {
		p, err := decodePart(value)
		if err != nil {
			t.over.err = errors.Join(errCorrupt, err)
			return false
		}
		parts = append(parts, p)
		names = append(names, name)
		return true
	})
	t.over.scan(k, tableMeta, partsCount+transfer, func(name string, _ []byte) bool {
		names = append(names, name)
		return true
	})
	for _, name := range names {
		t.over.set(k, tableMeta, name, nil)
	}
	return parts
}

// merge folds the state of a key that ended into this one, and lets go of the records that waited for it.
func (t *task) merge(rec *Record, k *keyOverlay, meta *keyMeta, parts []*part) {
	if t.over.err != nil {
		return
	}
	last := parts[len(parts)-1]
	src := newSource(parts)
	t.count.merges++
	span := t.tracing.start(t.top.Name, rec.Headers)
	var err error
	if last.version < t.top.StateVersion {
		src, err = t.upgradeSource(src, last.version)
	}
	if err == nil {
		err = t.guard(k, span.parent(), func(ctx *Context) error { return t.proc.Merge(ctx, src) })
	}
	span.end(err)
	if err != nil && t.over.err == nil {
		// The state stays in the dead letters as it came, part by part.
		for _, p := range parts {
			lost := *rec
			lost.Value = encodePart(p)
			t.deadLetter(DeadLetter{Record: lost}, classified{classMerge, fmt.Errorf("merging: %w", err)})
		}
	}
	meta.arrived(last.merge)
	meta.adopt(last.waits, last.done)
	if len(meta.waits) > 0 {
		t.saveWaits(k, meta)
		return
	}
	t.release(k, meta)
}

// newSource puts the parts of a transfer together, by name.
func newSource(parts []*part) *Source {
	src := &Source{key: []byte(parts[0].key)}
	for _, p := range parts {
		src.state = append(src.state, p.state...)
		src.timers = append(src.timers, p.timers...)
	}
	sort.SliceStable(src.state, func(i, j int) bool { return src.state[i].name < src.state[j].name })
	sort.SliceStable(src.timers, func(i, j int) bool { return src.timers[i].id < src.timers[j].id })
	return src
}

// arrived notes that the state of a merge is there: nobody waits for it any more, nor will when the
// announcement comes later.
func (m *keyMeta) arrived(id string) {
	if i := slices.IndexFunc(m.waits, func(w wait) bool { return w.merge == id }); i >= 0 {
		m.waits = slices.Delete(m.waits, i, i+1)
		return
	}
	if !slices.Contains(m.done, id) {
		m.done = append(m.done, id)
	}
	m.trim()
}

// adopt takes over what the key that ended was waiting for, and what it had seen already.
func (m *keyMeta) adopt(waits []wait, done []string) {
	for _, w := range waits {
		if i := slices.Index(m.done, w.merge); i >= 0 {
			m.done = slices.Delete(m.done, i, i+1)
			continue
		}
		if !slices.ContainsFunc(m.waits, func(have wait) bool { return have.merge == w.merge }) {
			m.waits = append(m.waits, w)
		}
	}
	for _, id := range done {
		if i := slices.IndexFunc(m.waits, func(w wait) bool { return w.merge == id }); i >= 0 {
			m.waits = slices.Delete(m.waits, i, i+1)
			continue
		}
		if !slices.Contains(m.done, id) {
			m.done = append(m.done, id)
		}
	}
	m.trim()
}

func (m *keyMeta) trim() {
	if n := len(m.done) - maxDone; n > 0 {
		m.done = slices.Delete(m.done, 0, n)
	}
}
