package resume_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/resume"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func TestAChangedFileBeginsAnew(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "rows.csv")
	require.NoError(t, os.WriteFile(path, []byte("a\n1\n"), 0o600))
	note, err := resume.For(dir, open(t, path), "source one")
	require.NoError(t, err)
	var line int
	require.False(t, note.Load(&line), "nothing is known yet")
	require.NoError(t, note.Save(7))
	require.NoError(t, note.Save(8))

	same, err := resume.For(dir, open(t, path), "source one")
	require.NoError(t, err)
	require.True(t, same.Load(&line))
	require.Equal(t, 8, line)

	other, err := resume.For(dir, open(t, path), "source two")
	require.NoError(t, err)
	require.False(t, other.Load(&line), "other work on the file")

	require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(1, 0)))
	changed, err := resume.For(dir, open(t, path), "source one")
	require.NoError(t, err)
	require.False(t, changed.Load(&line), "the file was written since")

	require.NoError(t, same.Clear())
	require.NoError(t, same.Clear(), "a second time does nothing")
	require.False(t, same.Load(&line))
}

func TestADamagedNoteCountsAsNone(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "rows.csv")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	note, err := resume.For(dir, open(t, path), "")
	require.NoError(t, err)
	require.NoError(t, note.Save(7))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte("{"), 0o600))
	var line int
	require.False(t, note.Load(&line))
}
