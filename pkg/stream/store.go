package stream

import (
	"cmp"

	"github.com/RaduBerinde/btreemap"
)

// store holds the committed state of one partition. Only apply changes it, and apply is atomic: either
// all of the writes and the position are in it, or nothing is.
type store interface {
	// get returns the value of a key; it is valid until the arena is reset.
	get(key []byte, mem *arena) (value []byte, ok bool, err error)
	// scan calls fn for the entries with lower <= key < upper in order until fn returns false. What fn is
	// given is valid during the call only.
	scan(lower, upper []byte, fn func(key, value []byte) bool) error
	// apply makes the writes and notes position as the changelog offset that the store stands at.
	apply(writes []write, position int64) error
	// position is the changelog offset to read on from.
	position() int64
	// size is about how many bytes it takes.
	size() int64
	close() error
}

// write is one change of a store; a nil value deletes. With end set it deletes all keys from key to before
// end, whatever comes after it in the same batch excepted.
type write struct {
	key   []byte
	value []byte
	end   []byte
}

// arena hands out memory that all goes at once. Bytes live until reset.
type arena struct {
	chunks [][]byte
	used   int // chunks in use
	bytes  int // handed out since the last reset
}

const arenaChunk = 128 << 10

// alloc returns n bytes whose content is not defined.
func (a *arena) alloc(n int) []byte {
	a.bytes += n
	if n > arenaChunk/4 {
		return make([]byte, n)
	}
	if a.used > 0 {
		last := a.chunks[a.used-1]
		if len(last)+n <= cap(last) {
			a.chunks[a.used-1] = last[:len(last)+n]
			return last[len(last) : len(last)+n : len(last)+n]
		}
	}
	if a.used == len(a.chunks) {
		a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
	}
	a.chunks[a.used] = a.chunks[a.used][:n]
	a.used++
	return a.chunks[a.used-1][:n:n]
}

// copy returns a copy of b; never nil, so that an empty value stays apart from none.
func (a *arena) copy(b []byte) []byte {
	c := a.alloc(len(b))
	copy(c, b)
	return c
}

// reset makes all memory free again; a few chunks are kept for the next batch.
func (a *arena) reset() {
	const keep = 16
	if len(a.chunks) > keep {
		a.chunks = append([][]byte(nil), a.chunks[:keep]...)
	}
	a.used, a.bytes = 0, 0
}

// memStore is the store of the in-memory driver: an ordered map.
type memStore struct {
	entries *btreemap.BTreeMap[string, []byte]
	pos     int64
	bytes   int64
}

func newMemStore() *memStore {
	return &memStore{entries: btreemap.New[string, []byte](32, cmp.Compare[string])}
}

func (m *memStore) get(key []byte, _ *arena) ([]byte, bool, error) {
	_, v, ok := m.entries.Get(string(key))
	return v, ok, nil
}

func (m *memStore) scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	stop := btreemap.Max[string]()
	if upper != nil {
		stop = btreemap.LT(string(upper))
	}
	for k, v := range m.entries.Ascend(btreemap.GE(string(lower)), stop) {
		if !fn([]byte(k), v) {
			return nil
		}
	}
	return nil
}

func (m *memStore) apply(writes []write, position int64) error {
	for _, w := range writes {
		if w.end != nil {
			m.deleteRange(string(w.key), string(w.end))
			continue
		}
		if w.value == nil {
			m.delete(string(w.key))
			continue
		}
		value := append([]byte{}, w.value...)
		if _, old, replaced := m.entries.ReplaceOrInsert(string(w.key), value); replaced {
			m.bytes -= int64(len(w.key) + len(old))
		}
		m.bytes += int64(len(w.key) + len(value))
	}
	m.pos = position
	return nil
}

func (m *memStore) delete(key string) {
	if k, v, ok := m.entries.Delete(key); ok {
		m.bytes -= int64(len(k) + len(v))
	}
}

func (m *memStore) deleteRange(from, to string) {
	var keys []string
	for k := range m.entries.Ascend(btreemap.GE(from), btreemap.LT(to)) {
		keys = append(keys, k)
	}
	for _, k := range keys {
		m.delete(k)
	}
}

func (m *memStore) position() int64 { return m.pos }
func (m *memStore) size() int64     { return m.bytes }
func (m *memStore) close() error    { return nil }
