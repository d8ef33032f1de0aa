package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bulkThreshold is how many changelog offsets an empty store has to be behind to be loaded in bulk: below
// it, writing batches costs less than tables of their own.
const bulkThreshold = 20_000

// bulkChunk is how much of the changelog a bulk load sorts at a time, about what it takes of memory. At
// most bulkLoads are at it at once.
const (
	bulkChunk = 32 << 20
	bulkLoads = 2
)

// bulk loads an empty store: it sorts the changelog piece by piece into tables and gives them to Pebble as
// they are, past memtables; nothing is compacted meanwhile. The due index, whose upkeep would cost a lookup
// for each timer, is made at the end in one go. The store is marked as loading until then: a load that is
// cut short goes on where the last piece ended.
//
// A piece enters the store whole, with the position after it, or not at all.
type bulk struct {
	store    *pebbleStore
	settings storeSettings
	slots    chan struct{} // one for each load that may hold a piece in memory
	holding  bool
	chunk    int // bytes of a piece

	entries []bulkEntry
	bytes   int
	next    int64 // changelog offset after the last entry
	first   bool  // the store holds nothing yet: a tombstone has nothing to delete
}

// bulkPrefix begins the names of tables that are not in the store yet.
const bulkPrefix = "bulk-"

type bulkEntry struct {
	key, value []byte
	order      int
}

func newBulk(store *pebbleStore, settings storeSettings, slots chan struct{}) (*bulk, error) {
	first := !store.loading
	store.compact.rest(true)
	store.loading = true
	names, err := settings.fs.List(store.dir)
	if err != nil {
		return nil, fmt.Errorf("loading a store: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, bulkPrefix) {
			continue
		}
		if err := store.disk.Remove(filepath.Join(store.dir, name)); err != nil {
			return nil, fmt.Errorf("loading a store: %w", err)
		}
	}
	return &bulk{store: store, settings: settings, slots: slots, chunk: bulkChunk, first: first, next: store.pos}, nil
}

// take adds records of the changelog; next is the offset after them. The records are kept until their
// piece is written.
func (b *bulk) take(ctx context.Context, records []*kgo.Record, next int64) error {
	if err := b.hold(ctx); err != nil {
		return err
	}
	b.entries = slices.Grow(b.entries, len(records))
	for _, rec := range records {
		if _, _, _, err := splitStoreKey(rec.Key); err != nil {
			return fmt.Errorf("reading the changelog at offset %d: %w", rec.Offset, err)
		}
		b.add(rec.Key, rec.Value)
	}
	b.next = next
	// Nothing is held back while there is nothing to read: the end may be long in coming.
	if b.bytes >= b.chunk || len(records) == 0 {
		return b.flush()
	}
	return nil
}

