// Package store is decision's serving copy on the local disk: profiles, identifiers, and how far each
// topic has been read, in Pebble. What a batch changes and how far it read are written together, so that
// a crash neither loses nor repeats a record; nothing is synced, as Kafka has it all.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Store is an open serving copy.
type Store struct{ db *pebble.DB }

// Open opens or makes the serving copy in dir, with a cache of so many bytes.
func Open(dir string, cacheBytes int64) (*Store, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		Cache: cache, MemTableSize: 8 << 20, Logger: silent{}, FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the serving copy in %s: %w (delete the folder: it is made again from Kafka)", dir, err)
	}
	return &Store{db: db}, nil
}

// Close closes the serving copy.
func (s *Store) Close() error { return s.db.Close() }

// Get is the entry of a profile.
func (s *Store) Get(tenant, id string) (*decisionv1.ServingProfile, bool, error) {
	var p decisionv1.ServingProfile
	found, err := s.read(profileKey(tenant, id), &p)
	return &p, found, err
}

// Lookup is whose an identifier is.
func (s *Store) Lookup(tenant string, id *eventv1.Identifier) (*decisionv1.IdentifierEntry, bool, error) {
	var e decisionv1.IdentifierEntry
	found, err := s.read(identifierKey(tenant, id), &e)
	return &e, found, err
}

// Offset is how far a partition has been read; 0 if it never was.
func (s *Store) Offset(topic string, partition int32) (int64, error) {
	value, closer, err := s.db.Get(offsetKey(topic, partition))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the serving copy: %w", err)
	}
	defer closer.Close() //nolint:errcheck // only releases memory
	if len(value) != 8 {
		return 0, fmt.Errorf("reading the serving copy: the offset of %s has %d bytes", topic, len(value))
	}
	return int64(binary.BigEndian.Uint64(value)), nil
}

type message interface{ UnmarshalVT(raw []byte) error }

func (s *Store) read(key []byte, into message) (bool, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the serving copy: %w", err)
	}
	defer closer.Close() //nolint:errcheck // only releases memory
	if err := into.UnmarshalVT(value); err != nil {
		return false, fmt.Errorf("decoding an entry of the serving copy: %w", err)
	}
	return true, nil
}

// Keys: a kind, the tenant, and what names the entry within it. A tenant's name holds no slash; a namespace
// comes after its length, so that no namespace and value read like another pair.

func profileKey(tenant, id string) []byte { return []byte("p/" + tenant + "/" + id) }

func identifierKey(tenant string, id *eventv1.Identifier) []byte {
	key := binary.AppendUvarint([]byte("i/"+tenant+"/"), uint64(len(id.GetNamespace())))
	return append(append(key, id.GetNamespace()...), id.GetValue()...)
}

func offsetKey(topic string, partition int32) []byte {
	return binary.BigEndian.AppendUint32([]byte("o/"+topic+"/"), uint32(partition))
}

// silent drops Pebble's own log: what matters comes back as errors.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("serving copy: "+format, args...))
}
