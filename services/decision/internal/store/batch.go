package store

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Batch gathers changes; it is a view.State. It is not safe for use by several goroutines.
type Batch struct {
	store       *Store
	profiles    map[string]*decisionv1.ServingProfile
	changed     map[string]bool
	identifiers map[string]*decisionv1.IdentifierEntry
	offsets     map[string]int64
}

// NewBatch begins a batch.
func (s *Store) NewBatch() *Batch {
	return &Batch{
		store: s, profiles: map[string]*decisionv1.ServingProfile{}, changed: map[string]bool{},
		identifiers: map[string]*decisionv1.IdentifierEntry{}, offsets: map[string]int64{},
	}
}

// Profile is the entry of a profile as the batch has it.
func (b *Batch) Profile(tenant, id string) (*decisionv1.ServingProfile, error) {
	key := string(profileKey(tenant, id))
	if p := b.profiles[key]; p != nil {
		return p, nil
	}
	p, _, err := b.store.Get(tenant, id)
	if err != nil {
		return nil, err
	}
	if p.Profile == nil {
		p.Profile = &profilev1.Profile{Tenant: tenant, ProfileId: id}
	}
	b.profiles[key] = p
	return p, nil
}

// Changed marks an entry to be written.
func (b *Batch) Changed(tenant, id string, p *decisionv1.ServingProfile) {
	key := string(profileKey(tenant, id))
	b.profiles[key], b.changed[key] = p, true
}

// Identify sets whose an identifier is, unless a later event said otherwise; of two at the same time the
// profile whose id sorts last, so that the order of reading does not matter.
func (b *Batch) Identify(tenant string, id *eventv1.Identifier, entry *decisionv1.IdentifierEntry) error {
	before, err := b.Owner(tenant, id)
	if err != nil {
		return err
	}
	if before == nil || entry.GetAtMs() > before.GetAtMs() || entry.GetAtMs() == before.GetAtMs() && entry.GetProfileId() > before.GetProfileId() {
		b.identifiers[string(identifierKey(tenant, id))] = entry
	}
	return nil
}

// Owner is whose an identifier is as the batch has it; nil if nobody's.
func (b *Batch) Owner(tenant string, id *eventv1.Identifier) (*decisionv1.IdentifierEntry, error) {
	if entry := b.identifiers[string(identifierKey(tenant, id))]; entry != nil {
		return entry, nil
	}
	entry, found, err := b.store.Lookup(tenant, id)
	if err != nil || !found {
		return nil, err
	}
	return entry, nil
}

// Read notes that a partition has been read up to but not including an offset.
func (b *Batch) Read(topic string, partition int32, next int64) {
	b.offsets[string(offsetKey(topic, partition))] = next
}

// Commit writes all or nothing.
func (b *Batch) Commit() error {
	batch := b.store.db.NewBatch()
	defer batch.Close() //nolint:errcheck // only releases memory
	for key := range b.changed {
		if err := set(batch, key, b.profiles[key].MarshalVT); err != nil {
			return err
		}
	}
	for key, entry := range b.identifiers {
		if err := set(batch, key, entry.MarshalVT); err != nil {
			return err
		}
	}
	for key, next := range b.offsets {
		encode := func() ([]byte, error) { return binary.BigEndian.AppendUint64(nil, uint64(next)), nil }
		if err := set(batch, key, encode); err != nil {
			return err
		}
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("writing the serving copy: %w", err)
	}
	return nil
}

func set(batch *pebble.Batch, key string, encode func() ([]byte, error)) error {
	value, err := encode()
	if err != nil {
		return fmt.Errorf("encoding an entry of the serving copy: %w", err)
	}
	if err := batch.Set([]byte(key), value, nil); err != nil {
		return fmt.Errorf("writing the serving copy: %w", err)
	}
	return nil
}
