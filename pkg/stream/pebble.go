package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// storeFormat is raised when what is written in a store changes: a store of another format is rebuilt.
const storeFormat = 1

// maxStoreAge is how far a store may lie behind before it is rebuilt from the start: the changelog drops
// tombstones after a day (see changelogConfig), and a store that missed one would keep what was deleted.
const maxStoreAge = 12 * time.Hour

// pebbleStore is the store of one partition on disk.
//
// It has no write-ahead log and never syncs. The changelog in Kafka is the log: every batch carries the
// changelog offset that it stands at, Pebble applies and flushes batches whole and in order, and so after
// a crash the store holds a prefix of what was committed and knows which. What is missing (at most the
// memtables) is read again from the changelog.
type pebbleStore struct {
	db       *pebble.DB
	point    *pebble.Iterator // for lookups, since the last apply; nil if there was none
	dir      string
	identity [16]byte // of the changelog topic
	pos      int64
	writes   atomic.Int64
	usage    int64
	broken   atomic.Bool // damage was found: the directory must go
	now      func() time.Time
}

// storeSettings are shared by the stores of a process.
type storeSettings struct {
	cache  *pebble.Cache
	files  *pebble.FileCache
	logger *slog.Logger
	now    func() time.Time // wall clock: age of what is on disk
}

// openPebble opens the store in dir if it belongs to the changelog with the given identity, is of this
// format and is fresh enough; in any other case it begins an empty one at position 0.
func openPebble(dir string, identity [16]byte, settings storeSettings) (*pebbleStore, error) {
	s, err := tryPebble(dir, identity, settings)
	if err == nil {
		return s, nil
	}
	if !errors.Is(err, errCorrupt) {
		return nil, err
	}
	settings.logger.Warn("the local store is not usable and will be rebuilt from its changelog", slog.String("reason", err.Error()))
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("removing the store %s: %w", dir, err)
	}
	return tryPebble(dir, identity, settings)
}

func tryPebble(dir string, identity [16]byte, settings storeSettings) (*pebbleStore, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of a store: %w", err)
	}
	s := &pebbleStore{dir: dir, identity: identity, now: settings.now}
	db, err := pebble.Open(dir, s.options(settings))
	if err != nil {
		if isLocked(err) {
			return nil, fmt.Errorf("opening the store %s: %w (is another instance running on this directory?)", dir, err)
		}
		return nil, fmt.Errorf("opening the store %s: %w", dir, errors.Join(errCorrupt, err))
	}
	s.db = db
	if err := s.readStamp(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// options keep a store small: many partitions of many stages share one process.
func (s *pebbleStore) options(settings storeSettings) *pebble.Options {
	opts := &pebble.Options{
		Cache: settings.cache, FileCache: settings.files,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		Logger:                      pebbleLogger{settings.logger},
		EventListener: &pebble.EventListener{
			DataCorruption: func(pebble.DataCorruptionInfo) { s.broken.Store(true) },
		},
	}
	for i := range opts.Levels {
		// Small tables have small filters and indexes, which the cache can hold apart from each other.
		opts.TargetFileSizes[i] = 4 << 20
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most lookups are for what is not there
	}
	return opts
}

// stamp: format, identity of the changelog, position, wall time in milliseconds.
const stampBytes = 1 + 16 + 8 + 8

func (s *pebbleStore) stamp() []byte {
	b := make([]byte, 0, stampBytes)
	b = append(b, storeFormat)
	b = append(b, s.identity[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.pos))
	return binary.BigEndian.AppendUint64(b, uint64(s.now().UnixMilli()))
}

func (s *pebbleStore) readStamp() error {
	v, closer, err := s.db.Get([]byte{kindStore})
	if errors.Is(err, pebble.ErrNotFound) {
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
	if err != nil {
		return s.check(err)
	}
	defer func() { _ = closer.Close() }() // nothing is left to be done with a value that was read
	switch {
	case len(v) != stampBytes || v[0] != storeFormat:
		return fmt.Errorf("%w: it has another format", errCorrupt)
	case [16]byte(v[1:17]) != s.identity:
		return fmt.Errorf("%w: it belongs to another changelog", errCorrupt)
	case s.now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(v[25:])))) > maxStoreAge:
		return fmt.Errorf("%w: it is older than %s, deletions may be missing", errCorrupt, maxStoreAge)
	}
	s.pos = int64(binary.BigEndian.Uint64(v[17:25]))
	return nil
}

// check marks damage, so that the store is rebuilt when it is opened next.
func (s *pebbleStore) check(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		s.broken.Store(true)
		return errors.Join(errCorrupt, err)
	}
	return err
}

