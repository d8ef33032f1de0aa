package stream

import (
	"bytes"
	"container/heap"
	"strings"
	"unsafe"
)

// overlay is what the batch in hand has read and changed. Reads see it first, then the store. It goes
// into the store when the batch's transaction has committed and is dropped when it has not, so that an
// aborted batch leaves no trace.
type overlay struct {
	store store
	mem   arena
	keys  map[string]*keyOverlay
	order []*keyOverlay // as first touched, so that changes come out in a fixed order
	free  []*keyOverlay

	journal []undo  // what to take back if the record in hand fails
	due     dueHeap // timers set in this batch, by due; stale entries are skipped when they come up
	scratch []byte
	err     error // first fault of the store; the batch cannot go on
}

// tables of a key, by kind.
const (
	tableState = iota
	tableTimer
	tableMeta
	tableCount
)

func tableKind(table int) byte {
	return [tableCount]byte{kindState, kindTimer, kindMeta}[table]
}

type keyOverlay struct {
	key    []byte
	tables [tableCount]table
}

// entry is one name of a key. base is what the store holds, once it has been read.
type entry struct {
	name    string
	value   []byte // nil: not there
	base    []byte
	hasBase bool
	dirty   bool
}

type undo struct {
	key    *keyOverlay
	table  int
	before entry
}

func newOverlay(s store) *overlay {
	return &overlay{store: s, keys: make(map[string]*keyOverlay)}
}

// bind returns the part of the overlay that belongs to key.
func (o *overlay) bind(key []byte) *keyOverlay {
	if k, ok := o.keys[string(key)]; ok {
		return k
	}
	var k *keyOverlay
	if n := len(o.free); n > 0 {
		k, o.free = o.free[n-1], o.free[:n-1]
	} else {
		k = new(keyOverlay)
	}
	k.key = o.mem.copy(key)
	// The map's key is the same memory: it is never written to, and both go in reset.
	o.keys[unsafe.String(unsafe.SliceData(k.key), len(k.key))] = k //nolint:gosec // see above
	o.order = append(o.order, k)
	return k
}

// entry returns the entry of a name, read from the store if it is not in the overlay yet. The pointer is
// valid until the next entry of the same table is inserted.
func (o *overlay) entry(k *keyOverlay, table int, name string) *entry {
	t := &k.tables[table]
	at, found := t.find(name)
	if found {
		e := t.at(at)
		if !e.hasBase {
			e.base = o.load(k.key, table, name)
			e.hasBase = true
		}
		return e
	}
	base := o.load(k.key, table, name)
	return t.insert(at, entry{name: name, value: base, base: base, hasBase: true})
}

// note puts a timer that a scan of the due index found into the overlay without a second read. base must
// live in o.mem.
func (o *overlay) note(k *keyOverlay, table int, name string, base []byte) *entry {
	t := &k.tables[table]
	at, found := t.find(name)
	if found {
		return t.at(at)
	}
	return t.insert(at, entry{name: name, value: base, base: base, hasBase: true})
}

func (o *overlay) load(key []byte, table int, name string) []byte {
	if o.err != nil {
		return nil
	}
	o.scratch = appendStoreKey(o.scratch[:0], tableKind(table), key, name)
	v, ok, err := o.store.get(o.scratch, &o.mem)
	if err != nil {
		o.err = err
		return nil
	}
	if !ok {
		return nil
	}
	if v == nil {
		v = []byte{}
	}
	return v
}

func (o *overlay) get(k *keyOverlay, table int, name string) []byte {
	if at, found := k.tables[table].find(name); found {
		return k.tables[table].at(at).value
	}
	return o.entry(k, table, name).value
}

// set changes a name; value nil deletes it. The value must live in o.mem. A blind write reads nothing;
// timers are read first, because their old place in the due index must be known.
func (o *overlay) set(k *keyOverlay, table int, name string, value []byte) {
	t := &k.tables[table]
	at, found := t.find(name)
	if !found {
		e := entry{name: name}
		if table == tableTimer {
			e.base = o.load(k.key, table, name)
			e.value, e.hasBase = e.base, true
		}
		added := t.insert(at, e)
		// The undo of a blind write is a name that nobody has read.
		o.journal = append(o.journal, undo{key: k, table: table, before: e})
		added.value, added.dirty = value, true
		return
	}
	e := t.at(at)
	o.journal = append(o.journal, undo{key: k, table: table, before: *e})
	e.value, e.dirty = value, true
}

// savepoint ends the record before; rollback takes back what has been set since.
func (o *overlay) savepoint() { o.journal = o.journal[:0] }

func (o *overlay) rollback() {
	for i := len(o.journal) - 1; i >= 0; i-- {
		u := &o.journal[i]
		t := &u.key.tables[u.table]
		at, found := t.find(u.before.name)
		if !found {
			continue
		}
		if !u.before.dirty && !u.before.hasBase {
			t.remove(at)
			continue
		}
		e := t.at(at)
		if e.hasBase && !u.before.hasBase {
			u.before.base, u.before.hasBase = e.base, true
		}
		*e = u.before
	}
	o.journal = o.journal[:0]
}

// named is one entry that a scan found.
type named struct {
	name  string
	value []byte
}

