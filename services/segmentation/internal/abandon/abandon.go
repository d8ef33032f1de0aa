// Package abandon holds the operator "A, then no B within a time": a form begun and left, a basket filled
// and not paid.
//
// It promises that the answer at an instant depends only on the latest start and the latest finish up to
// that instant, whatever the order in which they came. A finish at the very millisecond of the start ends
// it. Times are milliseconds since the Unix epoch. TestRuleEqualsBruteForce would catch a break.
package abandon

import (
	"slices"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"
)

// Rule says when a start counts as abandoned.
type Rule struct {
	// Within is how long after the latest start the person counts as having abandoned, in milliseconds.
	Within int64
	// Lasts is how long it then holds, in milliseconds; 0 for until finished or started anew.
	Lasts int64
}

// At is the verdict at now over the instants of starts and of finishes.
func (r Rule) At(started, finished window.Stamps, now int64) window.Verdict {
	next := min(started.After(now), finished.After(now))
	past := started.Upto(now)
	if past == 0 {
		return window.Verdict{Since: window.Never, Next: next}
	}
	start := started[past-1]
	if done := finished.Upto(now); done > 0 && finished[done-1] >= start {
		return window.Verdict{Since: finished[done-1], Next: next}
	}
	begins, ends := start+r.Within, r.ends(start)
	switch {
	case now < begins:
		return window.Verdict{Since: start, Next: min(next, begins)}
	case now < ends:
		return window.Verdict{Holds: true, Since: begins, Next: min(next, ends)}
	default:
		return window.Verdict{Since: ends, Next: next}
	}
}

// Trim lets go of what no answer from now on can need.
func (r Rule) Trim(started, finished window.Stamps, now int64) (window.Stamps, window.Stamps) {
	started, finished = started.TrimLatest(now), finished.TrimLatest(now)
	if r.Lasts == 0 {
		return started, finished
	}
	// A start that has had its time, and every one before it, never counts again; a finish only ever
	// ends starts that came no later.
	if len(started) > 0 && r.ends(started[0]) <= now {
		started = slices.Delete(started, 0, 1)
	}
	if len(finished) > 0 && r.ends(finished[0]) <= now {
		finished = slices.Delete(finished, 0, 1)
	}
	return started, finished
}

func (r Rule) ends(start int64) int64 {
	if r.Lasts == 0 {
		return window.Forever
	}
	return start + r.Within + r.Lasts
}
