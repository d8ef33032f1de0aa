package dispatch

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestWatermarkNeverPassesAPendingRecord finishes records in any order and compares with a scan.
func TestWatermarkNeverPassesAPendingRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w watermark
		var offsets []int64
		next := int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "records") {
			next += rapid.Int64Range(1, 4).Draw(t, "gap")
			offsets = append(offsets, next)
			w.add(next, 10*next)
		}
		done := map[int64]bool{}
		committed := int64(-1)
		for _, offset := range rapid.Permutation(offsets).Draw(t, "order") {
			done[offset] = true
			commit, moved := w.finish(offset)
			want, reports := int64(-1), int64(7)
			for _, o := range offsets {
				if !done[o] {
					reports = 10 * o
					break
				}
				want = o + 1
			}
			if moved {
				committed = commit
			}
			require.Equal(t, want, committed)
			require.Equal(t, reports, w.reportsFrom(7), "reports of what is not committed stay known")
			_, again := w.finish(offset)
			require.False(t, again)
		}
		require.Zero(t, w.span())
	})
}
