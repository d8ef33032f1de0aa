package evaluate

import (
	"fmt"
	"slices"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"
)

// Outcome is what came of a call.
type Outcome struct {
	// Flips are the memberships that changed, in order of time. Valid until the next Begin.
	Flips []Flip
	// Due is when the timer is to be set; Forever if it stays as it is.
	Due int64
	// Dropped is the number of events to come that were let go because too many wait.
	Dropped int
}

// Finish writes what changed and says what came of it.
func (p *Person) Finish() (Outcome, error) {
	outcome := Outcome{Flips: p.flips, Due: window.Forever, Dropped: p.dropped}
	if p.ledger.err != nil {
		return outcome, p.ledger.err
	}
	if !p.dirty {
		return outcome, nil
	}
	// A timer that is set too early costs one idle firing; setting it anew with every event would cost a
	// write each time.
	if p.next < p.armed {
		p.armed, outcome.Due = p.next, p.next
	}
	blank := true
	for _, i := range p.due {
		p.program.Leaves[i].Trim(&p.work[i].data, p.asOf)
	}
	for i := range p.program.Leaves {
		blank = blank && !p.remembers(i)
	}
	if err := p.writeFacts(&blank); err != nil {
		return outcome, err
	}
	if p.ledger.dirty {
		p.encoded = encodeMembers(p.encoded[:0], p.ledger.entries)
		p.store.Put(entryMembers, p.encoded)
	}
	blank = p.blank(blank)
	if p.ledger.err != nil {
		return outcome, p.ledger.err
	}
	if blank {
		// What was told stays: a late event must not make a flip from before the last one.
		p.store.Delete(entryAnswers)
		return outcome, nil
	}
	p.encoded = p.encodeAnswers(p.encoded[:0])
	p.store.Put(entryAnswers, p.encoded)
	return outcome, nil
}

// writeFacts writes the facts if they changed, and clears blank if there are any.
func (p *Person) writeFacts(blank *bool) error {
	if !p.facts.loaded {
		if *blank {
			// Facts that were not looked at may be there still.
			_, ok := p.store.Get(entryFacts)
			*blank = !ok
		}
		return nil
	}
	some := len(p.facts.profile.GetTraits()) > 0 || len(p.facts.profile.GetConsents()) > 0 || len(p.facts.pending) > 0
	*blank = *blank && !some
	if !p.facts.dirty {
		return nil
	}
	if !some {
		p.store.Delete(entryFacts)
		return nil
	}
	encoded, err := p.facts.encode()
	if err != nil {
		return fmt.Errorf("writing state: %w", err)
	}
	p.store.Put(entryFacts, encoded)
	return nil
}

// blank reports whether the answers are those of a profile of which nothing is known.
func (p *Person) blank(leaves bool) bool {
	if !leaves || p.first > p.asOf || p.ending {
		return false
	}
	if slices.Contains(p.members, true) {
		return false
	}
	return !slices.ContainsFunc(p.told().entries, func(m membership) bool { return m.in })
}
