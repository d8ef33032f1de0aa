package stage_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stage"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// latest gives the snapshot that was set last.
type latest struct{ snapshot *definition.Snapshot }

func (l *latest) Snapshot() *definition.Snapshot { return l.snapshot }

// TestCompiledOncePerRevision: each tenant is compiled when it is asked for, again when definitions have
// changed, and not in between, however many ask at once.
func TestCompiledOncePerRevision(t *testing.T) {
	score := func(name string) *definitionv1.Definition {
		return &definitionv1.Definition{Tenant: "acme", Name: name, Version: 1, Spec: &definitionv1.Definition_Score{Score: &definitionv1.Score{}}}
	}
	l := &latest{snapshot: definition.NewSnapshot(score("a"))}
	calls := map[string]int{}
	c := stage.NewCompiled(l, func(tenant string, snapshot *definition.Snapshot) int {
		calls[tenant]++ // one at a time
		return len(snapshot.Scores(tenant))
	})
	ask := func(tenant string, want int) {
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				if got := c.For(tenant); got != want {
					t.Errorf("%s: %d, not %d", tenant, got, want)
				}
			})
		}
		asking.Wait()
	}
	ask("acme", 1)
	ask("other", 0)
	require.Equal(t, map[string]int{"acme": 1, "other": 1}, calls)
	before := l.snapshot.Revision()
	l.snapshot = definition.NewSnapshot(score("a"), score("b"))
	require.NotEqual(t, before, l.snapshot.Revision())
	ask("acme", 2)
	require.Equal(t, map[string]int{"acme": 2, "other": 1}, calls)
}
