package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// names of the runtime's own entries of a key.
const (
	metaName   = "m" // keyMeta
	heldPrefix = "h" // + sequence: records that wait, in order
	partPrefix = "p" // + transfer + index: parts of a transfer that is not whole yet
	partsCount = "c" // + transfer: how many of them there are
	waitTimer  = internalPrefix + "wait"
	// maxDone bounds the merges that a key remembers because their state came before their announcement.
	maxDone = 128
)

// keyMeta is what the runtime keeps for a key that takes part in merges.
type keyMeta struct {
	forward  string // the key that goes on, empty while this one does
	epoch    uint64 // of the forward pointer; rises with each
	waits    []wait // announced merges whose state has not come
	done     []string
	heldNext uint64 // sequence of the next held record
	held     uint64 // how many there are
}

// wait is an announced merge, and when (in milliseconds of the injected clock) it is given up.
type wait struct {
	merge    string
	deadline int64
}

func (m *keyMeta) encode() []byte {
	var w writer
	w.string(m.forward)
	w.uint(m.epoch)
	w.waits(m.waits)
	w.strings(m.done)
	w.uint(m.heldNext)
	w.uint(m.held)
	return w.buf
}

func decodeKeyMeta(data []byte) (keyMeta, error) {
	r := reader{buf: data}
	m := keyMeta{forward: r.string(), epoch: r.uint(), waits: r.waits(), done: r.strings(), heldNext: r.uint(), held: r.uint()}
	return m, r.done()
}

func (t *task) meta(k *keyOverlay) keyMeta {
	data := t.over.get(k, tableMeta, metaName)
	if data == nil {
		return keyMeta{}
	}
	m, err := decodeKeyMeta(data)
	if err != nil && t.over.err == nil {
		t.over.err = fmt.Errorf("reading the merge state of a key: %w", errors.Join(errCorrupt, err))
	}
	return m
}

func (t *task) setMeta(k *keyOverlay, m *keyMeta) {
	if m.forward == "" && m.epoch == 0 && len(m.waits) == 0 && len(m.done) == 0 && m.held == 0 {
		t.over.set(k, tableMeta, metaName, nil)
		return
	}
	t.over.set(k, tableMeta, metaName, m.encode())
}

// route brings a record to where its key's person is now: it is handled here, waits here for announced
// state, or follows a forward pointer.
func (t *task) route(env *envelope) {
	if len(env.target()) > maxKeyBytes {
		t.deadLetter(DeadLetter{Record: env.rec}, errKeyTooLong)
		return
	}
	k := t.over.bind(env.target())
	if t.top.Merges == nil {
		t.handle(k, env)
		return
	}
	merge, err := t.mergeOf(env.rec)
	if err != nil {
		t.deadLetter(DeadLetter{Record: env.rec}, err)
		return
	}
	meta := t.meta(k)
	if meta.forward != "" && !t.closesCycle(k, &meta, &env.path) {
		t.forward(&meta, k, env)
		return
	}
	switch merge.Kind {
	case MergeInto:
		// Not even the records that wait here hold it up: they follow the state. So crossing merges
		// cannot wait for each other.
		t.handle(k, env)
		t.endKey(k, merge)
	case MergeAnnounced:
		t.announced(k, &meta, merge.ID, env)
	case NoMerge:
		t.ordinary(k, &meta, env)
	}
}

func (t *task) mergeOf(rec Record) (m Merge, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading what the record means for merging: panic: %v", p)
		}
	}()
	m = t.top.Merges(rec)
	if m.Kind == NoMerge {
		return m, nil
	}
	if len(m.Other) == 0 || len(m.Other) > maxKeyBytes || m.ID == "" || len(m.ID) > maxNameBytes {
		return Merge{}, errors.New("the record is a merge without an id or another key, or they are over 4 KiB")
	}
	return m, nil
}

func (t *task) ordinary(k *keyOverlay, meta *keyMeta, env *envelope) {
	if len(meta.waits) == 0 {
		t.handle(k, env)
		return
	}
	t.hold(k, meta, env)
}

