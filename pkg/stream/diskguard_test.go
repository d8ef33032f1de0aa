package stream

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
)

// after lets n changes of a path that holds the given part succeed. All others fail as on a full disk.
func (c *countdown) after(fs vfs.FS, n int64, part string) vfs.FS {
	c.left.Store(n)
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		// Space is not what these need.
		case errorfs.OpFileClose, errorfs.OpRemove, errorfs.OpRemoveAll, errorfs.OpLock:
			return nil
		default:
		}
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || !strings.Contains(op.Path, part) || c.left.Add(-1) >= 0 {
			return nil
		}
		c.failed.Add(1)
		return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
	}))
}

// TestFullDiskAtEveryWrite fills the disk up at one change of the store's files after the other. Whatever
// is on the disk then is a whole state with its position, no wrong value is read before or after, nothing
// hangs or panics, and with room again the store goes on.
func TestFullDiskAtEveryWrite(t *testing.T) {
	model := newStoreModel(newSeed(t), 60)
	full := int64(len(model.batches))
	const dir = "/data/stage/0"
	for n := int64(0); ; n++ {
		var disk countdown
		memory := vfs.NewMem()
		settings := testSettings(t, disk.after(memory, n, dir))
		s, err := openPebble(dir, [16]byte{1}, settings)
		if err == nil {
			err = model.play(s, full)
			if bad := model.verify(t, s); bad != nil {
				require.ErrorIs(t, bad, errDisk)
			}
			_ = s.close()
		}
		if disk.failed.Load() == 0 {
			require.NoError(t, err)
			t.Logf("%d changes of files", n)
			return
		}
		if err != nil {
			require.ErrorIs(t, err, errDisk, "change %d", n)
			require.ErrorContains(t, err, "free space under")
			require.NotErrorIs(t, err, errCorrupt)
		}

		settings.fs = memory
		s, err = openPebble(dir, [16]byte{1}, settings)
		require.NoError(t, err, "change %d", n)
		require.NoError(t, model.verify(t, s), "change %d", n)
		require.NoError(t, model.play(s, full))
		require.NoError(t, model.verify(t, s))
		require.NoError(t, s.close())
	}
}

// TestDiskGuardTellsFailuresFromAnswers: only a change that failed freezes it, and once.
func TestDiskGuardTellsFailuresFromAnswers(t *testing.T) {
	dir := t.TempDir()
	told := 0
	g := newDiskGuard(vfs.Default, func() { told++ })
	require.ErrorIs(t, g.Remove(dir+"/none"), os.ErrNotExist)
	require.NoError(t, g.err())
	require.NoError(t, os.WriteFile(dir+"/file", nil, 0o600))
	require.NoError(t, g.Rename(dir+"/file", dir+"/file/into"), "a failure is kept from Pebble")
	require.ErrorIs(t, g.err(), errDisk)
	f, err := g.Create(dir+"/a", vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	n, err := f.Write([]byte("lost"))
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
	require.Equal(t, 4, n)
	require.NoFileExists(t, dir+"/a")
	require.NoError(t, g.Remove(dir))
	require.DirExists(t, dir)
	require.Equal(t, 1, told)
}
