// Package catalog compiles the definitions that are in force into what the engine reads, once for each
// revision, and remembers compiled journeys by their hash, so that everyone who is in flight on one
// version shares one graph in memory.
//
// It promises: At costs a comparison as long as the definitions do not change; a journey that does not
// compile (control refuses such ones) is reported once for each revision and starts nobody, while people
// on earlier versions of it go on; a policy that does not compile holds everything that is not
// transactional rather than lets everything through. It is safe for concurrent use.
package catalog

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/quiet"
)

// maxGraphs bounds the graphs that are remembered; beyond it those not in force are forgotten, and
// thawed again when somebody needs them.
const maxGraphs = 4096

// Catalog is the compiled definitions.
type Catalog struct {
	provider definition.Provider
	report   func(error)

	mu       sync.RWMutex // guards what follows; held while compiling, never while waiting
	known    bool
	revision uint64
	tenants  map[string]*engine.Tenant
	graphs   map[journey.Hash]*journey.Graph
}

var _ engine.Graphs = (*Catalog)(nil)

// New returns a catalog of what provider gives. report is told of definitions that do not compile.
func New(provider definition.Provider, report func(error)) *Catalog {
	return &Catalog{provider: provider, report: report, graphs: map[journey.Hash]*journey.Graph{}}
}

// At gives a tenant as its definitions stand now; one that is not defined has no journeys.
func (c *Catalog) At(tenant string) *engine.Tenant {
	snapshot := c.provider.Snapshot()
	revision := snapshot.Revision()
	c.mu.RLock()
	fresh, found := c.known && c.revision == revision, c.tenants[tenant]
	c.mu.RUnlock()
	if !fresh {
		found = c.compile(snapshot, revision)[tenant]
	}
	if found == nil {
		return &engine.Tenant{}
	}
	return found
}

func (c *Catalog) compile(snapshot *definition.Snapshot, revision uint64) map[string]*engine.Tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known && c.revision == revision {
		return c.tenants
	}
	var errs []error
	inForce := map[journey.Hash]*journey.Graph{}
	tenants := map[string]*engine.Tenant{}
	for _, name := range names(snapshot) {
		compiled, err := c.tenant(snapshot, name, inForce)
		errs = append(errs, err)
		tenants[name] = compiled
	}
	if len(c.graphs) > maxGraphs {
		c.graphs = inForce
	}
	c.known, c.revision, c.tenants = true, revision, tenants
	if err := errors.Join(errs...); err != nil {
		c.report(err)
	}
	return tenants
}

// names lists everyone who owns a definition, whether or not the tenant itself is defined.
func names(snapshot *definition.Snapshot) []string {
	var out []string
	seen := map[string]bool{}
	for _, def := range snapshot.All() {
		if name := def.GetTenant(); !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

func (c *Catalog) tenant(snapshot *definition.Snapshot, name string, inForce map[journey.Hash]*journey.Graph) (*engine.Tenant, error) {
	t := &engine.Tenant{
		Known: snapshot.Tenant(name) != nil, Defined: map[string]bool{},
		Channels: map[string]engine.Reach{}, Templates: map[string]bool{},
	}
	var errs []error
	var graphs []*journey.Graph
	for _, def := range snapshot.Journeys(name) {
		t.Defined[def.GetName()] = true
		g, err := journey.Compile(def)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if compiled, ok := c.graphs[g.Hash]; ok {
			g = compiled
		}
		c.graphs[g.Hash], inForce[g.Hash] = g, g
		graphs = append(graphs, g)
	}
	t.Journeys = journey.NewSet(graphs)
	for _, def := range snapshot.List(name, definition.KindChannel) {
		t.Channels[def.GetName()] = engine.ReachIdentifier
		if def.GetChannel().GetEmail() != nil {
			t.Channels[def.GetName()] = engine.ReachEmail
		}
	}
	for _, def := range snapshot.List(name, definition.KindTemplate) {
		t.Templates[def.GetName()] = true
	}
	errs = append(errs, policy(t, snapshot.Tenant(name)))
	return t, errors.Join(errs...)
}

// policy compiles what a tenant says of contact: pressure and consent.
func policy(t *engine.Tenant, def *definitionv1.Definition) error {
	spec := def.GetTenantSpec()
	t.Zone = spec.GetTimezone()
	t.Consent = map[string]bool{}
	for _, category := range spec.GetConsent().GetRequired() {
		t.Consent[category] = true
	}
	var errs []error
	for i, c := range spec.GetPressure().GetCaps() {
		within, err := definition.ParseDuration(c.GetWithin())
		if err != nil {
			errs = append(errs, fmt.Errorf("tenant %s: pressure.caps[%d].within: %w", def.GetName(), i, err))
		}
		t.Caps = append(t.Caps, pressure.Cap{
			Name: c.GetName(), Channel: c.GetChannel(), Category: c.GetCategory(), Max: int(c.GetMax()), Within: within,
		})
	}
	if hours := spec.GetPressure().GetQuietHours(); hours != nil {
		from, errFrom := quiet.ParseTimeOfDay(hours.GetFrom())
		to, errTo := quiet.ParseTimeOfDay(hours.GetTo())
		if err := errors.Join(errFrom, errTo); err != nil {
			errs = append(errs, fmt.Errorf("tenant %s: pressure.quiet_hours: %w", def.GetName(), err))
		}
		t.Quiet = quiet.Hours{From: from, To: to}
		t.QuietHold = hours.GetAction() == definitionv1.QuietAction_QUIET_ACTION_HOLD
	}
	if err := errors.Join(errs...); err != nil {
		t.Caps = []pressure.Cap{{Name: "invalid_policy"}}
		return err
	}
	return nil
}

// Known is a graph compiled before.
func (c *Catalog) Known(hash journey.Hash) *journey.Graph {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.graphs[hash]
}

// Thaw compiles a frozen definition and remembers it.
func (c *Catalog) Thaw(hash journey.Hash, frozen []byte) (*journey.Graph, error) {
	g, err := journey.Thaw(frozen)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.graphs) <= 2*maxGraphs {
		c.graphs[hash] = g
	}
	return g, nil
}
