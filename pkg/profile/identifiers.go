package profile

import (
	"cmp"
	"slices"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// addIdentifiers inserts identifiers at their sorted place; those already there change nothing.
func addIdentifiers(p *profilev1.Profile, added []*eventv1.Identifier) {
	for _, id := range added {
		at, found := slices.BinarySearchFunc(p.Identifiers, id, compareIdentifiers)
		if !found {
			p.Identifiers = slices.Insert(p.Identifiers, at, id)
		}
	}
	if len(p.Identifiers) > MaxIdentifiers {
		p.Identifiers = slices.Delete(p.Identifiers, MaxIdentifiers, len(p.Identifiers))
	}
}

func compareIdentifiers(a, b *eventv1.Identifier) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetValue(), b.GetValue()))
}
