// Package journal remembers on the local disk how far each delivery got, so that a process that died
// between a provider's answer and the report of it does not deliver again. Kafka stays the truth: a lost
// journal costs the certainty of that moment, never a send.
//
// An entry is named by partition and offset of the send and holds the send's own id as well: in a topic
// that was made anew the same offset is another send, and what was noted of the old one says nothing of
// it. Entries are synced to disk before the attempt that they announce and before the report that they
// hold; TestEntriesSurviveAKill and TestAnEntryOfAnotherSendIsNone would catch the loss.
package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// State is how far a delivery got.
type State byte

const (
	// Unknown says that nothing was tried.
	Unknown State = 0
	// Attempting says that an attempt began and its end is not known.
	Attempting State = 1
	// Done says that the outcome is known and stands in the entry.
	Done State = 2
)

// Ref names a delivery: where its send stands, and which send it is.
type Ref struct {
	Partition int32
	Offset    int64
	// Send is unique among all sends of all tenants.
	Send string
}

// Journal is an open journal. It is safe for use by several goroutines.
type Journal struct{ db *pebble.DB }

// Open opens or makes the journal in dir.
func Open(dir string) (*Journal, error) {
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		Cache: cache, MemTableSize: 1 << 20, Logger: silent{}, FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the delivery journal in %s: %w", dir, err)
	}
	return &Journal{db: db}, nil
}

// Close closes the journal.
func (j *Journal) Close() error { return j.db.Close() }

// Get is the state of a delivery and, if it is Done, its outcome.
func (j *Journal) Get(ref Ref) (State, []byte, error) {
	value, closer, err := j.db.Get(key(ref.Partition, ref.Offset))
	if errors.Is(err, pebble.ErrNotFound) {
		return Unknown, nil, nil
	}
	if err != nil {
		return Unknown, nil, fmt.Errorf("reading the delivery journal: %w", err)
	}
	defer closer.Close() //nolint:errcheck // only releases memory
	head := head(ref, State(0))
	if len(value) < len(head) || !bytes.Equal(value[1:len(head)], head[1:]) {
		return Unknown, nil, nil // another send stood at this offset
	}
	return State(value[0]), append([]byte(nil), value[len(head):]...), nil
}

// Begin notes that an attempt begins.
func (j *Journal) Begin(ref Ref) error { return j.set(ref, head(ref, Attempting)) }

// Failed notes that the attempt surely did not deliver. The note is not synced: lost, it makes the next
// start take the attempt for one that was cut short.
func (j *Journal) Failed(ref Ref) error {
	if err := j.db.Delete(key(ref.Partition, ref.Offset), pebble.NoSync); err != nil {
		return fmt.Errorf("writing the delivery journal: %w", err)
	}
	return nil
}

// Finish notes the outcome.
func (j *Journal) Finish(ref Ref, outcome []byte) error {
	return j.set(ref, append(head(ref, Done), outcome...))
}

// Forget drops the entries of a partition below an offset: Kafka knows that they are done.
func (j *Journal) Forget(partition int32, below int64) error {
	if err := j.db.DeleteRange(key(partition, 0), key(partition, below), pebble.NoSync); err != nil {
		return fmt.Errorf("writing the delivery journal: %w", err)
	}
	return nil
}

func (j *Journal) set(ref Ref, value []byte) error {
	if err := j.db.Set(key(ref.Partition, ref.Offset), value, pebble.Sync); err != nil {
		return fmt.Errorf("writing the delivery journal: %w", err)
	}
	return nil
}

// head is how an entry begins: the state, the length of the send's id, the id.
func head(ref Ref, state State) []byte {
	out := binary.AppendUvarint([]byte{byte(state)}, uint64(len(ref.Send)))
	return append(out, ref.Send...)
}

func key(partition int32, offset int64) []byte {
	k := make([]byte, 0, 12)
	k = binary.BigEndian.AppendUint32(k, uint32(partition))
	return binary.BigEndian.AppendUint64(k, uint64(offset))
}

// silent drops Pebble's own log: what matters comes back as errors.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("delivery journal: "+format, args...))
}
