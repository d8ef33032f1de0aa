package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// storeModel is a changelog of batches and what a store holds after each: a store that stands at position
// n must hold exactly the first n batches, whatever happened to it.
type storeModel struct {
	batches [][]write
}

// newStoreModel makes batches that put, change and delete some of a few hundred keys.
func newStoreModel(rng *rand.Rand, batches int) *storeModel {
	m := &storeModel{}
	for b := range batches {
		var writes []write
		for range 20 {
			w := write{key: appendStoreKey(nil, kindState, fmt.Appendf(nil, "key-%d", rng.IntN(300)), "n")}
			if rng.IntN(4) > 0 {
				w.value = fmt.Appendf(nil, "%d-%0*d", b, rng.IntN(80), rng.Uint64())
			}
			writes = append(writes, w)
		}
		m.batches = append(m.batches, writes)
	}
	return m
}

func (m *storeModel) at(position int64) map[string]string {
	state := make(map[string]string)
	for _, batch := range m.batches[:position] {
		for _, w := range batch {
			if w.value == nil {
				delete(state, string(w.key))
			} else {
				state[string(w.key)] = string(w.value)
			}
		}
	}
	return state
}

// play applies the batches that the store does not have yet. Now and then it makes tables of them and
// merges those. It ends at the first error.
func (m *storeModel) play(s *pebbleStore, until int64) error {
	for s.position() < until {
		if err := s.apply(m.batches[s.position()], s.position()+1); err != nil {
			return err
		}
		if s.position()%5 == 0 {
			if err := s.check(s.db.Flush()); err != nil {
				return err
			}
		}
		if s.position()%20 == 0 {
			if err := s.check(s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify reads the whole store in both ways that there are. An error is an answer, a wrong value is none.
func (m *storeModel) verify(t *testing.T, s *pebbleStore) error {
	t.Helper()
	want := m.at(s.position())
	got := make(map[string]string)
	if err := s.scan([]byte{kindState}, []byte{kindState + 1}, func(k, v []byte) bool {
		require.Equal(t, want[string(k)], string(v), "position %d", s.position())
		got[string(k)] = string(v)
		return true
	}); err != nil {
		return err
	}
	require.Len(t, got, len(want), "position %d", s.position())
	var mem arena
	for i := range 300 {
		key := appendStoreKey(nil, kindState, fmt.Appendf(nil, "key-%d", i), "n")
		v, ok, err := s.get(key, &mem)
		if err != nil {
			return err
		}
		value, there := want[string(key)]
		require.Equal(t, there, ok)
		require.Equal(t, value, string(v))
	}
	return nil
}

// testSettings are the settings of stores that go with the test.
func testSettings(t testing.TB, fs vfs.FS) storeSettings {
	t.Helper()
	caches := newStoreCaches(1 << 20)
	t.Cleanup(caches.close)
	settings := caches.settings(testLogger(t))
	settings.fs = fs
	return settings
}

// countdown lets a number of changes happen; the rest fail until it is told to stop failing.
type countdown struct {
	left   atomic.Int64
	failed atomic.Int64
}
