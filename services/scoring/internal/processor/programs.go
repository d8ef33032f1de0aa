package processor

import (
	"context"
	"log/slog"
	"sync"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/services/scoring/internal/program"
)

// Programs compiles the scores of each tenant when they are first asked for, once for each revision of
// the definitions. It is safe for concurrent use.
type Programs struct {
	definitions definition.Provider
	logger      *slog.Logger

	mu       sync.RWMutex // guards what follows; held while compiling, which blocks on nothing
	revision uint64
	compiled map[string]*program.Program
}

// NewPrograms returns programs over the definitions that a provider gives.
func NewPrograms(definitions definition.Provider, logger *slog.Logger) *Programs {
	return &Programs{definitions: definitions, logger: logger, compiled: map[string]*program.Program{}}
}

// For is the program of a tenant as its scores are defined now; empty if it has none.
func (p *Programs) For(tenant string) *program.Program {
	snapshot := p.definitions.Snapshot()
	revision := snapshot.Revision()
	p.mu.RLock()
	compiled, ok := p.compiled[tenant]
	current := p.revision == revision
	p.mu.RUnlock()
	if ok && current {
		return compiled
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.revision != revision {
		p.revision = revision
		clear(p.compiled)
	}
	if compiled, ok = p.compiled[tenant]; ok {
		return compiled
	}
	compiled = program.Compile(snapshot.Scores(tenant))
	for name, err := range compiled.Broken {
		p.logger.LogAttrs(context.Background(), slog.LevelError, "a score cannot be compiled and is not evaluated",
			slog.String("tenant", tenant), slog.String("score", name), slog.Any("error", err))
	}
	p.compiled[tenant] = compiled
	return compiled
}
