package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// storeFormat is raised when what is written in a store changes: a store of another format is rebuilt.
const storeFormat = 2

// maxStoreAge is how long a store may lie without being brought up to date before it is rebuilt from the
// start: the changelog drops tombstones after a day (see internalTopics), and a store that missed one would
// keep what was deleted.
const maxStoreAge = 12 * time.Hour

// A store is stamped with its format, the identity of its changelog, its position there, whether it is
// being loaded in bulk, and asOf in milliseconds.
//
// asOf is a time at which nothing of the changelog was missing that the store would need to forget an
// entry: the wall time at which it stood at the end of the changelog, or at which it was begun empty. While
// a restore catches up it stays as it was: a store that is half way on is as old as when it set out.
const stampBytes = 1 + 16 + 8 + 1 + 8

func (s *pebbleStore) stamp() []byte {
	b := make([]byte, 0, stampBytes)
	b = append(b, storeFormat)
	b = append(b, s.identity[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.pos))
	if s.loading {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(s.asOf.UnixMilli()))
}

// readStamp reads where an opened store stands, and refuses one that is of no use.
func (s *pebbleStore) readStamp() error {
	v, closer, err := s.db.Get([]byte{kindStore})
	if errors.Is(err, pebble.ErrNotFound) {
		s.asOf, s.empty = s.now(), true
		return s.checkEmpty()
	}
	if err != nil {
		return s.check(err)
	}
	defer func() { _ = closer.Close() }() // nothing is left to be done with a value that was read
	if len(v) != stampBytes || v[0] != storeFormat {
		return fmt.Errorf("%w: it has another format", errCorrupt)
	}
	s.asOf = time.UnixMilli(int64(binary.BigEndian.Uint64(v[26:])))
	s.stamped = s.asOf
	switch {
	case [16]byte(v[1:17]) != s.identity:
		return fmt.Errorf("%w: it belongs to another changelog", errCorrupt)
	case s.now().Sub(s.asOf) > maxStoreAge:
		return fmt.Errorf("%w: it is older than %s, deletions may be missing", errCorrupt, maxStoreAge)
	}
	s.pos = int64(binary.BigEndian.Uint64(v[17:25]))
	s.loading = v[25] == 1
	return nil
}

// checkEmpty makes sure that a store without a stamp holds nothing.
func (s *pebbleStore) checkEmpty() error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return s.check(err)
	}
	used := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return s.check(err)
	}
	if used {
		return fmt.Errorf("%w: it has no stamp", errCorrupt)
	}
	return nil
}

// current notes that the store stood at the end of its changelog at the given time. It is written with the
// next batch, or when the store is closed.
func (s *pebbleStore) current(at time.Time) {
	if at.After(s.asOf) {
		s.asOf = at
	}
}
