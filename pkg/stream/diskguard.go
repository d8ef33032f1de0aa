package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errDisk marks local state that cannot be written: the disk is full or fails. The partition stands still
// and is tried again; nothing is lost, since what counts is in Kafka.
var errDisk = errors.New("local state cannot be written")

// diskError says what could not be written, and what to do.
func diskError(name string, err error) error {
	return fmt.Errorf("%w: writing %s: %w; free space under %s, then the partition goes on by itself", errDisk, name, err, filepath.Dir(filepath.Dir(name)))
}

// diskGuard is the file system of one store. The first write that fails freezes it: from then on every
// change pretends to succeed and does nothing, so that the disk keeps what it held at that moment, as
// after a crash: a whole, older state of the store. Without it a full disk would make Pebble try for ever,
// block whoever writes, or end the process (when its manifest cannot be written).
//
// A frozen store is of no more use: its owner closes it, and opens it again when there is room.
type diskGuard struct {
	vfs.FS
	frozen atomic.Bool
	notify func() // called once, when it freezes; must not block

	mu    sync.Mutex // guards cause
	cause error
}

func newDiskGuard(fs vfs.FS, notify func()) *diskGuard {
	if notify == nil {
		notify = func() {}
	}
	return &diskGuard{FS: fs, notify: notify}
}

// err is nil while all writes went well.
func (g *diskGuard) err() error {
	if !g.frozen.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cause
}

// change makes a change unless the guard is frozen, and freezes it if the change fails. That a file is
// not there, or is there already, is an answer and not a failure.
func (g *diskGuard) change(name string, fn func() error) error {
	if g.frozen.Load() {
		return nil
	}
	err := fn()
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cause == nil {
		g.cause = diskError(name, err)
		g.frozen.Store(true)
		g.notify()
	}
	return nil
}

// file wraps a file that is written to; once frozen, a file that takes everything and keeps nothing.
func (g *diskGuard) file(name string, open func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := g.change(name, func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: f, guard: g, name: name}, nil
}

// Create, Link, OpenReadWrite, OpenDir, Remove, RemoveAll, Rename, ReuseForWrite and MkdirAll are those of
// the file system beneath until it is frozen.
func (g *diskGuard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.Create(name, category) })
}

// Link is described at Create.
func (g *diskGuard) Link(oldname, newname string) error {
	return g.change(newname, func() error { return g.FS.Link(oldname, newname) })
}

// OpenReadWrite is described at Create.
func (g *diskGuard) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, category, opts...) })
}

// OpenDir is described at Create.
func (g *diskGuard) OpenDir(name string) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.OpenDir(name) })
}

// Remove is described at Create.
func (g *diskGuard) Remove(name string) error {
	return g.change(name, func() error { return g.FS.Remove(name) })
}

// RemoveAll is described at Create.
func (g *diskGuard) RemoveAll(name string) error {
	return g.change(name, func() error { return g.FS.RemoveAll(name) })
}

// Rename is described at Create.
func (g *diskGuard) Rename(oldname, newname string) error {
	return g.change(newname, func() error { return g.FS.Rename(oldname, newname) })
}

// ReuseForWrite is described at Create.
func (g *diskGuard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(newname, func() (vfs.File, error) { return g.FS.ReuseForWrite(oldname, newname, category) })
}

// MkdirAll is described at Create.
func (g *diskGuard) MkdirAll(dir string, perm os.FileMode) error {
	return g.change(dir, func() error { return g.FS.MkdirAll(dir, perm) })
}

// Unwrap gives the file system beneath.
func (g *diskGuard) Unwrap() vfs.FS { return g.FS }

// guardedFile is a file of a diskGuard. File is nil if it was created when the guard was frozen already.
type guardedFile struct {
	vfs.File
	guard *diskGuard
	name  string
}

func (f *guardedFile) change(fn func() error) error {
	if f.File == nil {
		return nil
	}
	return f.guard.change(f.name, fn)
}

// Write says that everything was written once the guard is frozen.
func (f *guardedFile) Write(p []byte) (int, error) {
	return len(p), f.change(func() error {
		_, err := f.File.Write(p)
		return err
	})
}

// WriteAt is as Write.
func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	return len(p), f.change(func() error {
		_, err := f.File.WriteAt(p, off)
		return err
	})
}

// Preallocate is a change like any other.
func (f *guardedFile) Preallocate(offset, length int64) error {
	return f.change(func() error { return f.File.Preallocate(offset, length) })
}

// Sync is a change like any other.
func (f *guardedFile) Sync() error { return f.change(func() error { return f.File.Sync() }) }

// SyncData is a change like any other.
func (f *guardedFile) SyncData() error { return f.change(func() error { return f.File.SyncData() }) }

// SyncTo is a change like any other.
func (f *guardedFile) SyncTo(length int64) (full bool, err error) {
	err = f.change(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// Close closes the file also once the guard is frozen.
func (f *guardedFile) Close() error {
	if f.File == nil {
		return nil
	}
	if f.guard.frozen.Load() {
		_ = f.File.Close() // nothing that it could say counts any more
		return nil
	}
	return f.change(func() error { return f.File.Close() })
}

// Read, ReadAt, Stat, Prefetch and Fd of a file that was never made find nothing.
func (f *guardedFile) Read(p []byte) (int, error) {
	if f.File == nil {
		return 0, f.guard.err()
	}
	return f.File.Read(p)
}

// ReadAt is described at Read.
func (f *guardedFile) ReadAt(p []byte, off int64) (int, error) {
	if f.File == nil {
		return 0, f.guard.err()
	}
	return f.File.ReadAt(p, off)
}

// Stat is described at Read.
func (f *guardedFile) Stat() (vfs.FileInfo, error) {
	if f.File == nil {
		return nil, f.guard.err()
	}
	return f.File.Stat()
}

// Prefetch is described at Read.
func (f *guardedFile) Prefetch(offset, length int64) error {
	if f.File == nil {
		return nil
	}
	return f.File.Prefetch(offset, length)
}

// Fd is described at Read.
func (f *guardedFile) Fd() uintptr {
	if f.File == nil {
		return vfs.InvalidFd
	}
	return f.File.Fd()
}
