package evaluate

import (
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// Leave ends the profile in hand: it leaves all its segments because of the merge, and notes the merge
// for the profile that absorbs it.
func (p *Person) Leave(merge Merge) error {
	if !p.stored {
		return nil
	}
	p.advance(window.Never, Cause{})
	p.leaveAll(merge.AtMs, Cause{Kind: segmentv1.Cause_CAUSE_MERGE, ID: merge.ID})
	p.dirty, p.ending = true, true
	p.store.Put(entryMerge, encodeMerge(merge))
	if p.facts.err != nil {
		return p.facts.err
	}
	return p.ledger.err
}

// Absorb takes the state of a profile that ended into the one in hand, as if the events of both had
// always been one person's.
func (p *Person) Absorb(src Reader) error {
	raw, ok := src.Get(entryAnswers)
	if !ok {
		return nil
	}
	if p.stored {
		p.advance(window.Never, Cause{})
	}
	other := &Person{}
	other.reset(p.program, noStore{src})
	if _, err := other.decodeAnswers(raw); err != nil {
		return fmt.Errorf("decoding the state of the absorbed profile: %w", err)
	}
	merge, err := readMerge(src)
	if err != nil {
		return err
	}
	p.dirty, p.whole = true, true
	p.now = max(p.now, other.asOf)
	p.asOf = p.now
	p.first = min(p.first, other.first)
	if err := p.absorbFacts(other); err != nil {
		return err
	}
	p.absorbLeaves(other)
	cause := Cause{Kind: segmentv1.Cause_CAUSE_MERGE, ID: merge.ID}
	p.settleAt(min(merge.AtMs, p.asOf), cause)
	p.advance(window.Never, Cause{})
	return p.ledger.err
}

func (p *Person) absorbLeaves(other *Person) {
	for _, i := range other.active {
		work := p.activate(i)
		p.program.Leaves[i].Join(&work.data, &other.work[i].data, p.asOf)
	}
	for _, i := range p.active {
		verdict := p.program.Leaves[i].At(&p.work[i].data, p.asOf)
		if verdict.Holds != p.answers[i].Holds {
			p.answers[i] = condition.Answer{Holds: verdict.Holds, Since: p.asOf}
		}
	}
}

func (p *Person) absorbFacts(other *Person) error {
	if len(p.program.Wheres) == 0 {
		return nil
	}
	if err := other.openFacts(); err != nil {
		return err
	}
	if err := p.openFacts(); err != nil {
		return err
	}
	profile.Merge(p.facts.profile, other.facts.profile)
	p.facts.dirty = true
	for _, ev := range other.facts.pending {
		p.wait(ev)
	}
	p.foldDue(p.asOf)
	p.judgeFacts(p.asOf)
	return nil
}

func readMerge(src Reader) (Merge, error) {
	raw, ok := src.Get(entryMerge)
	if !ok {
		return Merge{AtMs: window.Forever}, nil
	}
	merge, err := decodeMerge(raw)
	if err != nil {
		return Merge{}, fmt.Errorf("decoding the note of a merge: %w", err)
	}
	return merge, nil
}

// noStore is a store that only reads.
type noStore struct{ Reader }

func (noStore) Put(string, []byte) {}
func (noStore) Delete(string)      {}
