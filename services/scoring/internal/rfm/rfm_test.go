package rfm

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestEqualsBruteForce compares readings with a look at every deal, for every order of arrival, and asks
// that nothing changes between one Next and the next.
func TestEqualsBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Model{
			Recency: []int64{5_000, 20_000, 60_000}, Frequency: []float64{2, 4}, Monetary: []int64{1_000_000, 5_500_000},
		}
		if rapid.Bool().Draw(t, "windowed") {
			m.Within = rapid.Int64Range(1_000, 90_000).Draw(t, "within")
		}
		s, other := NewState(0), NewState(0)
		var all []Deal
		now := int64(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now += rapid.Int64Range(0, 9_000).Draw(t, "passed")
			to := &s
			if rapid.Bool().Draw(t, "other") {
				to = &other
			}
			m.Advance(to, now)
			deal := Deal{
				At:     now + rapid.Int64Range(-60_000, 9_000).Draw(t, "at"),
				Micros: rapid.Int64Range(-1, 2_000_000).Draw(t, "micros"),
				Refund: rapid.IntRange(0, 3).Draw(t, "refund") == 0,
			}
			before := m.Read(to)
			if !m.Add(to, deal) {
				require.Equal(t, before, m.Read(to))
			}
			all = append(all, deal)
		}
		m.Join(&s, &other)
		require.Equal(t, bruteForce(m, all, s.At), m.Read(&s))
		for range 20 {
			next := m.Next(&s)
			if next == Forever {
				break
			}
			require.Greater(t, next, s.At)
			before := m.Read(&s)
			m.Advance(&s, next-1)
			require.Equal(t, before, m.Read(&s), "a change that was not foreseen")
			m.Advance(&s, next)
			require.Equal(t, bruteForce(m, all, next), m.Read(&s))
		}
	})
}

func bruteForce(m Model, all []Deal, now int64) Reading {
	r := Reading{Last: Never}
	for _, d := range all {
		if d.At > now || (m.Within > 0 && now-d.At >= m.Within) {
			continue
		}
		if d.Refund {
			r.Micros -= max(d.Micros, -d.Micros)
			continue
		}
		r.Frequency++
		r.Micros += d.Micros
		r.Last = max(r.Last, d.At)
	}
	marks := 3
	for _, f := range m.Frequency {
		if float64(r.Frequency) >= f {
			marks++
		}
	}
	for _, amount := range m.Monetary {
		if r.Micros >= amount {
			marks++
		}
	}
	for _, length := range m.Recency {
		if r.Last != Never && now-r.Last < length {
			marks++
		}
	}
	r.Value = float64(marks)
	return r
}

func TestBounds(t *testing.T) {
	ever := Model{}
	s := NewState(0)
	for range 3 {
		ever.Add(&s, Deal{Micros: math.MaxInt64})
	}
	require.Equal(t, int64(math.MaxInt64), ever.Read(&s).Micros, "sums saturate")
	ever.Add(&s, Deal{Micros: math.MinInt64, Refund: true})
	require.Equal(t, int64(0), ever.Read(&s).Micros)

	windowed := Model{Within: 1 << 40}
	s = NewState(1 << 39)
	for i := range int64(MaxKept + 10) {
		windowed.Add(&s, Deal{At: i})
	}
	require.Len(t, s.Deals, MaxKept)
	require.Equal(t, int64(10), s.Deals[0].At, "the oldest leave first")
}
