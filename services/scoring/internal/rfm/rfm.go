// Package rfm computes recency, frequency and monetary value of purchases, exactly: amounts are integer
// millionths, never doubles.
//
// Without a window the state is a count, a sum and the latest purchase; with one it is the purchases and
// refunds within the window, MaxKept of them at most, beyond which the oldest leave early. Events dated
// ahead of the clock wait for their time, MaxFuture at most. Sums saturate at the bounds of 64 bits. What
// is read at a time does not depend on the order of arrival. TestEqualsBruteForce would catch it if it did.
// Times are milliseconds since the Unix epoch.
package rfm

import (
	"math"
	"slices"

	"github.com/sillage-cdp/sillage/services/scoring/internal/label"
)

const (
	// MaxKept bounds the purchases and refunds remembered within a window.
	MaxKept = 4096
	// MaxFuture bounds the events that wait; those furthest ahead are let go first.
	MaxFuture = 256
	// Never is before every instant.
	Never = math.MinInt64 / 4
	// Forever is after every instant.
	Forever = math.MaxInt64 / 4
	// Day is a day in milliseconds.
	Day = 24 * 60 * 60 * 1000
)

// Model is what does not depend on the person.
type Model struct {
	// Within is the length of the window in milliseconds; 0 for since ever.
	Within int64
	// Recency are times since the last purchase in milliseconds, ascending; each one passed costs a mark.
	Recency []int64
	// Frequency are numbers of purchases, ascending; each one reached earns a mark.
	Frequency []float64
	// Monetary are amounts in millionths, ascending; each one reached earns a mark.
	Monetary []int64
	// Labels give the sum of the marks its word.
	Labels label.Labels
}

// Deal is a purchase or a refund.
type Deal struct {
	At     int64
	Micros int64
	Refund bool
}

// State is what is remembered of one person.
type State struct {
	// At is the time up to which the state was evaluated.
	At int64
	// Count, Sum and Last are of deals that are not kept one by one.
	Count int64
	Sum   int64
	Last  int64
	// Deals are those in the window and those to come; without a window, those to come. In order of time.
	Deals []Deal
}

// NewState is the state of a person of whom nothing is known.
func NewState(at int64) State { return State{At: at, Last: Never} }

// Reading is the score as of the state's time.
type Reading struct {
	// Value is the sum of the marks.
	Value float64
	// Frequency is the number of purchases.
	Frequency int64
	// Micros is purchases less refunds, in millionths.
	Micros int64
	// Last is the timestamp of the last purchase; Never if there is none.
	Last int64
}

// Add takes a deal in. It reports whether anything changed now.
func (m Model) Add(s *State, deal Deal) bool {
	if deal.At > s.At {
		s.insert(deal)
		s.Deals = s.Deals[:min(len(s.Deals), s.upto(s.At)+MaxFuture)]
		return false
	}
	if m.Within == 0 {
		s.fold(deal)
		return true
	}
	if deal.At <= s.At-m.Within {
		return false
	}
	s.insert(deal)
	m.trim(s)
	return true
}

func (s *State) insert(deal Deal) {
	s.Deals = slices.Insert(s.Deals, s.upto(deal.At), deal)
}

// upto is the number of deals that are not after t.
func (s *State) upto(t int64) int {
	n := len(s.Deals)
	for n > 0 && s.Deals[n-1].At > t {
		n--
	}
	return n
}

func (s *State) fold(deal Deal) {
	if deal.Refund {
		s.Sum = add(s.Sum, -size(deal.Micros))
		return
	}
	s.Count++
	s.Sum = add(s.Sum, deal.Micros)
	s.Last = max(s.Last, deal.At)
}

// trim lets go of what has left the window, and of the oldest beyond MaxKept.
func (m Model) trim(s *State) {
	past := s.upto(s.At)
	gone := max(past-MaxKept, 0)
	for gone < past && s.Deals[gone].At <= s.At-m.Within {
		gone++
	}
	s.Deals = slices.Delete(s.Deals, 0, gone)
}

// Advance evaluates the state as of a time; a time before its own changes nothing.
func (m Model) Advance(s *State, to int64) {
	if to <= s.At {
		return
	}
	s.At = to
	if m.Within > 0 {
		m.trim(s)
		return
	}
	due := s.upto(to)
	for _, deal := range s.Deals[:due] {
		s.fold(deal)
	}
	s.Deals = slices.Delete(s.Deals, 0, due)
}

// Join takes in the deals of another state, as if those of both had been one person's. Both are advanced
// to the later of their times.
func (m Model) Join(s, other *State) {
	m.Advance(s, other.At)
	m.Advance(other, s.At)
	s.Count += other.Count
	s.Sum = add(s.Sum, other.Sum)
	s.Last = max(s.Last, other.Last)
	for _, deal := range other.Deals {
		s.insert(deal)
	}
	if m.Within > 0 {
		m.trim(s)
	}
	s.Deals = s.Deals[:min(len(s.Deals), s.upto(s.At)+MaxFuture)]
}

// Read is the score as of the state's time.
func (m Model) Read(s *State) Reading {
	total := State{Count: s.Count, Sum: s.Sum, Last: s.Last}
	if m.Within > 0 {
		for _, deal := range s.Deals[:s.upto(s.At)] {
			if deal.At > s.At-m.Within {
				total.fold(deal)
			}
		}
	}
	reading := Reading{Frequency: total.Count, Micros: total.Sum, Last: total.Last}
	marks := 3 + reached(m.Frequency, float64(total.Count)) + reached(m.Monetary, total.Sum)
	if total.Last != Never {
		marks += len(m.Recency) - reached(m.Recency, s.At-total.Last)
	}
	reading.Value = float64(marks)
	return reading
}

// Label is the word for a reading.
func (m Model) Label(r Reading) string { return m.Labels.Of(r.Value) }

// Next is the earliest time after the state's own at which the reading may change; Forever if never.
func (m Model) Next(s *State) int64 {
	next := int64(Forever)
	past := s.upto(s.At)
	if past < len(s.Deals) {
		next = s.Deals[past].At
	}
	last := s.Last
	if m.Within > 0 {
		if past > 0 {
			next = min(next, max(s.Deals[0].At+m.Within, s.At+1))
		}
		for i := past - 1; i >= 0; i-- {
			if !s.Deals[i].Refund {
				last = max(last, s.Deals[i].At)
				break
			}
		}
	}
	if last == Never {
		return next
	}
	for _, length := range m.Recency {
		if due := last + length; due > s.At {
			return min(next, due)
		}
	}
	return next
}

// reached is the number of thresholds that a value reaches.
func reached[T int64 | float64](thresholds []T, value T) int {
	n := 0
	for n < len(thresholds) && value >= thresholds[n] {
		n++
	}
	return n
}

// size is the absolute value: producers write the worth of a refund with either sign.
func size(micros int64) int64 {
	switch {
	case micros == math.MinInt64:
		return math.MaxInt64
	case micros < 0:
		return -micros
	default:
		return micros
	}
}

// add saturates.
func add(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	default:
		return sum
	}
}