// hold waits until this load may keep a piece in memory.
func (b *bulk) hold(ctx context.Context) error {
	if b.holding {
		return nil
	}
	select {
	case b.slots <- struct{}{}:
		b.holding = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *bulk) add(key, value []byte) {
	b.entries = append(b.entries, bulkEntry{key: key, value: value, order: len(b.entries)})
	b.bytes += len(key) + len(value) + 128 // what the client keeps with a record
}

// flush brings what was taken into the store.
func (b *bulk) flush() error {
	defer b.drop()
	if b.next == b.store.pos {
		return nil
	}
	b.sort()
	if b.first {
		b.entries = slices.DeleteFunc(b.entries, func(e bulkEntry) bool { return e.value == nil })
	}
	before := b.store.pos
	b.store.pos = b.next
	b.insert(bulkEntry{key: []byte{kindStore}, value: b.store.stamp()})
	if err := b.ingest(); err != nil {
		b.store.pos = before
		return err
	}
	b.store.stamped, b.store.empty = b.store.asOf, false
	b.first = false
	return nil
}

// drop forgets what was taken.
func (b *bulk) drop() {
	clear(b.entries)
	b.entries, b.bytes = b.entries[:0], 0
	if b.holding {
		<-b.slots
		b.holding = false
	}
}

// sort puts the entries in order of key and keeps the last of each.
func (b *bulk) sort() {
	slices.SortFunc(b.entries, func(x, y bulkEntry) int {
		if c := bytes.Compare(x.key, y.key); c != 0 {
			return c
		}
		return y.order - x.order
	})
	b.entries = slices.CompactFunc(b.entries, func(x, y bulkEntry) bool { return bytes.Equal(x.key, y.key) })
}

func (b *bulk) insert(e bulkEntry) {
	at, _ := slices.BinarySearchFunc(b.entries, e.key, func(x bulkEntry, key []byte) int { return bytes.Compare(x.key, key) })
	b.entries = slices.Insert(b.entries, at, e)
}

// ingest writes the sorted entries to tables and gives them to the store, all or none.
func (b *bulk) ingest() error {
	var paths []string
	for from := 0; from < len(b.entries); {
		path := filepath.Join(b.store.dir, fmt.Sprint(bulkPrefix, len(paths)))
		n, err := b.writeTable(path, b.entries[from:])
		if err != nil {
			return b.store.check(fmt.Errorf("writing a table: %w", err))
		}
		paths = append(paths, path)
		from += n
	}
	if err := b.store.usable(); err != nil {
		return err
	}
	if err := b.store.db.Ingest(context.Background(), paths); err != nil {
		return b.store.check(fmt.Errorf("loading tables: %w", err))
	}
	return b.store.usable()
}

// writeTable writes entries to one table until it is large enough, and says how many.
func (b *bulk) writeTable(path string, entries []bulkEntry) (n int, err error) {
	f, err := b.store.disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	opts := b.store.options(b.settings)
	opts.EnsureDefaults()
	// Not as for the lowest level: there the writer marks tombstones as of no use, and Pebble skips them.
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), opts.MakeWriterOptions(0, b.store.db.TableFormat()))
	size := 0
	for n < len(entries) && size < tableBytes && err == nil {
		e := &entries[n]
		if e.value == nil {
			err = w.Delete(e.key)
		} else {
			err = w.Set(e.key, e.value)
		}
		size += len(e.key) + len(e.value)
		n++
	}
	return n, errors.Join(err, w.Close())
}

// finish makes the due index and lets the store go to work.
func (b *bulk) finish(ctx context.Context) error {
	if err := b.flush(); err != nil {
		return err
	}
	if err := b.index(ctx); err != nil {
		return err
	}
	b.store.loading = false
	if err := b.store.apply(nil, b.store.pos); err != nil {
		return err
	}
	b.store.compact.rest(false)
	// Who starts again soon does not load what is there.
	if _, err := b.store.db.AsyncFlush(); err != nil {
		return b.store.check(fmt.Errorf("loading a store: %w", err))
	}
	return b.store.usable()
}

// index makes the due index from the timers. What an earlier try may have left is removed first.
func (b *bulk) index(ctx context.Context) error {
	if err := b.store.db.DeleteRange([]byte{kindDue}, []byte{kindDue + 1}, pebble.NoSync); err != nil {
		return b.store.check(fmt.Errorf("making the index of timers: %w", err))
	}
	if err := b.hold(ctx); err != nil {
		return err
	}
	defer b.drop()
	var failure error
	err := b.store.scan([]byte{kindTimer}, []byte{kindTimer + 1}, func(key, value []byte) bool {
		_, k, id, err := splitStoreKey(key)
		if err != nil {
			failure = errors.Join(errCorrupt, err)
			return false
		}
		timer, err := parseTimerValue(value)
		if err != nil {
			return true // as in applyChangelog: a timer that cannot be read has no place in the index
		}
		b.add(appendDueKey(make([]byte, 0, 11+len(k)+len(id)), timer.due, k, string(id)), bytes.Clone(value))
		if b.bytes >= b.chunk {
			failure = b.flushIndex()
		}
		return failure == nil && ctx.Err() == nil
	})
	if err := errors.Join(err, failure, ctx.Err()); err != nil {
		return err
	}
	return b.flushIndex()
}

func (b *bulk) flushIndex() error {
	if len(b.entries) == 0 {
		return nil
	}
	b.sort()
	if err := b.ingest(); err != nil {
		return err
	}
	clear(b.entries)
	b.entries, b.bytes = b.entries[:0], 0
	return nil
}
