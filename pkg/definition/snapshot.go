package definition

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"google.golang.org/protobuf/proto"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Provider gives the definitions that hold now. Snapshot is cheap, safe for concurrent use and never
// nil; two calls may return different snapshots.
type Provider interface {
	Snapshot() *Snapshot
}

// Static is a Provider that always gives the same snapshot.
func Static(snapshot *Snapshot) Provider { return static{snapshot: snapshot} }

type static struct{ snapshot *Snapshot }

func (s static) Snapshot() *Snapshot { return s.snapshot }

// Snapshot is an immutable set of definitions with its indexes. It is safe for concurrent use; the
// definitions that it hands out, and the slices, must not be changed. A nil *Snapshot is empty.
type Snapshot struct {
	revision uint64
	all      []*definitionv1.Definition
	byID     map[ID]*definitionv1.Definition
	byKind   map[tenantKind][]*definitionv1.Definition
	tenants  []string
	byKey    map[[sha256.Size]byte]*definitionv1.Definition
}

type tenantKind struct{ tenant, kind string }

// NewSnapshot indexes defs, which must not be changed afterwards. Of two with the same tenant, kind and
// name the later one in the list counts; one without a spec is left out.
func NewSnapshot(defs ...*definitionv1.Definition) *Snapshot {
	s := &Snapshot{
		byID:   make(map[ID]*definitionv1.Definition, len(defs)),
		byKind: make(map[tenantKind][]*definitionv1.Definition),
		byKey:  make(map[[sha256.Size]byte]*definitionv1.Definition),
	}
	for _, def := range defs {
		if Kind(def) != "" {
			s.byID[IDOf(def)] = def
		}
	}
	s.all = make([]*definitionv1.Definition, 0, len(s.byID))
	for _, def := range s.byID {
		s.all = append(s.all, def)
	}
	slices.SortFunc(s.all, compareDefinitions)
	for _, def := range s.all {
		s.index(def)
	}
	s.revision = revisionOf(s.all)
	return s
}

func (s *Snapshot) index(def *definitionv1.Definition) {
	id := IDOf(def)
	key := tenantKind{id.Tenant, id.Kind}
	s.byKind[key] = append(s.byKind[key], def)
	if id.Kind == KindTenant {
		s.tenants = append(s.tenants, id.Name)
	}
	for _, text := range def.GetSource().GetWriteKeySha256() {
		var sum [sha256.Size]byte
		if n, err := hex.Decode(sum[:], []byte(text)); err == nil && n == len(sum) && len(text) == 2*n {
			s.byKey[sum] = def
		}
	}
	for _, plain := range def.GetSource().GetWriteKeys() {
		s.byKey[sha256.Sum256([]byte(plain))] = def
	}
}

func compareDefinitions(a, b *definitionv1.Definition) int {
	return cmp.Or(
		cmp.Compare(a.GetTenant(), b.GetTenant()),
		cmp.Compare(Kind(a), Kind(b)),
		cmp.Compare(a.GetName(), b.GetName()),
	)
}

// revisionOf is a digest of the content in sorted order, so that equal sets have equal revisions in
// every process.
func revisionOf(sorted []*definitionv1.Definition) uint64 {
	digest := sha256.New()
	var buf []byte
	for _, def := range sorted {
		// A generated message without required fields cannot fail to marshal; a nil result would only
		// leave this definition out of the digest.
		buf, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(buf[:0], def)
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(buf)))
		digest.Write(size[:])
		digest.Write(buf)
	}
	return binary.BigEndian.Uint64(digest.Sum(nil))
}

// Revision differs whenever the content differs, and is the same for the same content in every process of
// one build.
func (s *Snapshot) Revision() uint64 {
	if s == nil {
		return 0
	}
	return s.revision
}

// All is every definition, sorted by tenant, kind and name.
func (s *Snapshot) All() []*definitionv1.Definition {
	if s == nil {
		return nil
	}
	return s.all
}

// Get is the definition with this ID, nil if there is none.
func (s *Snapshot) Get(id ID) *definitionv1.Definition {
	if s == nil {
		return nil
	}
	return s.byID[id]
}

// List is every definition of a tenant and kind, sorted by name.
func (s *Snapshot) List(tenant, kind string) []*definitionv1.Definition {
	if s == nil {
		return nil
	}
	return s.byKind[tenantKind{tenant, kind}]
}

// Tenants is the name of every tenant that is defined, sorted.
func (s *Snapshot) Tenants() []string {
	if s == nil {
		return nil
	}
	return s.tenants
}

// Tenant is the definition of a tenant, nil if there is none.
func (s *Snapshot) Tenant(name string) *definitionv1.Definition {
	return s.Get(ID{Tenant: name, Kind: KindTenant, Name: name})
}

// Source is a source by name, nil if there is none.
func (s *Snapshot) Source(tenant, name string) *definitionv1.Definition {
	return s.Get(ID{tenant, KindSource, name})
}

// Segment is a segment by name, nil if there is none.
func (s *Snapshot) Segment(tenant, name string) *definitionv1.Definition {
	return s.Get(ID{tenant, KindSegment, name})
}

// Score is a score by name, nil if there is none.
func (s *Snapshot) Score(tenant, name string) *definitionv1.Definition {
	return s.Get(ID{tenant, KindScore, name})
}

// Journey is a journey by name, nil if there is none.
func (s *Snapshot) Journey(tenant, name string) *definitionv1.Definition {
	return s.Get(ID{tenant, KindJourney, name})
}

// Channel is a channel by name, nil if there is none.
func (s *Snapshot) Channel(tenant, name string) *definitionv1.Definition {
	return s.Get(ID{tenant, KindChannel, name})
}

// Template is a template by name, nil if there is none.
func (s *Snapshot) Template(tenant, name string) *definitionv1.Definition {
	return s.Get(ID{tenant, KindTemplate, name})
}

// Segments is every segment of a tenant, sorted by name.
func (s *Snapshot) Segments(tenant string) []*definitionv1.Definition {
	return s.List(tenant, KindSegment)
}

// Scores is every score of a tenant, sorted by name.
func (s *Snapshot) Scores(tenant string) []*definitionv1.Definition {
	return s.List(tenant, KindScore)
}

// Plan is the tracking plan of a source, nil if there is none. Of several, which Validate refuses, it is the
// first by name.
func (s *Snapshot) Plan(tenant, source string) *definitionv1.Definition {
	for _, def := range s.List(tenant, KindPlan) {
		if def.GetTrackingPlan().GetSource() == source {
			return def
		}
	}
	return nil
}

// Journeys is every journey of a tenant, sorted by name.
func (s *Snapshot) Journeys(tenant string) []*definitionv1.Definition {
	return s.List(tenant, KindJourney)
}

// SourceByWriteKey is the source to which a write key belongs, disabled ones included. The key is looked
// up by its SHA-256, so the time that the answer takes says nothing about the keys that exist.
func (s *Snapshot) SourceByWriteKey(key string) (*definitionv1.Definition, bool) {
	if s == nil || key == "" {
		return nil, false
	}
	def, ok := s.byKey[sha256.Sum256([]byte(key))]
	return def, ok
}
