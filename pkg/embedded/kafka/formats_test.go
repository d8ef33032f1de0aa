package kafka

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// FuzzFormats: what a dying machine leaves in a file must not take the next
// start down with it.
func FuzzFormats(f *testing.F) {
	m := marker{offset: 3, producerID: 9, epoch: 1, commit: true}.encode()
	n, err := appendNote(nil, &note{Kind: noteStage, TxID: "x", Offsets: []stagedOffset{{Group: "g", Topic: "t"}}})
	require.NoError(f, err)
	s, err := appendState(nil, pidEntry{Type: "init", PID: 7})
	require.NoError(f, err)
	for _, seed := range [][]byte{m, n, s, append(m, n...), append(s, m...), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		batches, valid := parseBatches(raw)
		require.LessOrEqual(t, valid, len(raw))
		end := 0
		for i := range batches {
			require.Equal(t, end, batches[i].pos)
			end += batches[i].size
			_ = markerCommits(raw[batches[i].pos:end])
		}
		require.Equal(t, valid, end)
		entries, whole := readState(raw)
		require.LessOrEqual(t, whole, int64(len(raw)))
		require.LessOrEqual(t, int64(len(entries))*stateHeader, whole)
		require.NotNil(t, decodeNotes(raw))
	})
}

// TestMarker is read back as the broker and consumers read it.
func TestMarker(t *testing.T) {
	for _, commit := range []bool{true, false} {
		raw := marker{offset: 42, leaderEpoch: 3, producerID: 9, epoch: 1, commit: commit, timestamp: 1000}.encode()
		batches, valid := parseBatches(raw)
		require.Len(t, batches, 1)
		require.Equal(t, len(raw), valid)
		b := batches[0]
		require.True(t, b.control())
		require.False(t, b.transactional())
		require.EqualValues(t, 43, b.end())
		require.EqualValues(t, 9, b.producerID)
		require.Equal(t, commit, markerCommits(raw))
		for cut := range raw {
			batches, _ = parseBatches(raw[:cut])
			require.Empty(t, batches)
		}
	}
}

// TestNotesCutAnywhere: a log cut at any byte says what its whole entries say,
// and a log rewritten says the same as before.
func TestNotesCutAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(drawNote), 1, 12).Draw(t, "entries")
		var raw []byte
		ends := []int{0}
		for i := range entries {
			var err error
			raw, err = appendNote(raw, &entries[i])
			require.NoError(t, err)
			ends = append(ends, len(raw))
		}
		cut := rapid.IntRange(0, len(raw)).Draw(t, "cut")
		want := newNotes()
		for i := range entries {
			if ends[i+1] <= cut {
				want.apply(entries[i])
			}
		}
		require.Equal(t, want, decodeNotes(raw[:cut]))

		var again []byte
		for _, e := range want.all() {
			var err error
			again, err = appendNote(again, &e)
			require.NoError(t, err)
		}
		require.Equal(t, want, decodeNotes(again))
	})
}

func drawNote(t *rapid.T) note {
	n := note{
		Kind:     rapid.SampledFrom([]noteKind{noteStage, noteCommit, noteAbort, noteFence, noteFloor}).Draw(t, "kind"),
		TxID:     rapid.SampledFrom([]string{"a", "b"}).Draw(t, "txid"),
		Producer: rapid.Int64Range(1, 3).Draw(t, "producer"), Epoch: rapid.Int16Range(0, 2).Draw(t, "epoch"),
	}
	switch n.Kind {
	case noteStage:
		n.Offsets = []stagedOffset{{Group: "g", Topic: "t", Partition: rapid.Int32Range(0, 2).Draw(t, "partition"), Offset: rapid.Int64Range(0, 9).Draw(t, "offset")}}
	case noteFloor:
		n = note{Kind: noteFloor, Topic: "t", Partition: rapid.Int32Range(0, 2).Draw(t, "partition"), Offset: rapid.Int64Range(1, 9).Draw(t, "offset")}
	default: // ends a transaction, and carries no more
	}
	return n
}

