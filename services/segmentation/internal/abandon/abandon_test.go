package abandon

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"
)

// TestRuleEqualsBruteForce compares the rule over what is kept with a look at every start and finish, for
// every order of arrival, and asks that nothing changes between one Next and the next.
func TestRuleEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rule{Within: rapid.Int64Range(1, 4000).Draw(t, "within")}
		if rapid.Bool().Draw(t, "ends") {
			r.Lasts = rapid.Int64Range(1, 4000).Draw(t, "lasts")
		}
		var started, finished, starts, finishes window.Stamps
		now := int64(0)
		holds := func(at int64) bool {
			begun, done := latest(starts, at), latest(finishes, at)
			passed := at - begun - r.Within
			return begun != window.Never && done < begun && passed >= 0 && (r.Lasts == 0 || passed < r.Lasts)
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			at := now + rapid.Int64Range(-9000, 3000).Draw(t, "at")
			if rapid.Bool().Draw(t, "finish") {
				finishes = append(finishes, at)
				finished, _ = finished.InsertLatest(at, now)
			} else {
				starts = append(starts, at)
				started, _ = started.InsertLatest(at, now)
			}
			started, finished = r.Trim(started, finished, now)
			require.LessOrEqual(t, started.Upto(now), 1)
			require.LessOrEqual(t, finished.Upto(now), 1)
			verdict := r.At(started, finished, now)
			require.Equal(t, holds(now), verdict.Holds)
			passed := rapid.Int64Range(0, 4000).Draw(t, "passed")
			require.Equal(t, holds(now), holds(max(now, min(verdict.Next-1, now+passed))), "a change that was not foreseen")
			now += passed
		}
	})
}

func latest(stamps window.Stamps, at int64) int64 {
	last := int64(window.Never)
	for _, s := range stamps {
		if s <= at {
			last = max(last, s)
		}
	}
	return last
}

// TestSince pins the instants that late events give to flips.
func TestSince(t *testing.T) {
	r := Rule{Within: 45, Lasts: 100}
	require.Equal(t, window.Verdict{Holds: true, Since: 145, Next: 245}, r.At(window.Stamps{100}, nil, 200))
	require.Equal(t, window.Verdict{Since: 100, Next: 145}, r.At(window.Stamps{100}, nil, 120))
	require.Equal(t, window.Verdict{Since: 245, Next: window.Forever}, r.At(window.Stamps{100}, nil, 300))
	require.Equal(t, window.Verdict{Since: 100, Next: 400}, r.At(window.Stamps{100, 400}, window.Stamps{100}, 300))
}
