// Package heat computes an interest that cools: the sum of the points of events, each halved with every
// half-life that has passed since the event's own timestamp.
//
// The sum of exponentials with one half-life is one number that decays as a whole, so a value and its
// time are all the state there is: adding a late event decays its points from its own timestamp first.
// The value at a time is therefore the same for every order of arrival, up to the rounding of doubles
// (a relative 1e-9 over any number of events that a person can cause). A value nearer to zero than Zero
// is zero. Points of events dated ahead of the clock wait for their time, MaxFuture of them at most.
//
// TestEqualsBruteForce would catch a value that depends on the order, TestCoolsAtTheMillisecond a label
// that changes too early or too late. Times are milliseconds since the Unix epoch.
package heat

import (
	"math"
	"slices"

	"github.com/sillage-cdp/sillage/services/scoring/internal/label"
)

const (
	// Zero is the distance from zero below which a value is zero.
	Zero = 1e-9
	// Limit is the largest size of a value; what exceeds it is cut off.
	Limit = 1e300
	// MaxFuture bounds the points that wait; those furthest ahead are let go first.
	MaxFuture = 256
	// Forever is after every instant.
	Forever = math.MaxInt64 / 4
)

// Model is what does not depend on the person.
type Model struct {
	// HalfLife is in milliseconds, greater than 0.
	HalfLife int64
	// Labels give the value its word.
	Labels label.Labels
}

// Point is worth that waits for its time.
type Point struct {
	At     int64
	Points float64
}

// State is the heat of one person.
type State struct {
	// Value is the heat as of At.
	Value float64
	// At is the time up to which the state was evaluated.
	At int64
	// Future are points to come, in order of time.
	Future []Point
}

// at is the heat at a time that is not before the state's own, points to come that are due not counted.
func (m Model) at(s *State, t int64) float64 {
	return settle(s.Value * m.decay(t-s.At))
}

func (m Model) decay(passed int64) float64 {
	return math.Exp2(-float64(passed) / float64(m.HalfLife))
}

func settle(value float64) float64 {
	if math.Abs(value) < Zero {
		return 0
	}
	return min(max(value, -Limit), Limit)
}

// Add gives points for an event. It reports whether the value changed now.
func (m Model) Add(s *State, points float64, at int64) bool {
	if points == 0 {
		return false
	}
	if at > s.At {
		m.wait(s, Point{At: at, Points: points})
		return false
	}
	before := s.Value
	s.Value = settle(s.Value + points*m.decay(s.At-at))
	return s.Value != before
}

func (m Model) wait(s *State, p Point) {
	i := len(s.Future)
	for i > 0 && s.Future[i-1].At > p.At {
		i--
	}
	s.Future = slices.Insert(s.Future, i, p)
	s.Future = s.Future[:min(len(s.Future), MaxFuture)]
}

// Advance evaluates the state as of a time; a time before its own changes nothing.
func (m Model) Advance(s *State, to int64) {
	due := 0
	for due < len(s.Future) && s.Future[due].At <= to {
		p := s.Future[due]
		if p.At > s.At {
			s.Value, s.At = m.at(s, p.At), p.At
		}
		s.Value = settle(s.Value + p.Points*m.decay(s.At-p.At))
		due++
	}
	s.Future = slices.Delete(s.Future, 0, due)
	if to > s.At {
		s.Value, s.At = m.at(s, to), to
	}
}

// Join adds the heat of another state, as if the events of both had been one person's. Both are advanced
// to the later of their times.
func (m Model) Join(s, other *State) {
	m.Advance(s, other.At)
	m.Advance(other, s.At)
	s.Value = settle(s.Value + other.Value)
	for _, p := range other.Future {
		m.wait(s, p)
	}
}

// Next is the earliest time after the state's own at which points to come are due or the label changes;
// Forever if never.
func (m Model) Next(s *State) int64 {
	next := int64(Forever)
	if len(s.Future) > 0 {
		next = s.Future[0].At
	}
	rank := m.Labels.Rank(s.Value)
	switch {
	case s.Value > 0 && rank > 0:
		// It cools below the threshold that it reaches.
		if from := m.Labels[rank-1].From; from > 0 {
			next = min(next, m.crossing(s, max(from, Zero)))
		}
	case s.Value < 0 && rank < len(m.Labels) && m.Labels[rank].From <= 0:
		// It rises towards zero and reaches the next threshold.
		next = min(next, m.crossing(s, max(-m.Labels[rank].From, Zero)))
	}
	return next
}

// crossing is the first time at which the label is no longer the present one, near the time at which the
// size of the value passes a bound.
func (m Model) crossing(s *State, bound float64) int64 {
	rank := m.Labels.Rank(s.Value)
	same := func(passed int64) bool { return m.Labels.Rank(m.at(s, s.At+passed)) == rank }
	estimate := math.Log2(math.Abs(s.Value)/bound) * float64(m.HalfLife)
	if estimate > Forever/4 {
		return Forever
	}
	passed := max(int64(estimate), 1)
	// The estimate is exact up to rounding; these steps make it the first millisecond, bounded in case
	// the value is so flat that a millisecond does not move it.
	for range maxRefine {
		if passed <= 1 || same(passed-1) {
			break
		}
		passed--
	}
	for range maxRefine {
		if !same(passed) {
			break
		}
		passed++
	}
	return s.At + passed
}

// maxRefine bounds the search for the exact millisecond.
const maxRefine = 1000
