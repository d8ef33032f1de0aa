// Package pressure keeps count of the contacts that a person has had, over all journeys and channels,
// and says when a cap stands in the way of one more.
//
// It promises: with the sends of a person added in the order of their decisions, no window (t-within, t]
// of a cap ever holds more than its max of matching sends, whichever way the policy's other caps
// changed in between; the ledger is bounded; merging two ledgers is a union that counts no send twice.
// A cap whose max is 0 lets nothing pass; a policy without caps lets everything pass. The counts are of
// sends remembered: a cap that is made longer or larger counts what was kept until then, which is
// everything that the caps of the time could count and the latest [Baseline] sends of [BaselineAge].
//
// TestNeverExceeded compares random histories with a count over every send ever made.
package pressure

import (
	"cmp"
	"slices"
	"time"

	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
)

// Bounds of a ledger.
const (
	// Baseline is how many sends are remembered whether a cap needs them or not, so that a cap defined
	// later finds them.
	Baseline = 64
	// BaselineAge is for how long.
	BaselineAge = 35 * 24 * time.Hour
	// MaxEntries bounds a ledger. One that is full of sends that caps still count refuses all further
	// ones with the reason ReasonFull, so that no cap is broken by forgetting.
	MaxEntries = 4096
)

// ReasonFull is the answer of Check when the ledger cannot remember one more send.
const ReasonFull = "cap:ledger_full"

// Cap allows at most Max sends within any window of the length Within.
type Cap struct {
	// Name names the cap in reasons.
	Name string
	// Channel counts only this channel; empty: all.
	Channel string
	// Category counts only this category; empty: all.
	Category string
	// Max is the number of sends allowed; 0 means never.
	Max int
	// Within is the length of the rolling window; it is open at its old end.
	Within time.Duration
}

func (c *Cap) counts(channel, category string) bool {
	return (c.Channel == "" || c.Channel == channel) && (c.Category == "" || c.Category == category)
}

// Check says which cap stands in the way of one more send on the channel in the category at now:
// `cap:<name>` of the first such cap, or "" if none does. Sends noted after now count as well: they were
// decided on another node's clock before this one.
func Check(caps []Cap, ledger *journeyv1.PressureLedger, channel, category string, now time.Time) string {
	entries := ledger.GetEntries()
	for i := range caps {
		c := &caps[i]
		if !c.counts(channel, category) {
			continue
		}
		since, count := now.Add(-c.Within).UnixMilli(), 0
		for j := len(entries) - 1; j >= 0 && entries[j].GetAtMs() > since && count < c.Max; j-- {
			if c.counts(entries[j].GetChannel(), entries[j].GetCategory()) {
				count++
			}
		}
		if count >= c.Max {
			return "cap:" + c.Name
		}
	}
	if len(entries) >= MaxEntries && len(needed(caps, entries, now)) >= MaxEntries {
		return ReasonFull
	}
	return ""
}

// Add notes a send and forgets what no cap needs any more.
func Add(caps []Cap, ledger *journeyv1.PressureLedger, entry *journeyv1.PressureEntry, now time.Time) {
	at, _ := slices.BinarySearchFunc(ledger.Entries, entry, compare)
	ledger.Entries = slices.Insert(ledger.Entries, at, entry)
	ledger.Entries = needed(caps, ledger.Entries, now)
	if over := len(ledger.Entries) - MaxEntries; over > 0 {
		ledger.Entries = ledger.Entries[over:]
	}
}

// Merge is the union of two ledgers, without what no cap needs any more.
func Merge(caps []Cap, dst, src *journeyv1.PressureLedger, now time.Time) {
	all := slices.Concat(dst.GetEntries(), src.GetEntries())
	slices.SortFunc(all, compare)
	all = slices.CompactFunc(all, func(a, b *journeyv1.PressureEntry) bool { return compare(a, b) == 0 })
	dst.Entries = needed(caps, all, now)
	if over := len(dst.Entries) - MaxEntries; over > 0 {
		dst.Entries = dst.Entries[over:]
	}
}

func compare(a, b *journeyv1.PressureEntry) int {
	return cmp.Or(cmp.Compare(a.GetAtMs(), b.GetAtMs()), cmp.Compare(a.GetSend(), b.GetSend()))
}

// needed keeps the entries that a cap can count now or later: for each cap the latest Max of its own
// within its window, and the baseline. What a cap has counted out once it never counts again, since
// windows only move on.
func needed(caps []Cap, entries []*journeyv1.PressureEntry, now time.Time) []*journeyv1.PressureEntry {
	left := make([]int, len(caps))
	for i := range caps {
		left[i] = caps[i].Max
	}
	kept := make([]*journeyv1.PressureEntry, 0, len(entries))
	for j, e := range slices.Backward(entries) {
		keep := len(entries)-j <= Baseline && e.GetAtMs() > now.Add(-BaselineAge).UnixMilli()
		for i := range caps {
			c := &caps[i]
			if left[i] > 0 && e.GetAtMs() > now.Add(-c.Within).UnixMilli() && c.counts(e.GetChannel(), e.GetCategory()) {
				left[i]--
				keep = true
			}
		}
		if keep {
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}
