package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Kinds of entries in a store. The first three are also the first byte of changelog keys; the others
// exist in the store alone.
const (
	kindState = 's' // key + name → what the processor put
	kindTimer = 't' // key + id → due, trace, payload
	kindMeta  = 'r' // key + name → the runtime's own: forward pointers, waits, held records, parts
	kindDue   = 'd' // due + key + id → as kindTimer; derived from it, ordered by due time
	kindStore = 'm' // the store's own stamps
)

// limits of what a processor may name.
const (
	maxKeyBytes  = 4 << 10
	maxNameBytes = 4 << 10
)

var errShort = errors.New("record is cut short")

// appendStoreKey appends the store and changelog key of an entry: kind, length of the key, that key, name. The
// length in front keeps the entries of one key together and apart from every other key's.
func appendStoreKey(dst []byte, kind byte, key []byte, name string) []byte {
	dst = appendKeyPrefix(dst, kind, key)
	return append(dst, name...)
}

func appendKeyPrefix(dst []byte, kind byte, key []byte) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key)))
	return append(dst, key...)
}

// splitStoreKey takes a store key of kindState, kindTimer or kindMeta apart.
func splitStoreKey(k []byte) (kind byte, key, name []byte, err error) {
	if len(k) < 3 {
		return 0, nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(k[1:3]))
	if len(k) < 3+n {
		return 0, nil, nil, errShort
	}
	switch k[0] {
	case kindState, kindTimer, kindMeta:
	default:
		return 0, nil, nil, fmt.Errorf("kind of entry %q is not known", k[0])
	}
	return k[0], k[3 : 3+n], k[3+n:], nil
}

// prefixEnd returns the first key after all keys that begin with prefix, nil if there is none.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}

// appendDueKey appends the key of the due index. The sign bit is flipped so that byte order is time order.
func appendDueKey(dst []byte, dueMillis int64, key []byte, id string) []byte {
	dst = append(dst, kindDue)
	dst = binary.BigEndian.AppendUint64(dst, uint64(dueMillis)^(1<<63))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key)))
	dst = append(dst, key...)
	return append(dst, id...)
}

func splitDueKey(k []byte) (dueMillis int64, key, id []byte, err error) {
	if len(k) < 11 || k[0] != kindDue {
		return 0, nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(k[9:11]))
	if len(k) < 11+n {
		return 0, nil, nil, errShort
	}
	return int64(binary.BigEndian.Uint64(k[1:9]) ^ (1 << 63)), k[11 : 11+n], k[11+n:], nil
}

// A timer's value is its due time, the trace that set it (empty if none was sampled) and its payload.
func appendTimerValue(dst []byte, dueMillis int64, trace string, payload []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(dueMillis))
	dst = append(dst, byte(len(trace)))
	dst = append(dst, trace...)
	return append(dst, payload...)
}

type timerValue struct {
	due     int64
	trace   []byte
	payload []byte
}

func parseTimerValue(v []byte) (timerValue, error) {
	if len(v) < 9 || len(v) < 9+int(v[8]) {
		return timerValue{}, errShort
	}
	n := 9 + int(v[8])
	return timerValue{due: int64(binary.BigEndian.Uint64(v)), trace: v[9:n], payload: v[n:]}, nil
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// writer and reader are the primitives of the runtime's own records: varints and length-prefixed bytes.
type writer struct{ buf []byte }

func (w *writer) uint(v uint64) { w.buf = binary.AppendUvarint(w.buf, v) }
func (w *writer) int(v int64)   { w.buf = binary.AppendVarint(w.buf, v) }
func (w *writer) byte(v byte)   { w.buf = append(w.buf, v) }
func (w *writer) bytes(v []byte) {
	w.uint(uint64(len(v)))
	w.buf = append(w.buf, v...)
}

func (w *writer) string(v string) {
	w.uint(uint64(len(v)))
	w.buf = append(w.buf, v...)
}

// optional writes bytes and keeps nil apart from empty.
func (w *writer) optional(v []byte) {
	if v == nil {
		w.byte(0)
		return
	}
	w.byte(1)
	w.bytes(v)
}

// reader keeps the first error; what it returns after one is zero.
type reader struct {
	buf []byte
	err error
}

func (r *reader) fail() {
	r.err = errShort
	r.buf = nil
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.buf)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.buf) == 0 {
		r.fail()
		return 0
	}
	v := r.buf[0]
	r.buf = r.buf[1:]
	return v
}

// bytes returns a slice of the buffer that the reader was given.
func (r *reader) bytes() []byte {
	n := r.uint()
	if n > uint64(len(r.buf)) {
		r.fail()
		return nil
	}
	v := r.buf[:n:n]
	r.buf = r.buf[n:]
	return v
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) optional() []byte {
	if r.byte() == 0 {
		return nil
	}
	return r.bytes()
}

// count reads the length of a list whose elements take at least one byte each, so that a damaged length
// cannot make anybody allocate more than the record is long.
func (r *reader) count() int {
	n := r.uint()
	if n > uint64(len(r.buf)) {
		r.fail()
		return 0
	}
	return int(n)
}

// done says whether everything was read and nothing is left over.
func (r *reader) done() error {
	if r.err == nil && len(r.buf) != 0 {
		return errors.New("record has bytes left over")
	}
	return r.err
}
