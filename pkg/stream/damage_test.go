package stream

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// readFiles reads all files of a directory.
func readFiles(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	require.NoError(t, err)
	files := make(map[string][]byte)
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin(dir, name))
		require.NoError(t, err)
		files[name], err = io.ReadAll(f)
		require.NoError(t, errors.Join(err, f.Close()))
	}
	return files
}

func writeFiles(t *testing.T, fs vfs.FS, dir string, files map[string][]byte) {
	t.Helper()
	require.NoError(t, fs.MkdirAll(dir, 0o700))
	for name, data := range files {
		f, err := fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		_, err = f.Write(data)
		require.NoError(t, errors.Join(err, f.Close()))
	}
}

// TestFlippedBitIsNeverBelieved flips single bits, at random, in every file of a store: tables, manifest,
// options. Each time the store holds, at every
// read, exactly what its position says, or says that it is damaged; and rebuilt from the changelog it is
// whole. Bits of which nothing depends (a threshold in the options) may well not be noticed.
func TestFlippedBitIsNeverBelieved(t *testing.T) {
	rng := newSeed(t)
	const dir = "/data/stage/0"
	model := newStoreModel(rng, 33)
	full := int64(len(model.batches))
	original := vfs.NewMem()
	s, err := openPebble(dir, [16]byte{1}, testSettings(t, original))
	require.NoError(t, err)
	require.NoError(t, model.play(s, full-3)) // the last of it not merged yet
	require.NoError(t, s.close())
	files := readFiles(t, original, dir)
	settings := testSettings(t, nil)
	settings.logger = slog.New(slog.DiscardHandler)

	found, missed := make(map[string]int), make(map[string]int)
	for name, data := range files {
		for range min(60, len(data)) {
			at := rng.IntN(len(data))
			if tail := 700; len(data) > tail && rng.IntN(3) == 0 {
				at = len(data) - 1 - rng.IntN(tail) // where a table has its index, properties and footer
			}
			was := data[at]
			data[at] ^= 1 << rng.IntN(8)
			damaged := vfs.NewMem()
			writeFiles(t, damaged, dir, files)
			if checkDamaged(t, model, settings, damaged, dir) {
				found[name]++
			} else {
				missed[name]++
			}
			data[at] = was
		}
	}
	t.Logf("found: %v, without effect: %v", found, missed)
	require.NotEmpty(t, found)
}

// checkDamaged opens and reads a store one of whose bits is not as it was, goes on with it, rebuilds it if
// it says so, and tells whether it did.
func checkDamaged(t *testing.T, model *storeModel, settings storeSettings, fs vfs.FS, dir string) (found bool) {
	t.Helper()
	settings.fs = fs
	full := int64(len(model.batches))
	s, err := tryPebble(dir, [16]byte{1}, settings)
	if err != nil {
		require.ErrorIs(t, err, errCorrupt)
		found = true
		s, err = openPebble(dir, [16]byte{1}, settings)
		require.NoError(t, err)
		require.Zero(t, s.position())
	}
	err = model.verify(t, s)
	if err == nil {
		err = model.play(s, full)
	}
	if err == nil {
		err = model.verify(t, s)
	}
	if err != nil {
		require.ErrorIs(t, err, errCorrupt)
		require.True(t, s.broken.Load())
		require.NoError(t, s.close())
		found = true
		s, err = openPebble(dir, [16]byte{1}, settings)
		require.NoError(t, err)
		require.Zero(t, s.position(), "a damaged store begins anew")
		require.NoError(t, model.play(s, full))
		require.NoError(t, model.verify(t, s))
	}
	require.NoError(t, s.close())
	return found
}
