package topology

import (
	"github.com/sillage-cdp/sillage/pkg/definition"

	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

// policies compiles the identity policy of each tenant once per revision of the definitions. A tenant
// without a definition has the default policy. It belongs to one processor: no locks.
type policies struct {
	provider definition.Provider
	revision uint64
	filled   bool
	byTenant map[string]*policy.Policy
}

func newPolicies(provider definition.Provider) *policies {
	return &policies{provider: provider, byTenant: make(map[string]*policy.Policy)}
}

// maxCompiled bounds the tenants kept; a key may name a tenant that nobody defined.
const maxCompiled = 10_000

// For returns the present policy of a tenant.
func (p *policies) For(tenant string) *policy.Policy {
	snapshot := p.provider.Snapshot()
	if revision := snapshot.Revision(); !p.filled || revision != p.revision || len(p.byTenant) >= maxCompiled {
		p.revision, p.filled = revision, true
		clear(p.byTenant)
	}
	if compiled, ok := p.byTenant[tenant]; ok {
		return compiled
	}
	compiled := policy.Compile(snapshot.Tenant(tenant).GetTenantSpec().GetIdentity())
	p.byTenant[tenant] = compiled
	return compiled
}
