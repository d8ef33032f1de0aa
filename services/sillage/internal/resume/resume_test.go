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

// A file that grew within a tick of its clock is another file; another file of the same work has its own note;
// and a note is replaced, never written over, so that a crash leaves one or the other.
func TestANoteIsOfOneFile(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	first, second := filepath.Join(files, "a.csv"), filepath.Join(files, "b.csv")
	at := time.Unix(1_700_000_000, 0)
	write := func(path, text string) *os.File {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(path, at, at))
		return open(t, path)
	}
	one, err := resume.For(dir, write(first, "a\n1\n"), "source")
	require.NoError(t, err)
	two, err := resume.For(dir, write(second, "a\n1\n"), "source")
	require.NoError(t, err)
	require.NoError(t, one.Save(1))
	require.NoError(t, two.Save(2))
	var line int
	require.True(t, one.Load(&line))
	require.Equal(t, 1, line)
	require.True(t, two.Load(&line))
	require.Equal(t, 2, line)

	require.NoError(t, two.Clear())
	notes, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	require.Len(t, notes, 1)
	before, err := os.Stat(notes[0])
	require.NoError(t, err)
	require.NoError(t, one.Save(3))
	after, err := os.Stat(notes[0])
	require.NoError(t, err)
	require.False(t, os.SameFile(before, after))

	grown, err := resume.For(dir, write(first, "a\n1\n2\n"), "source")
	require.NoError(t, err)
	require.False(t, grown.Load(&line))
}
