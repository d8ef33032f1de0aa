package heat

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/scoring/internal/label"
)

// TestEqualsBruteForce compares the state with the sum over all points, for every order of arrival.
func TestEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Model{HalfLife: rapid.Int64Range(1000, 1e7).Draw(t, "half life")}
		s, other := State{At: 0}, State{At: 0}
		var all []Point
		now := int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 20_000).Draw(t, "passed")
			to := &s
			if rapid.Bool().Draw(t, "other") {
				to = &other
			}
			m.Advance(to, now)
			p := Point{
				At:     now + rapid.Int64Range(-100_000, 30_000).Draw(t, "at"),
				Points: float64(rapid.IntRange(-3, 10).Draw(t, "points")),
			}
			m.Add(to, p.Points, p.At)
			all = append(all, p)
		}
		m.Join(&s, &other)
		now += rapid.Int64Range(0, 50_000).Draw(t, "passed")
		m.Advance(&s, now)
		want, size := 0.0, 0.0
		for _, p := range all {
			if p.At <= now {
				worth := p.Points * math.Exp2(-float64(now-p.At)/float64(m.HalfLife))
				want, size = want+worth, size+math.Abs(worth)
			}
		}
		require.InDelta(t, want, s.Value, 1e-9*(1+size)+float64(len(all))*Zero)
	})
}

// TestCoolsAtTheMillisecond asks that the label changes at Next and not before.
func TestCoolsAtTheMillisecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		labels := label.Labels{{From: -20, Name: "averse"}, {From: -1, Name: "neutral"}, {From: 2.5, Name: "warm"}, {From: 40, Name: "hot"}}
		m := Model{HalfLife: rapid.Int64Range(1, 1e12).Draw(t, "half life"), Labels: labels}
		s := State{Value: rapid.Float64Range(-1000, 1000).Draw(t, "value"), At: 5_000}
		for range 5 {
			rank := labels.Rank(s.Value)
			next := m.Next(&s)
			if next == Forever {
				m.Advance(&s, s.At+100*m.HalfLife)
				require.Equal(t, rank, labels.Rank(s.Value), "a change that was not foreseen")
				return
			}
			require.Greater(t, next, s.At)
			require.Equal(t, rank, labels.Rank(m.at(&s, next-1)), "too late")
			m.Advance(&s, next)
			require.NotEqual(t, rank, labels.Rank(s.Value), "too early")
		}
	})
}

func TestAddBounds(t *testing.T) {
	m := Model{HalfLife: 1000}
	s := State{}
	require.True(t, m.Add(&s, math.MaxFloat64, 0))
	require.InDelta(t, Limit, s.Value, 1)
	require.False(t, m.Add(&s, 0, 0))
	for i := range int64(2 * MaxFuture) {
		require.False(t, m.Add(&s, 1, 1000-i))
	}
	require.Len(t, s.Future, MaxFuture)
	require.Equal(t, int64(1000-2*MaxFuture+1), s.Future[0].At, "the nearest ones stay")
}