// get looks a key up through an iterator that stands until the next apply: nothing changes in between.
// Pebble's own Get never asks the filters of the last level, where a store of this size has nearly
// everything, and most lookups are for what is not there.
func (s *pebbleStore) get(key []byte, mem *arena) ([]byte, bool, error) {
	if s.point == nil {
		it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
		if err != nil {
			return nil, false, s.check(fmt.Errorf("reading local state: %w", err))
		}
		s.point = it
	}
	if !s.point.SeekPrefixGE(key) || !bytes.Equal(s.point.Key(), key) {
		if err := s.point.Error(); err != nil {
			return nil, false, s.check(fmt.Errorf("reading local state: %w", errors.Join(err, s.closePoint())))
		}
		return nil, false, nil
	}
	v, err := s.point.ValueAndErr()
	if err != nil {
		return nil, false, s.check(fmt.Errorf("reading local state: %w", errors.Join(err, s.closePoint())))
	}
	return mem.copy(v), true, nil
}

func (s *pebbleStore) closePoint() error {
	if s.point == nil {
		return nil
	}
	err := s.point.Close()
	s.point = nil
	return err
}

func (s *pebbleStore) scan(lower, upper []byte, fn func(key, value []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.check(fmt.Errorf("reading local state: %w", err))
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return s.check(errors.Join(err, it.Close()))
		}
		if !fn(it.Key(), v) {
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return s.check(fmt.Errorf("reading local state: %w", err))
	}
	return nil
}

func (s *pebbleStore) apply(writes []write, position int64) error {
	if err := s.closePoint(); err != nil {
		return s.check(fmt.Errorf("reading local state: %w", err))
	}
	size := stampBytes + 64
	for i := range writes {
		size += len(writes[i].key) + len(writes[i].value) + 16
	}
	batch := s.db.NewBatchWithSize(size)
	for i := range writes {
		var err error
		switch w := &writes[i]; {
		case w.end != nil:
			err = batch.DeleteRange(w.key, w.end, nil)
		case w.value == nil:
			err = batch.Delete(w.key, nil)
		default:
			err = batch.Set(w.key, w.value, nil)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("writing local state: %w", err), batch.Close())
		}
	}
	before := s.pos
	s.pos = position
	if err := errors.Join(batch.Set([]byte{kindStore}, s.stamp(), nil), batch.Commit(pebble.NoSync)); err != nil {
		s.pos = before
		return s.check(fmt.Errorf("writing local state: %w", err))
	}
	s.writes.Add(int64(size))
	return nil
}

func (s *pebbleStore) position() int64 { return s.pos }

// size asks Pebble once for about every 16 MiB written.
func (s *pebbleStore) size() int64 {
	if s.usage == 0 || s.writes.Load() > 16<<20 {
		s.writes.Store(0)
		m := s.db.Metrics()
		s.usage = max(int64(m.DiskSpaceUsage()), int64(m.MemTable.Size))
	}
	return s.usage
}

// close flushes what is in memory, so that the next owner on this disk has nothing to read again.
func (s *pebbleStore) close() error {
	errs := []error{s.closePoint()}
	if !s.broken.Load() {
		errs = append(errs, s.db.Flush())
	}
	errs = append(errs, s.db.Close())
	if s.broken.Load() {
		return os.RemoveAll(s.dir)
	}
	return errors.Join(errs...)
}

// wipe throws the store away and begins an empty one.
func (s *pebbleStore) wipe(settings storeSettings) (*pebbleStore, error) {
	s.broken.Store(true)
	if err := s.close(); err != nil {
		return nil, fmt.Errorf("wiping a store: %w", err)
	}
	return tryPebble(s.dir, s.identity, settings)
}

// storedPartitions are the partitions that have a store under dir.
func storedPartitions(dir string) []int32 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing there is no error: it is a hint for balancing
	}
	var partitions []int32
	for _, e := range entries {
		if p, err := strconv.ParseInt(e.Name(), 10, 32); err == nil && e.IsDir() {
			partitions = append(partitions, int32(p))
		}
	}
	return partitions
}

// pebbleLogger passes on what matters.
type pebbleLogger struct{ logger *slog.Logger }

// Infof is Pebble's running commentary; it is dropped.
func (pebbleLogger) Infof(string, ...any) {}

// Errorf logs.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.logger.ErrorContext(context.Background(), "local store", slog.String("error", fmt.Sprintf(format, args...)))
}

// Fatalf must not return: Pebble calls it where going on could lose data (its manifest cannot be written).
func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	panic("local store: " + fmt.Sprintf(format, args...))
}

// isLocked says whether opening a store failed because a process has it open.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES)
}