// TestStagedOffsetsAddUp within a transaction, and only there.
func TestStagedOffsetsAddUp(t *testing.T) {
	at := func(p int32, offset int64) []stagedOffset {
		return []stagedOffset{{Group: "g", Topic: "t", Partition: p, Offset: offset}}
	}
	n := newNotes()
	n.apply(note{Kind: noteStage, TxID: "x", Producer: 1, Epoch: 1, Offsets: at(0, 5)})
	n.apply(note{Kind: noteStage, TxID: "x", Producer: 1, Epoch: 1, Offsets: at(1, 6)})
	n.apply(note{Kind: noteStage, TxID: "x", Producer: 1, Epoch: 1, Offsets: at(0, 7)})
	n.apply(note{Kind: noteCommit, TxID: "x", Producer: 1, Epoch: 1})
	require.Equal(t, append(at(0, 7), at(1, 6)...), n.commit.Offsets)
	n.apply(note{Kind: noteStage, TxID: "x", Producer: 1, Epoch: 1, Offsets: at(2, 8)})
	n.apply(note{Kind: noteAbort, TxID: "x", Producer: 1, Epoch: 1})
	n.apply(note{Kind: noteCommit, TxID: "x", Producer: 1, Epoch: 1})
	require.Empty(t, n.commit.Offsets)
	n.apply(note{Kind: noteStage, TxID: "x", Producer: 1, Epoch: 1, Offsets: at(2, 8)})
	n.apply(note{Kind: noteCommit, TxID: "x", Producer: 1, Epoch: 2})
	require.Empty(t, n.commit.Offsets, "another epoch's offsets")
}

// TestNotesLogIsBounded however many transactions there are.
func TestNotesLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	l, err := openNotes(dir, newNotes(), false)
	require.NoError(t, err)
	now := time.Now().UnixMilli()
	require.NoError(t, l.append(note{Kind: noteStage, TxID: "long", Producer: 5, At: now, Offsets: []stagedOffset{{Group: "g", Topic: "t", Offset: 1}}}))
	require.NoError(t, l.append(note{Kind: noteStage, TxID: "lost", Producer: 6, At: now - 2*stagedLife.Milliseconds()}))
	for i := range 20_000 {
		require.NoError(t, l.append(note{Kind: noteStage, TxID: "x", Producer: 1, Epoch: int16(i), At: now, Offsets: []stagedOffset{{Group: "g", Topic: "t", Offset: int64(i)}}}))
		require.NoError(t, l.append(note{Kind: noteCommit, TxID: "x", Producer: 1, Epoch: int16(i), At: now}))
	}
	require.NoError(t, l.close())
	info, err := os.Stat(dir + "/" + notesFile)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(notesMaxBytes+1024))
	n, err := loadNotes(dir)
	require.NoError(t, err)
	require.Contains(t, n.staged, "long", "an open transaction is kept")
	require.NotContains(t, n.staged, "lost", "one that ran out is not")
	require.EqualValues(t, 19_999, n.commit.Offsets[0].Offset)
}

// TestProducersReplay follows what the broker writes.
func TestProducersReplay(t *testing.T) {
	dir := t.TempDir()
	yes := true
	var raw []byte
	for _, e := range []pidEntry{
		{Type: "init", PID: 1, TxID: "x", Timeout: 5},
		{Type: "endtx", PID: 1, Epoch: 0, Commit: &yes},
		{Type: "init", PID: 1, Epoch: 1, TxID: "x", Timeout: 5},
		{Type: "init", PID: 2, TxID: "y"},
		{Type: "endtx", PID: 2, Commit: &yes},
		{Type: "timeout", PID: 2, Epoch: 1},
		{Type: "init", PID: 3, Epoch: 32766, TxID: "z"},
		{Type: "init", PID: 4, TxID: "z"}, // epochs of 3 are used up
	} {
		var err error
		raw, err = appendState(raw, e)
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(dir+"/pids.log", append(raw, "cut"...), 0o600))
	ps, err := readProducers(dir)
	require.NoError(t, err)
	require.True(t, ps.byID[1].lastCommit, "a bump of the epoch does not forget the commit")
	require.False(t, ps.byID[2].lastCommit, "a transaction that ran out was not committed")
	require.NotContains(t, ps.byID, int64(3))
	require.Contains(t, ps.byID, int64(4))

	ps.fence(1, 1)
	require.EqualValues(t, 2, ps.byID[1].epoch)
	ps.fence(1, 1)
	require.EqualValues(t, 2, ps.byID[1].epoch, "fencing twice is fencing once")
	ps.byID[4].epoch = 32767
	ps.fence(4, 32767)
	require.NotContains(t, ps.byID, int64(4), "no epoch left: the client asks for a new id")
	require.NoError(t, ps.write(dir, func(int64) bool { return false }))
	again, err := readProducers(dir)
	require.NoError(t, err)
	require.EqualValues(t, 2, again.byID[1].epoch)
	require.EqualValues(t, 5, again.byID[1].timeout)
}