// announced starts to wait for the state of another key, unless it came before the announcement. The
// announcement itself is handled at once, or behind the records that wait already.
func (t *task) announced(k *keyOverlay, meta *keyMeta, id string, env *envelope) {
	waiting := len(meta.waits) > 0
	if env.announced {
		// It was held at a key that has ended since; the wait came over with that key's state.
		t.ordinary(k, meta, env)
		return
	}
	if i := slices.Index(meta.done, id); i >= 0 {
		meta.done = slices.Delete(meta.done, i, i+1)
	} else if !slices.ContainsFunc(meta.waits, func(w wait) bool { return w.merge == id }) {
		meta.waits = append(meta.waits, wait{merge: id, deadline: t.now.Add(t.limits.wait).UnixMilli()})
	}
	env.announced = true
	if waiting {
		t.hold(k, meta, env)
		return
	}
	t.saveWaits(k, meta)
	t.handle(k, env)
}

// saveWaits stores meta and sets the timer that gives up the first of its waits.
func (t *task) saveWaits(k *keyOverlay, meta *keyMeta) {
	t.setMeta(k, meta)
	if len(meta.waits) == 0 {
		t.cancelTimer(k, waitTimer)
		return
	}
	first := meta.waits[0].deadline
	for _, w := range meta.waits {
		first = min(first, w.deadline)
	}
	t.setTimer(k, waitTimer, first, "", nil)
}

func heldName(seq uint64) string {
	return heldPrefix + string(binary.BigEndian.AppendUint64(nil, seq))
}

// hold keeps a record until the announced state is there. When too many wait, the wait is over: order
// and completeness matter more than what the state would have added.
func (t *task) hold(k *keyOverlay, meta *keyMeta, env *envelope) {
	if meta.held >= uint64(t.limits.held) {
		meta.waits = nil
		t.release(k, meta)
		t.handle(k, env)
		return
	}
	data := encodeEnvelope(env)
	if len(data) > maxWrapped {
		t.deadLetter(DeadLetter{Record: env.rec}, tooLargeToMove(len(data)))
		return
	}
	t.over.set(k, tableMeta, heldName(meta.heldNext), data)
	meta.heldNext++
	meta.held++
	t.count.held++
	t.saveWaits(k, meta)
}

// release handles the held records in order.
func (t *task) release(k *keyOverlay, meta *keyMeta) {
	envs := t.takeHeld(k, meta)
	t.saveWaits(k, meta)
	for _, env := range envs {
		t.handle(k, env)
	}
}

// takeHeld removes the held records from the state and returns them in order.
func (t *task) takeHeld(k *keyOverlay, meta *keyMeta) []*envelope {
	envs := make([]*envelope, 0, meta.held)
	for seq := meta.heldNext - meta.held; seq < meta.heldNext; seq++ {
		data := t.over.get(k, tableMeta, heldName(seq))
		env, err := decodeEnvelope(data)
		if err != nil {
			if t.over.err == nil {
				t.over.err = errors.Join(errCorrupt, err)
			}
			return nil
		}
		env.key = k.key
		envs = append(envs, env)
		t.over.set(k, tableMeta, heldName(seq), nil)
	}
	t.count.held -= len(envs)
	meta.held, meta.heldNext = 0, 0
	return envs
}

// internalTimer gives up the waits whose time is over.
func (t *task) internalTimer(k *keyOverlay, _ string) {
	meta := t.meta(k)
	now := t.now.UnixMilli()
	meta.waits = slices.DeleteFunc(meta.waits, func(w wait) bool { return w.deadline <= now })
	if len(meta.waits) > 0 {
		t.saveWaits(k, &meta)
		return
	}
	t.release(k, &meta)
}

// forward sends a record of a key that ended after it.
func (t *task) forward(meta *keyMeta, k *keyOverlay, env *envelope) {
	env.path = append(env.path, hop{key: string(k.key), epoch: meta.epoch})
	data := encodeEnvelope(env)
	if len(data) > maxWrapped {
		t.deadLetter(DeadLetter{Record: env.rec}, tooLargeToMove(len(data)))
		return
	}
	t.emitHandover(meta.forward, data, env.rec.Headers)
}

