package journal_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/channel-connector/internal/journal"
)

func at(partition int32, offset int64) journal.Ref {
	return journal.Ref{Partition: partition, Offset: offset, Send: "demo/s1"}
}

func TestEntries(t *testing.T) {
	j, err := journal.Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()

	check := func(ref journal.Ref, want journal.State, outcome string) {
		t.Helper()
		got, raw, err := j.Get(ref)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, outcome, string(raw))
	}
	check(at(1, 5), journal.Unknown, "")
	require.NoError(t, j.Begin(at(1, 5)))
	check(at(1, 5), journal.Attempting, "")
	require.NoError(t, j.Failed(at(1, 5)))
	check(at(1, 5), journal.Unknown, "")
	require.NoError(t, j.Finish(at(1, 5), []byte("ok")))
	require.NoError(t, j.Finish(at(1, 6), []byte("next")))
	require.NoError(t, j.Finish(at(2, 5), []byte("other")))
	require.NoError(t, j.Forget(1, 6))
	check(at(1, 5), journal.Unknown, "")
	check(at(1, 6), journal.Done, "next")
	check(at(2, 5), journal.Done, "other")
}

// TestAnEntryOfAnotherSendIsNone: the topic was made anew and its offsets begin again.
func TestAnEntryOfAnotherSendIsNone(t *testing.T) {
	j, err := journal.Open(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	require.NoError(t, j.Finish(at(0, 0), []byte("ok")))
	for _, other := range []string{"demo/s2", "demo/s11", "demo/s", ""} {
		state, _, err := j.Get(journal.Ref{Send: other})
		require.NoError(t, err)
		require.Equal(t, journal.Unknown, state, other)
	}
}

// TestEntriesSurviveAKill runs itself as a child that writes and kills itself.
func TestEntriesSurviveAKill(t *testing.T) {
	if dir := os.Getenv("JOURNAL_CHILD_DIR"); dir != "" {
		j, err := journal.Open(dir)
		require.NoError(t, err)
		require.NoError(t, j.Finish(at(0, 1), []byte("ok")))
		require.NoError(t, j.Begin(at(0, 2)))
		self, err := os.FindProcess(os.Getpid())
		require.NoError(t, err)
		require.NoError(t, self.Kill())
		select {}
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestEntriesSurviveAKill$")
	child.Env = append(os.Environ(), "JOURNAL_CHILD_DIR="+dir)
	require.Error(t, child.Run(), "the child must have been killed")

	j, err := journal.Open(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	state, raw, err := j.Get(at(0, 1))
	require.NoError(t, err)
	require.Equal(t, journal.Done, state)
	require.Equal(t, "ok", string(raw))
	state, _, err = j.Get(at(0, 2))
	require.NoError(t, err)
	require.Equal(t, journal.Attempting, state)
}
