package profile

import (
	"slices"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Merge takes src, a profile that ends, into dst, the one that goes on. It is commutative, associative
// and idempotent in everything but the profile's own id: merging the same profile again changes nothing.
// src is left as it is; dst may share its values afterwards.
func Merge(dst, src *profilev1.Profile) {
	if src == nil {
		return
	}
	if dst.GetTenant() == "" {
		dst.Tenant = src.GetTenant()
	}
	addIdentifiers(dst, src.GetIdentifiers())
	joinTraits(dst, src.GetTraits())
	joinConsents(dst, src.GetConsents())
	if src.GetFirstSeenMs() != 0 {
		seen(dst, src.GetFirstSeenMs(), src.GetLastSeenMs())
	}
	if !absorbed(dst, src.GetProfileId()) {
		dst.Events += src.GetEvents()
	}
	absorb(dst, src)
}

func absorbed(p *profilev1.Profile, id string) bool {
	if id == "" {
		return false
	}
	_, found := slices.BinarySearch(p.GetAbsorbed(), id)
	return found || id == p.GetProfileId()
}

// absorb notes src, and whoever it had absorbed itself, as part of dst.
func absorb(dst, src *profilev1.Profile) {
	for _, id := range append([]string{src.GetProfileId()}, src.GetAbsorbed()...) {
		if id == "" || id == dst.GetProfileId() {
			continue
		}
		if at, found := slices.BinarySearch(dst.Absorbed, id); !found {
			dst.Absorbed = slices.Insert(dst.Absorbed, at, id)
		}
	}
}