// maxWrapped bounds a record with the way that it came, where it waits or follows a merge: what the
// runtime's own topics take.
const maxWrapped = internalRecordBytes - 32<<10

func tooLargeToMove(n int) error {
	return classified{classSize, fmt.Errorf("%d bytes are more than the %d that a record may have that waits for a merge or follows one", n, maxWrapped)}
}

func (t *task) emitHandover(key string, value []byte, headers []Header) {
	out := output{topic: t.top.HandoverTopic(), key: []byte(key), value: value}
	for _, h := range headers {
		if h.Key == headerTrace {
			out.headers = []Header{h}
		}
	}
	t.outputs = append(t.outputs, out)
}

// closesCycle says whether a hand-over record has come all the way round a cycle of forward pointers and
// this is the key where the cycle is to end: the least one in it. The key then goes on again.
//
// Only keys that go on get a forward pointer, and a pointer stays until its key is the end of a cycle. So
// the pointers on the way of a record that meets the same pointer twice are a cycle, every record that
// goes round it finds the same least key, and exactly one pointer of it is taken back.
func (t *task) closesCycle(k *keyOverlay, meta *keyMeta, path *[]hop) bool {
	at := slices.Index(*path, hop{key: string(k.key), epoch: meta.epoch})
	if at < 0 {
		return false
	}
	cycle := (*path)[at:]
	for _, h := range cycle {
		if h.key < string(k.key) {
			*path = cycle[1:] // this hop is added again as it goes on: the way does not grow with each round
			return false
		}
	}
	*path = nil
	meta.forward = ""
	t.setMeta(k, meta)
	return true
}

// endKey hands everything that a key has to the key that goes on, and leaves a forward pointer.
func (t *task) endKey(k *keyOverlay, merge Merge) {
	other := string(merge.Other)
	if other == string(k.key) || t.over.err != nil {
		return
	}
	meta := t.meta(k)
	held := t.takeHeld(k, &meta)
	parts := t.takeParts(k, "")
	meta.epoch++
	t.handOver(k, &meta, merge)
	for _, p := range parts {
		p.path = append(p.path, hop{key: string(k.key), epoch: meta.epoch})
		t.emitHandover(other, encodePart(p), nil)
	}
	meta.forward, meta.waits, meta.done = other, nil, nil
	t.setMeta(k, &meta)
	for _, env := range held {
		t.forward(&meta, k, env)
	}
}

// handOver emits the state and timers of a key in parts and deletes them here.
func (t *task) handOver(k *keyOverlay, meta *keyMeta, merge Merge) {
	parts := []*part{{}}
	size := 0
	grow := func(n int) *part {
		if size > 0 && size+n > t.limits.partBytes {
			parts = append(parts, &part{})
			size = 0
		}
		size += n
		return parts[len(parts)-1]
	}
	var names, ids []string
	t.over.scan(k, tableState, "", func(name string, value []byte) bool {
		p := grow(len(name) + len(value) + 8)
		p.state = append(p.state, named{name, value})
		names = append(names, name)
		return true
	})
	t.over.scan(k, tableTimer, "", func(id string, value []byte) bool {
		ids = append(ids, id)
		if timer, err := parseTimerValue(value); err == nil && !strings.HasPrefix(id, internalPrefix) {
			p := grow(len(id) + len(value) + 8)
			p.timers = append(p.timers, sourceTimer{id, timer})
		}
		return true
	})
	last := parts[len(parts)-1]
	last.waits, last.done = meta.waits, meta.done
	for i, p := range parts {
		p.path = []hop{{key: string(k.key), epoch: meta.epoch}}
		p.merge, p.key, p.epoch = merge.ID, string(k.key), meta.epoch
		p.version = t.top.StateVersion
		p.index, p.count = uint64(i), uint64(len(parts))
		t.emitHandover(string(merge.Other), encodePart(p), nil)
	}
	for _, name := range names {
		t.over.set(k, tableState, name, nil)
	}
	for _, id := range ids {
		t.over.set(k, tableTimer, id, nil)
	}
}
