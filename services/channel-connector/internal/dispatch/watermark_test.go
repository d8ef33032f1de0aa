package dispatch

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestWatermarkNeverPassesAPendingRecord finishes records in any order and compares with a scan.
func TestWatermarkNeverPassesAPendingRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWatermark()
		var offsets []int64
		next := int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "records") {
			next += rapid.Int64Range(1, 4).Draw(t, "gap")
			offsets = append(offsets, next)
			w.add(next)
		}
		done := map[int64]bool{}
		committed := int64(-1)
		for _, offset := range rapid.Permutation(offsets).Draw(t, "order") {
			done[offset] = true
			commit, moved := w.finish(offset)
			want := int64(-1)
			for _, o := range offsets {
				if !done[o] {
					break
				}
				want = o + 1
			}
			if moved {
				committed = commit
			}
			require.Equal(t, want, committed)
		}
		require.Zero(t, w.pending)
		require.Empty(t, w.done)
	})
}
