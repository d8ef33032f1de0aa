// Package person is the state that the orchestrator keeps of one person: the folded profile, the
// passages under way, what is remembered of past ones, the pressure ledger, memberships, scores, merges,
// and the frozen definitions that the passages follow.
//
// Each part is an entry of its own, read and decoded when it is first asked for and written back by Save
// only if it was changed, so that an event which moves nothing reads little and writes nothing. Every
// part is bounded by the Max constants. An entry that cannot be decoded is an error of Err and Save.
//
// TestLazyAndExact checks that what is saved comes back and that nothing else is written.
package person

import (
	"fmt"

	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Bounds of a person's state.
const (
	// MaxRunning is how many passages one person may have under way.
	MaxRunning = 24
	// MaxTrigger is the largest trigger kept, in bytes: the largest live event of a source by default.
	MaxTrigger = 32 << 10
	// MaxHistories is how many journeys are remembered after they ended.
	MaxHistories = 512
	// MaxMemberships and MaxScores bound what is kept of segments and scores.
	MaxMemberships = 2048
	MaxScores      = 512
	// MaxMerges is how many merges are remembered, MaxPostponed how many flips wait for one.
	MaxMerges    = 32
	MaxPostponed = 64
)

// Reader reads entries of a key. The bytes are valid during the call that gives them.
type Reader interface {
	Get(name string) ([]byte, bool)
}

// Store reads and writes entries of a key.
type Store interface {
	Reader
	Put(name string, value []byte)
	Delete(name string)
}

// Names of the entries.
const (
	nameProfile  = "p"
	nameRunning  = "r"
	nameHistory  = "h"
	nameLedger   = "l"
	nameSegments = "s"
	nameScores   = "c"
	nameMerges   = "m"
	// prefixFrozen precedes the hash of a frozen definition.
	prefixFrozen = "d/"
)

// message is a part's encoding.
type message interface {
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
	SizeVT() int
}

type part struct {
	message message
	changed bool
}

// Person is the state of one person, valid during one call of the processor.
type Person struct {
	// Tenant and ID name the person; ID is the profile's.
	Tenant, ID string

	read  Reader
	write Store
	parts map[string]*part
	err   error
}

// Open gives the state behind a store.
func Open(tenant, id string, store Store) *Person {
	return &Person{Tenant: tenant, ID: id, read: store, write: store}
}

// OpenEnded gives the state of a profile that was merged away; it can be changed but not saved.
func OpenEnded(tenant, id string, source Reader) *Person {
	return &Person{Tenant: tenant, ID: id, read: source}
}

// Err is the first entry that could not be decoded.
func (p *Person) Err() error { return p.err }

// Save writes back what was changed. A part that became empty is deleted.
func (p *Person) Save() error {
	if p.err != nil {
		return p.err
	}
	for name, part := range p.parts {
		if !part.changed {
			continue
		}
		if part.message.SizeVT() == 0 {
			p.write.Delete(name)
			continue
		}
		value, err := part.message.MarshalVT()
		if err != nil {
			return fmt.Errorf("encoding state %q: %w", name, err)
		}
		p.write.Put(name, value)
	}
	return nil
}

// load gives a part, decoded at its first use.
func load[M message](p *Person, name string, fresh func() M) M {
	if known, ok := p.parts[name]; ok {
		return known.message.(M) //nolint:errcheck // a name has one accessor, and so one type
	}
	m := fresh()
	if value, ok := p.read.Get(name); ok {
		if err := m.UnmarshalVT(value); err != nil && p.err == nil {
			p.err = fmt.Errorf("decoding state %q: %w", name, err)
		}
	}
	if p.parts == nil {
		p.parts = make(map[string]*part, 4)
	}
	p.parts[name] = &part{message: m}
	return m
}

// touch notes that a part, loaded before, was changed.
func (p *Person) touch(name string) { p.parts[name].changed = true }

// Profile is what is known of the person.
func (p *Person) Profile() *profilev1.Profile {
	return load(p, nameProfile, func() *profilev1.Profile {
		return &profilev1.Profile{Tenant: p.Tenant, ProfileId: p.ID}
	})
}

// ProfileChanged notes that Profile was changed.
func (p *Person) ProfileChanged() { p.touch(nameProfile) }

// Ledger is the sends that count for pressure.
func (p *Person) Ledger() *journeyv1.PressureLedger {
	return load(p, nameLedger, func() *journeyv1.PressureLedger { return &journeyv1.PressureLedger{} })
}

// LedgerChanged notes that Ledger was changed.
func (p *Person) LedgerChanged() { p.touch(nameLedger) }
