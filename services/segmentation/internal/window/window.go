// Package window holds the operators over instants on which segments are built: how many events lie in
// a sliding window, and how long ago the latest one was.
//
// It promises that what an operator says at an instant depends on the multiset of instants alone, never
// on the order in which they came, although it keeps only as many of them as the answer can ever need:
// a count of at least n in a window keeps the last n, a count since ever the first n. Instants that lie
// in the future are kept beside and wait for their time, MaxFuture of them at most for each list. All
// times are milliseconds since the Unix epoch; a window of length W at T is (T-W, T].
//
// TestCountEqualsBruteForce and TestInactiveEqualsBruteForce would catch a break of the promise.
package window

import (
	"math"
	"slices"
)

const (
	// Never is before every instant. Adding a duration to it does not overflow.
	Never = math.MinInt64 / 4
	// Forever is after every instant. Adding a duration to it does not overflow.
	Forever = math.MaxInt64 / 4
	// MaxFuture bounds how many instants later than now a list keeps; the latest are let go first.
	MaxFuture = 256
)

// Verdict is what an operator says at an instant.
type Verdict struct {
	// Holds is the answer.
	Holds bool
	// Since is when the answer began to be so, as far as the kept instants tell; Never if they do not.
	Since int64
	// Next is the earliest later instant at which Holds may change without another event; Forever if none.
	Next int64
}

// Stamps is a multiset of instants in ascending order.
type Stamps []int64

// Upto is the number of instants that are not after t.
func (s Stamps) Upto(t int64) int {
	// Lists are short and t is mostly near the end.
	n := len(s)
	for n > 0 && s[n-1] > t {
		n--
	}
	return n
}

// After is the first instant after t, Forever if there is none.
func (s Stamps) After(t int64) int64 {
	if i := s.Upto(t); i < len(s) {
		return s[i]
	}
	return Forever
}

// insert adds t in its place.
func (s Stamps) insert(t int64) Stamps {
	return slices.Insert(s, s.Upto(t), t)
}

// InsertLatest adds t to a list of which, of the instants up to now, only the latest is of use. It
// reports whether the list changed.
func (s Stamps) InsertLatest(t, now int64) (Stamps, bool) {
	return s.insertLast(t, now, 1)
}

// TrimLatest lets go of all instants up to now but the latest.
func (s Stamps) TrimLatest(now int64) Stamps {
	return s.trimLast(now, 1)
}

// insertLast adds t to a list of which the keep latest up to now are of use, and all after it.
func (s Stamps) insertLast(t, now int64, keep int) (Stamps, bool) {
	past := s.Upto(now)
	if t <= now {
		if past >= keep && t <= s[past-keep] {
			return s, false
		}
		return s.insert(t).trimLast(now, keep), true
	}
	if len(s)-past >= MaxFuture {
		if t >= s[len(s)-1] {
			return s, false
		}
		s = s[:len(s)-1]
	}
	return s.insert(t), true
}

// trimLast lets go of all instants up to now but the keep latest.
func (s Stamps) trimLast(now int64, keep int) Stamps {
	if past := s.Upto(now); past > keep {
		return slices.Delete(s, 0, past-keep)
	}
	return s
}

// Merge adds all of other to s, in order.
func (s Stamps) Merge(other Stamps) Stamps {
	for _, t := range other {
		s = s.insert(t)
	}
	return s
}

// Count is the operator "at least AtLeast and at most AtMost within a sliding window".
type Count struct {
	// AtLeast is the lower bound; 0 for none.
	AtLeast int
	// AtMost is the upper bound; negative for none.
	AtMost int
	// Within is the length of the window in milliseconds; 0 for since ever.
	Within int64
}

// Keep is the number of instants that decide the answer: n >= AtLeast holds exactly if the AtLeast-th
// latest lies in the window, and n <= AtMost exactly if the one after the AtMost-th does not.
func (c Count) Keep() int { return max(c.AtLeast, c.AtMost+1, 1) }

// Insert adds t to the list and reports whether the list changed. now is the time up to which the
// list was evaluated.
func (c Count) Insert(s Stamps, t, now int64) (Stamps, bool) {
	keep := c.Keep()
	if c.Within > 0 {
		if t <= now-c.Within {
			return s, false
		}
		return s.insertLast(t, now, keep)
	}
	if len(s) < keep {
		return s.insert(t), true
	}
	// Since ever only the first ones decide, so a person who has done it often enough costs nothing more.
	if t >= s[keep-1] {
		return s, false
	}
	return s[:keep-1].insert(t), true
}

// Trim lets go of what no answer from now on can need.
func (c Count) Trim(s Stamps, now int64) Stamps {
	if c.Within == 0 {
		return s[:min(len(s), c.Keep())]
	}
	if expired := s.Upto(now - c.Within); expired > 0 {
		s = slices.Delete(s, 0, expired)
	}
	s = s.trimLast(now, c.Keep())
	return s[:min(len(s), s.Upto(now)+MaxFuture)]
}

// At is the verdict at now.
func (c Count) At(s Stamps, now int64) Verdict {
	past := s.Upto(now)
	begin := 0
	if c.Within > 0 {
		begin = s[:past].Upto(now - c.Within)
	}
	n := past - begin
	verdict := Verdict{
		Holds: n >= c.AtLeast && (c.AtMost < 0 || n <= c.AtMost),
		Since: c.since(s[:past], n),
		Next:  Forever,
	}
	if past < len(s) {
		verdict.Next = s[past]
	}
	if c.Within > 0 {
		if c.AtLeast > 0 && n >= c.AtLeast {
			verdict.Next = min(verdict.Next, s[past-c.AtLeast]+c.Within)
		}
		if c.AtMost >= 0 && n > c.AtMost {
			verdict.Next = min(verdict.Next, s[past-c.AtMost-1]+c.Within)
		}
	}
	return verdict
}

// since tells when an answer that an event brought about began: with the event that reached the bound.
func (c Count) since(past Stamps, n int) int64 {
	if n == 0 {
		return Never
	}
	if c.Within > 0 {
		return past[len(past)-1]
	}
	if c.AtMost >= 0 && n > c.AtMost {
		return past[c.AtMost]
	}
	if c.AtLeast > 0 && n >= c.AtLeast {
		return past[c.AtLeast-1]
	}
	return Never
}

// Inactive is the operator "nothing for a time, after at least one".
type Inactive struct {
	// For is how long nothing must have happened, in milliseconds.
	For int64
}

// At is the verdict at now.
func (i Inactive) At(s Stamps, now int64) Verdict {
	past := s.Upto(now)
	next := int64(Forever)
	if past < len(s) {
		next = s[past]
	}
	if past == 0 {
		return Verdict{Since: Never, Next: next}
	}
	last := s[past-1]
	if due := last + i.For; due > now {
		return Verdict{Since: last, Next: min(next, due)}
	}
	return Verdict{Holds: true, Since: last + i.For, Next: next}
}
