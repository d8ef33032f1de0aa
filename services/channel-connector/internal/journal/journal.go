// Package journal remembers on the local disk how far each delivery got, so that a process that died
// between a provider's answer and the committed offset does not deliver again. Kafka stays the truth:
// a lost journal costs the certainty of that moment, never a send.
//
// An entry is named by partition and offset of the send. Entries are synced to disk before the attempt
// that they announce and before the report that they hold; TestEntriesSurviveAKill would catch the loss.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// State is how far a delivery got.
type State byte

const (
	// Unknown: nothing was tried.
	Unknown State = 0
	// Attempting: an attempt began and its end is not known.
	Attempting State = 1
	// Done: the outcome is known and stands in the entry.
	Done State = 2
)

// Journal is an open journal.
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
func (j *Journal) Get(partition int32, offset int64) (State, []byte, error) {
	value, closer, err := j.db.Get(key(partition, offset))
	if errors.Is(err, pebble.ErrNotFound) {
		return Unknown, nil, nil
	}
	if err != nil {
		return Unknown, nil, fmt.Errorf("reading the delivery journal: %w", err)
	}
	defer closer.Close() //nolint:errcheck // only releases memory
	if len(value) == 0 {
		return Unknown, nil, nil
	}
	return State(value[0]), append([]byte(nil), value[1:]...), nil
}

// Begin notes that an attempt begins.
func (j *Journal) Begin(partition int32, offset int64) error {
	return j.set(partition, offset, []byte{byte(Attempting)})
}

// Failed notes that the attempt surely did not deliver.
func (j *Journal) Failed(partition int32, offset int64) error {
	if err := j.db.Delete(key(partition, offset), pebble.NoSync); err != nil {
		return fmt.Errorf("writing the delivery journal: %w", err)
	}
	return nil
}

// Finish notes the outcome.
func (j *Journal) Finish(partition int32, offset int64, outcome []byte) error {
	return j.set(partition, offset, append([]byte{byte(Done)}, outcome...))
}

// Forget drops the entries of a partition below an offset: it is committed.
func (j *Journal) Forget(partition int32, below int64) error {
	if err := j.db.DeleteRange(key(partition, 0), key(partition, below), pebble.NoSync); err != nil {
		return fmt.Errorf("writing the delivery journal: %w", err)
	}
	return nil
}

func (j *Journal) set(partition int32, offset int64, value []byte) error {
	if err := j.db.Set(key(partition, offset), value, pebble.Sync); err != nil {
		return fmt.Errorf("writing the delivery journal: %w", err)
	}
	return nil
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
