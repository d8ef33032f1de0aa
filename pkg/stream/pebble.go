package stream

import (
	"bytes"
	"context"
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
	"github.com/cockroachdb/pebble/v2/vfs"
)

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
	asOf     time.Time // see stamp
	stamped  time.Time // asOf as it is in the store
	loading  bool      // see bulk
	empty    bool      // nothing was ever written to it
	writes   atomic.Int64
	usage    int64
	broken   atomic.Bool // damage was found: the directory must go
	compact  *compactions
	disk     *diskGuard
	now      func() time.Time
}

// storeSettings are shared by the stores of a process.
type storeSettings struct {
	cache  *pebble.Cache
	files  *pebble.FileCache
	fs     vfs.FS
	logger *slog.Logger
	now    func() time.Time // wall clock: age of what is on disk
	notify func()           // called when a store finds damage or a disk that takes no more; may be nil
	lost   func(error)      // told why a store is thrown away or closed as of no use; may be nil
}

func (s storeSettings) gaveUp(err error) {
	if s.lost != nil {
		s.lost(err)
	}
}

// openPebble opens the store in dir if it belongs to the changelog with the given identity, is of this
// format and is fresh enough; in any other case it begins an empty one at position 0.
func openPebble(dir string, identity [16]byte, settings storeSettings) (*pebbleStore, error) {
	s, err := tryPebble(dir, identity, settings)
	if err == nil {
		return s, nil
	}
	settings.gaveUp(err)
	if !errors.Is(err, errCorrupt) {
		return nil, err
	}
	settings.logger.Warn("the local store is not usable and will be rebuilt from its changelog", slog.String("reason", err.Error()))
	if err := settings.fs.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("removing the store %s: %w", dir, err)
	}
	return tryPebble(dir, identity, settings)
}

// tryPebble opens a store as it is.
func tryPebble(dir string, identity [16]byte, settings storeSettings) (*pebbleStore, error) {
	if err := settings.fs.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, diskError(dir, err)
	}
	s := &pebbleStore{dir: dir, identity: identity, now: settings.now, disk: newDiskGuard(settings.fs, settings.notify), compact: newCompactions()}
	db, err := pebble.Open(dir, s.options(settings))
	if err != nil {
		return nil, s.openError(err)
	}
	s.db = db
	err = s.readStamp()
	if s.disk.frozen.Load() {
		err = s.disk.err()
	}
	if err != nil {
		_ = db.Close() // whatever is wrong with it has been said
		return nil, err
	}
	return s, nil
}

// openError tells a store that is damaged from one that cannot be opened at the moment.
func (s *pebbleStore) openError(err error) error {
	switch {
	case s.disk.frozen.Load():
		return s.disk.err()
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EROFS):
		return diskError(s.dir, err)
	case isLocked(err):
		return fmt.Errorf("opening the store %s: %w (is another instance running on this directory?)", s.dir, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("opening the store %s: %w", s.dir, err)
	default:
		return fmt.Errorf("opening the store %s: %w", s.dir, errors.Join(errCorrupt, err))
	}
}

// options keep a store small: many partitions of many stages share one process.
func (s *pebbleStore) options(settings storeSettings) *pebble.Options {
	damaged := func() {
		// What was written to a frozen disk is not there: that is no damage.
		if s.disk.frozen.Load() {
			return
		}
		if !s.broken.Swap(true) && settings.notify != nil {
			settings.notify()
		}
	}
	opts := &pebble.Options{
		FS:    s.disk,
		Cache: settings.cache, FileCache: settings.files,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		// A restore leaves many tables; whoever writes next does not wait until they are merged.
		L0StopWritesThreshold:      1000,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		Logger:                     pebbleLogger{settings.logger},
		EventListener: &pebble.EventListener{
			DataCorruption: func(pebble.DataCorruptionInfo) { damaged() },
			BackgroundError: func(err error) {
				if pebble.IsCorruptionError(err) {
					damaged()
				}
			},
		},
	}
	opts.Experimental.CompactionScheduler = s.compact
	for i := range opts.Levels {
		// Small tables have small filters and indexes, which the cache can hold apart from each other.
		opts.TargetFileSizes[i] = tableBytes
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most lookups are for what is not there
	}
	return opts
}

// tableBytes is about the size of a table.
const tableBytes = 4 << 20

// usable says whether damage or a full disk has been met.
func (s *pebbleStore) usable() error {
	switch {
	case s.disk.frozen.Load():
		return s.disk.err()
	case s.broken.Load():
		return errCorrupt
	default:
		return nil
	}
}

// check marks damage, so that the store is rebuilt when it is opened next. Of a store whose disk takes no
// more, errors say that and nothing about damage.
func (s *pebbleStore) check(err error) error {
	if err == nil {
		return nil
	}
	if s.disk.frozen.Load() {
		return s.disk.err()
	}
	if pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) {
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
	if err := s.usable(); err != nil {
		return fmt.Errorf("writing local state: %w", err)
	}
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
	s.stamped, s.empty = s.asOf, false
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

// close flushes what is in memory, so that the next owner on this disk has nothing to read again. A
// damaged store is removed.
func (s *pebbleStore) close() error {
	errs := []error{s.closePoint()}
	if s.usable() == nil {
		if s.asOf.Sub(s.stamped) > time.Second {
			errs = append(errs, s.apply(nil, s.pos))
		}
		errs = append(errs, s.db.Flush())
	}
	errs = append(errs, s.db.Close())
	switch {
	case s.disk.frozen.Load():
		return nil // the disk keeps what it had; why it took no more has been said
	case s.broken.Load():
		return s.disk.FS.RemoveAll(s.dir)
	default:
		return errors.Join(errs...)
	}
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
