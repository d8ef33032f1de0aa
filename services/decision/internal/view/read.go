package view

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sillage-cdp/sillage/pkg/profile"
	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// maxChain bounds how many merges a read follows.
const maxChain = 1000

// Reader reads entries; found is false if there is none. An entry that it returns belongs to the caller.
type Reader interface {
	Get(tenant, id string) (p *decisionv1.ServingProfile, found bool, err error)
}

// Read puts a profile together: the survivor of its merges, with everything that was merged into it.
// found is false if nothing is known of it.
func Read(r Reader, tenant, id string) (resp *decisionv1.GetProfileResponse, found bool, err error) {
	p, found, err := survivor(r, tenant, id)
	if err != nil || !found {
		return nil, false, err
	}
	whole := p.GetProfile()
	if err := gather(r, tenant, whole, p.GetMergedFrom()); err != nil {
		return nil, false, err
	}
	return response(whole, p), true, nil
}

// survivor follows merges to their end. A survivor of which nothing has been read yet is stood in for by
// what was merged into it.
func survivor(r Reader, tenant, id string) (last *decisionv1.ServingProfile, found bool, err error) {
	for range maxChain {
		p, there, err := r.Get(tenant, id)
		if err != nil {
			return nil, false, err
		}
		if !there {
			return last, found, nil
		}
		if p.GetProfile().GetMergedInto() == "" {
			return p, true, nil
		}
		last, found, id = p, true, p.GetProfile().GetMergedInto()
	}
	return nil, false, fmt.Errorf("more than %d merges lead on from the profile", maxChain)
}

// gather merges the profiles named, and those merged into them, into whole.
func gather(r Reader, tenant string, whole *profilev1.Profile, from []string) error {
	seen := map[string]bool{whole.GetProfileId(): true}
	for todo := slices.Clone(from); len(todo) > 0 && len(seen) < maxChain; {
		id := todo[0]
		todo = todo[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		p, found, err := r.Get(tenant, id)
		if err != nil {
			return err
		}
		if !found {
			continue // announced, and nothing of it read yet
		}
		profile.Merge(whole, p.GetProfile())
		todo = append(todo, p.GetMergedFrom()...)
	}
	return nil
}

func response(whole *profilev1.Profile, p *decisionv1.ServingProfile) *decisionv1.GetProfileResponse {
	resp := &decisionv1.GetProfileResponse{
		Tenant: whole.GetTenant(), ProfileId: whole.GetProfileId(), Identifiers: whole.GetIdentifiers(), Traits: profile.TraitsJSON(whole),
		Consents: map[string]bool{}, FirstSeenMs: whole.GetFirstSeenMs(), LastSeenMs: whole.GetLastSeenMs(),
		Events: whole.GetEvents(), Absorbed: whole.GetAbsorbed(),
	}
	for purpose, c := range whole.GetConsents() {
		resp.Consents[purpose] = c.GetGranted()
	}
	resp.Memberships = byName(p.GetMemberships())
	resp.Scores = byName(p.GetScores())
	resp.Journeys = byName(p.GetJourneys())
	return resp
}

func byName[V any](m map[string]V) []V {
	var values []V
	for _, name := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[name])
	}
	return values
}
