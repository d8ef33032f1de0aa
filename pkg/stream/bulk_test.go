package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// changelogOf makes a changelog of state and timers that come, change and go.
func changelogOf(rng *rand.Rand, n int) []*kgo.Record {
	var log []*kgo.Record
	for i := range n {
		rec := &kgo.Record{Offset: int64(i)}
		key, name := fmt.Appendf(nil, "key-%d", rng.IntN(n/5+1)), fmt.Sprint("n", rng.IntN(2))
		timer := rng.IntN(3) == 0
		rec.Key = appendStoreKey(nil, kindState, key, name)
		if timer {
			rec.Key = appendStoreKey(nil, kindTimer, key, name)
		}
		switch {
		case rng.IntN(4) == 0:
		case timer:
			rec.Value = appendTimerValue(nil, rng.Int64N(1_000_000), "", fmt.Append(nil, i))
		default:
			rec.Value = fmt.Append(nil, i)
		}
		log = append(log, rec)
	}
	return log
}

// contents is everything in a store but its stamp.
func contents(t *testing.T, s store) map[string]string {
	t.Helper()
	got := make(map[string]string)
	require.NoError(t, s.scan([]byte{0}, []byte{0xff}, func(k, v []byte) bool {
		if k[0] != kindStore {
			got[string(k)] = string(v)
		}
		return true
	}))
	return got
}

// TestBulkEqualsBatches loads changelogs in bulk, in pieces, with crashes and full disks between and
// within them, and compares the store with one that was written batch by batch, the due index included.
func TestBulkEqualsBatches(t *testing.T) {
	rng := newSeed(t)
	for round := range 30 {
		log := changelogOf(rng, 1+rng.IntN(3000))
		want := newMemStore()
		require.NoError(t, applyChangelog(want, log, int64(len(log))))

		memory := vfs.NewCrashableMem()
		fs := vfs.FS(memory)
		var disk countdown
		if round%2 == 1 {
			fs = disk.after(memory, rng.Int64N(150), "/stage/0")
		}
		var got *pebbleStore
		for tries := 0; got == nil; tries++ {
			require.Less(t, tries, 20)
			settings := testSettings(t, fs)
			s, err := openPebble("/data/stage/0", [16]byte{1}, settings)
			if err != nil {
				require.ErrorIs(t, err, errDisk)
				fs = memory
				continue
			}
			until := len(log)
			if tries == 0 {
				until = rng.IntN(len(log) + 1)
			}
			loaded, err := loadInBulk(s, settings, log[:until], until == len(log))
			switch {
			case err != nil:
				require.ErrorIs(t, err, errDisk)
				if loaded != nil {
					require.NoError(t, loaded.close())
				}
				fs = memory
			case until == len(log):
				got = loaded
			default:
				// The process dies: what Pebble had not synced is gone, or not.
				fs = memory.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				require.NoError(t, loaded.close())
				memory = fs.(*vfs.MemFS)
			}
		}
		require.Equal(t, contents(t, want), contents(t, got), "round %d", round)
		require.Equal(t, int64(len(log)), got.position())
		require.False(t, got.loading)
		require.NoError(t, got.close())
	}
}

// loadInBulk loads what a store does not have of a changelog, in small answers and pieces.
func loadInBulk(s *pebbleStore, settings storeSettings, log []*kgo.Record, whole bool) (*pebbleStore, error) {
	if !s.empty && !s.loading {
		return s, applyChangelog(s, log[s.position():], int64(len(log)))
	}
	load, err := newBulk(s, settings, make(chan struct{}, 1))
	if err != nil {
		return s, err
	}
	defer load.drop()
	load.chunk = 16 << 10
	for at := s.position(); at < int64(len(log)); {
		next := min(at+50, int64(len(log)))
		if err := load.take(context.Background(), log[at:next], next); err != nil {
			return s, err
		}
		at = next
	}
	if !whole {
		return s, nil
	}
	return s, load.finish(context.Background())
}

// TestNothingIsCompactedWhileLoading: tables that overlap stay as they are until all of them are there, and
// then they are merged.
func TestNothingIsCompactedWhileLoading(t *testing.T) {
	settings := testSettings(t, vfs.NewMem())
	s, err := openPebble("/data/stage/0", [16]byte{1}, settings)
	require.NoError(t, err)
	log := changelogOf(newSeed(t), 20_000)
	s, err = loadInBulk(s, settings, log, false)
	require.NoError(t, err)
	before := s.db.Metrics()
	require.Zero(t, before.Compact.Count)
	require.Greater(t, before.Levels[0].Sublevels, int32(4))

	s, err = loadInBulk(s, settings, log, true)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now := s.db.Metrics()
		return now.Compact.Count > 0 && now.Levels[0].Sublevels < 4
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, s.close())
}

// TestStoreIsAsOldAsItsLastFullRestore: a store that is half way through catching up is no younger than
// when it set out, however often it was opened and written.
func TestStoreIsAsOldAsItsLastFullRestore(t *testing.T) {
	start := time.Now()
	settings := testSettings(t, vfs.NewMem())
	open := func(later time.Duration) *pebbleStore {
		settings.now = func() time.Time { return start.Add(later) }
		s, err := openPebble("/data/stage/0", [16]byte{1}, settings)
		require.NoError(t, err)
		return s
	}
	put := []write{{key: []byte("sk"), value: []byte("v")}}
	s := open(0)
	require.NoError(t, s.apply(put, 5))
	s.current(start.Add(time.Hour))
	require.NoError(t, s.close())

	s = open(10 * time.Hour)
	require.Equal(t, int64(5), s.position())
	require.NoError(t, s.apply(put, 6), "the restore gets some of the way")
	require.NoError(t, s.close())

	s = open(14 * time.Hour)
	require.Zero(t, s.position(), "tombstones since its first hour may be gone")
	require.NoError(t, s.apply(put, 7))
	s.current(start.Add(14 * time.Hour))
	require.NoError(t, s.close(), "without another batch")

	s = open(25 * time.Hour)
	require.Equal(t, int64(7), s.position())
	require.NoError(t, s.close())
}
