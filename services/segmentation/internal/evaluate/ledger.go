package evaluate

import (
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"
)

// ledger is what was told about a profile's memberships, by segment. It is read when something flips.
type ledger struct {
	loaded, dirty bool
	err           error
	entries       []membership // in order of name
}

type membership struct {
	segment string
	version int64
	at      int64 // of the last flip
	in      bool
}

// told opens the ledger.
func (p *Person) told() *ledger {
	if !p.ledger.loaded {
		p.ledger.loaded = true
		if raw, ok := p.store.Get(entryMembers); ok {
			p.ledger.entries, p.ledger.err = decodeMembers(raw)
			p.ledger.entries = slices.DeleteFunc(p.ledger.entries, func(m membership) bool {
				return !m.in && !p.program.Knows(m.segment)
			})
		}
	}
	return &p.ledger
}

// entry is the entry of a segment, made if it is not there, to be changed by the caller.
func (l *ledger) entry(segment string) *membership {
	l.dirty = true
	at, found := l.find(segment)
	if !found {
		l.entries = slices.Insert(l.entries, at, membership{segment: segment, at: window.Never})
	}
	return &l.entries[at]
}

func (l *ledger) holds(segment string) bool {
	at, found := l.find(segment)
	return found && l.entries[at].in
}

func (l *ledger) find(segment string) (int, bool) {
	return slices.BinarySearchFunc(l.entries, segment, func(m membership, name string) int {
		return strings.Compare(m.segment, name)
	})
}

// leaveDeleted leaves every segment that is defined no more.
func (p *Person) leaveDeleted(cause Cause) {
	kept := p.told().entries[:0]
	for _, entry := range p.ledger.entries {
		if p.program.Knows(entry.segment) {
			kept = append(kept, entry)
			continue
		}
		p.ledger.dirty = true
		if entry.in {
			p.flips = append(p.flips, Flip{
				Segment: entry.segment, Version: entry.version, AtMs: max(p.asOf, entry.at), Cause: cause,
			})
		}
	}
	p.ledger.entries = kept
}

// leaveAll leaves every segment: the profile ends.
func (p *Person) leaveAll(at int64, cause Cause) {
	for i := range p.told().entries {
		entry := &p.ledger.entries[i]
		if !entry.in {
			continue
		}
		entry.in, entry.at = false, min(max(at, entry.at), p.asOf)
		p.ledger.dirty = true
		p.flips = append(p.flips, Flip{Segment: entry.segment, Version: entry.version, AtMs: entry.at, Cause: cause})
	}
	clear(p.members)
}
