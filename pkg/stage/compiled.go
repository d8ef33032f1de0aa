package stage

import (
	"sync"

	"github.com/sillage-cdp/sillage/pkg/definition"
)

// Compiled is what a stage makes of the definitions of each tenant, when it is first asked for and once for
// each revision (TestCompiledOncePerRevision). It is safe for concurrent use.
type Compiled[P any] struct {
	definitions definition.Provider
	compile     func(tenant string, snapshot *definition.Snapshot) P

	mu       sync.RWMutex // guards what follows; held while compiling, which blocks on nothing
	revision uint64
	compiled map[string]P
}

// NewCompiled returns what compile makes of the definitions that a provider gives. Compile must not block.
func NewCompiled[P any](definitions definition.Provider, compile func(tenant string, snapshot *definition.Snapshot) P) *Compiled[P] {
	return &Compiled[P]{definitions: definitions, compile: compile, compiled: make(map[string]P)}
}

// For is what the definitions of a tenant come to as they are now.
func (c *Compiled[P]) For(tenant string) P {
	snapshot := c.definitions.Snapshot()
	revision := snapshot.Revision()
	c.mu.RLock()
	compiled, ok := c.compiled[tenant]
	current := c.revision == revision
	c.mu.RUnlock()
	if ok && current {
		return compiled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revision != revision {
		c.revision = revision
		clear(c.compiled)
	}
	if compiled, ok = c.compiled[tenant]; !ok {
		compiled = c.compile(tenant, snapshot)
		c.compiled[tenant] = compiled
	}
	return compiled
}