// scan calls fn for the names of a key that begin with prefix, in order. It reads ahead in pieces, so
// that fn may change what it walks over; such changes are seen from the next piece on.
func (o *overlay) scan(k *keyOverlay, table int, prefix string, fn func(name string, value []byte) bool) {
	from, piece := prefix, 32
	for o.err == nil {
		found, more := o.piece(k, table, prefix, from, piece)
		for _, n := range found {
			if !fn(n.name, n.value) {
				return
			}
		}
		if !more {
			return
		}
		from = found[len(found)-1].name + "\x00"
		piece = min(piece*4, 4096)
	}
}

// piece merges up to limit names from `from` on of the store and the overlay.
func (o *overlay) piece(k *keyOverlay, table int, prefix, from string, limit int) (found []named, more bool) {
	lower := appendStoreKey(nil, tableKind(table), k.key, from)
	upper := prefixEnd(appendStoreKey(nil, tableKind(table), k.key, prefix))
	skip := 3 + len(k.key)
	t := &k.tables[table]
	at, _ := t.find(from)
	fromOverlay := func(until string, bounded bool) bool {
		for e := t.at(at); e != nil && strings.HasPrefix(e.name, prefix); e = t.at(at) {
			if bounded && e.name >= until {
				break
			}
			if e.value != nil {
				if len(found) == limit {
					return false
				}
				found = append(found, named{e.name, e.value})
			}
			at = t.next(at)
		}
		return true
	}
	err := o.store.scan(lower, upper, func(key, value []byte) bool {
		name := string(key[skip:])
		if !fromOverlay(name, true) || len(found) == limit {
			more = true
			return false
		}
		if e := t.at(at); e != nil && e.name == name {
			return true // the overlay knows better and is taken next
		}
		found = append(found, named{name, o.mem.copy(value)})
		return true
	})
	if err != nil {
		o.err = err
		return nil, false
	}
	if !more && !fromOverlay("", false) {
		more = true
	}
	return found, more && len(found) > 0
}

// changes appends a write for every entry that differs from the store: what the changelog is to hold.
// Keys and values live until the overlay is reset.
func (o *overlay) changes(dst []write) []write {
	for _, k := range o.order {
		for table := range tableCount {
			k.tables[table].each(func(e *entry) {
				if e.dirty && !e.unchanged() {
					dst = append(dst, write{key: o.storeKey(table, k.key, e.name), value: e.value})
				}
			})
		}
	}
	return dst
}

// unchanged says whether the store is known to hold the entry as it is.
func (e *entry) unchanged() bool {
	return e.hasBase && (e.value == nil) == (e.base == nil) && bytes.Equal(e.value, e.base)
}

func (o *overlay) storeKey(table int, key []byte, name string) []byte {
	b := o.mem.alloc(3 + len(key) + len(name))
	return appendStoreKey(b[:0], tableKind(table), key, name)
}

// dueChanges appends the writes of the due index that go with the changes of timers, and returns the
// smallest index key of a timer that was set, nil if none was. What lies in cleared is deleted as one.
func (o *overlay) dueChanges(dst []write, cleared span) (writes []write, lowest []byte) {
	if cleared.to != nil {
		dst = append(dst, write{key: cleared.from, end: cleared.to})
	}
	for _, k := range o.order {
		k.tables[tableTimer].each(func(e *entry) {
			if !e.dirty {
				return
			}
			same := e.unchanged()
			if old, err := parseTimerValue(e.base); !same && e.base != nil && err == nil {
				if key := o.dueKey(old.due, k.key, e.name); !cleared.covers(key) {
					dst = append(dst, write{key: key})
				}
			}
			if now, err := parseTimerValue(e.value); e.value != nil && err == nil {
				// One that is back as it was has its place still, but the sweep may have passed it, and cleared it.
				key := o.dueKey(now.due, k.key, e.name)
				if !same || cleared.covers(key) {
					dst = append(dst, write{key: key, value: e.value})
				}
				if lowest == nil || bytes.Compare(key, lowest) < 0 {
					lowest = key
				}
			}
		})
	}
	return dst, lowest
}

func (o *overlay) dueKey(due int64, key []byte, id string) []byte {
	b := o.mem.alloc(11 + len(key) + len(id))
	return appendDueKey(b[:0], due, key, id)
}

// pushDue notes that a timer was set in this batch.
func (o *overlay) pushDue(due int64, key []byte, id string) {
	heap.Push(&o.due, o.dueKey(due, key, id))
}

// reset drops everything.
func (o *overlay) reset() {
	clear(o.keys)
	const keep = 8192 // a burst of keys does not hold its memory for ever
	for _, k := range o.order {
		if len(o.free) >= keep {
			break
		}
		for t := range k.tables {
			k.tables[t].reset()
		}
		o.free = append(o.free, k)
	}
	clear(o.order)
	o.order = o.order[:0]
	o.journal = o.journal[:0]
	o.due = o.due[:0]
	o.mem.reset()
	o.err = nil
}

// dueHeap orders keys of the due index.
type dueHeap [][]byte

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return bytes.Compare(h[i], h[j]) < 0 }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are for container/heap alone.
func (h *dueHeap) Push(x any) { *h = append(*h, x.([]byte)) } //nolint:errcheck // only keys are pushed

// Pop takes the last element.
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
