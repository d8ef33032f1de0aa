package window

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestCountEqualsBruteForce compares counts over what is kept with counts over everything, for every
// order of arrival, and asks that nothing changes between one Next and the next.
func TestCountEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Count{AtLeast: rapid.IntRange(0, 5).Draw(t, "least"), AtMost: rapid.IntRange(-1, 5).Draw(t, "most")}
		c.Within = rapid.SampledFrom([]int64{0, 1, 1000, 7000}).Draw(t, "within")
		var kept, all Stamps
		now := int64(0)
		holds := func(at int64) bool {
			n := 0
			for _, s := range all {
				if s <= at && (c.Within == 0 || at-s < c.Within) {
					n++
				}
			}
			return n >= c.AtLeast && (c.AtMost < 0 || n <= c.AtMost)
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			at := now + rapid.Int64Range(-9000, 3000).Draw(t, "at")
			all = append(all, at)
			before := slices.Clone(kept)
			var changed bool
			if kept, changed = c.Insert(kept, at, now); !changed {
				require.Equal(t, before, slices.Clone(kept))
			}
			kept = c.Trim(kept, now)
			require.True(t, slices.IsSorted(kept))
			require.LessOrEqual(t, kept.Upto(now), c.Keep(), "more is kept than the answer can need")
			require.Equal(t, holds(now), c.At(kept, now).Holds)
			passed := rapid.Int64Range(0, 4000).Draw(t, "passed")
			if next := c.At(kept, now).Next; next > now+1 {
				require.Equal(t, holds(now), holds(min(next-1, now+passed)), "a change that was not foreseen")
			}
			now += passed
		}
	})
}

// TestInactiveEqualsBruteForce does the same for inactivity.
func TestInactiveEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := Inactive{For: rapid.Int64Range(1, 5000).Draw(t, "for")}
		var kept, all Stamps
		now := int64(0)
		holds := func(at int64) bool {
			last := int64(Never)
			for _, s := range all {
				if s <= at {
					last = max(last, s)
				}
			}
			return last != Never && at-last >= i.For
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			at := now + rapid.Int64Range(-9000, 3000).Draw(t, "at")
			all = append(all, at)
			kept, _ = kept.InsertLatest(at, now)
			kept = kept.TrimLatest(now)
			require.LessOrEqual(t, kept.Upto(now), 1)
			require.Equal(t, holds(now), i.At(kept, now).Holds)
			passed := rapid.Int64Range(0, 4000).Draw(t, "passed")
			next := i.At(kept, now).Next
			require.Equal(t, holds(now), holds(max(now, min(next-1, now+passed))), "a change that was not foreseen")
			now += passed
		}
	})
}

func TestFutureIsBounded(t *testing.T) {
	c := Count{AtLeast: 2, AtMost: -1, Within: 1000}
	var s Stamps
	for i := range int64(3 * MaxFuture) {
		s, _ = c.Insert(s, 10_000-i, 0)
	}
	require.Len(t, s, MaxFuture)
	require.Equal(t, int64(10_000-3*MaxFuture+1), s[0], "the nearest ones stay")
	_, changed := c.Insert(s, 20_000, 0)
	require.False(t, changed)
}

// TestSatisfiedForEverCostsNothing asks that a count since ever that was reached does not change any more.
func TestSatisfiedForEverCostsNothing(t *testing.T) {
	c := Count{AtLeast: 3, AtMost: -1}
	var s Stamps
	for at := range int64(100) {
		var changed bool
		s, changed = c.Insert(s, at, at)
		require.Equal(t, at < 3, changed)
	}
	require.Equal(t, Stamps{0, 1, 2}, s)
	require.Equal(t, Verdict{Holds: true, Since: 2, Next: Forever}, c.At(s, 99))
}
