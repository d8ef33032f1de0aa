package intake

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
)

// changing is definitions that change.
type changing struct{ now *definition.Snapshot }

func (c *changing) Snapshot() *definition.Snapshot { return c.now }

func source(tenant, name, key string, limits *definitionv1.RateLimit) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: tenant, Name: name, Spec: &definitionv1.Definition_Source{Source: &definitionv1.Source{
		WriteKeys: []string{key}, RateLimit: limits,
	}}}
}

func tenant(name string, limits *definitionv1.RateLimit) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: name, Name: name, Spec: &definitionv1.Definition_TenantSpec{TenantSpec: &definitionv1.Tenant{RateLimit: limits}}}
}

var at = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// room is how many units a quota has now, up to 1000.
func room(t *testing.T, q *limit.Quota, unit limit.Unit) (n int) {
	t.Helper()
	for ; n < 1000; n++ {
		if wait, _ := limit.Take(at, unit, 1, q); wait != 0 {
			return n
		}
	}
	return n
}

// What one source or tenant uses up, another of the same name elsewhere still has; sources of one tenant
// share the tenant's.
func TestBucketsAreOfOneSource(t *testing.T) {
	defs := &changing{now: definition.NewSnapshot(
		tenant("bank", nil), tenant("shop", nil), source("bank", "web", "key-bank-web", nil), source("bank", "app", "key-bank-app", nil), source("shop", "web", "key-shop-web", nil))}
	s := newSources(defs, Limits{
		Source: RateLimit{RequestsPerSecond: 1, Burst: 3, EventsPerSecond: 1, EventBurst: 5},
		Tenant: RateLimit{RequestsPerSecond: 1, Burst: 7, EventsPerSecond: 1, EventBurst: 9}, EventNames: 1,
	}, clock.NewManual(at), slog.New(slog.DiscardHandler))
	bankWeb, bankApp, shopWeb := s.byKey("key-bank-web"), s.byKey("key-bank-app"), s.byKey("key-shop-web")
	for _, src := range []*Source{bankWeb, bankApp, shopWeb} {
		require.Equal(t, 3, room(t, src.quotas[0], limit.Calls), "%s/%s", src.Tenant, src.Name)
		require.Equal(t, 5, room(t, src.quotas[0], limit.Events), "%s/%s", src.Tenant, src.Name)
	}
	require.Equal(t, 7, room(t, bankWeb.quotas[1], limit.Calls))
	require.Equal(t, 9, room(t, bankWeb.quotas[1], limit.Events))
	require.Zero(t, room(t, bankApp.quotas[1], limit.Calls), "one tenant")
	require.Equal(t, 7, room(t, shopWeb.quotas[1], limit.Calls), "another")

	for _, src := range []*Source{bankWeb, bankApp, shopWeb} {
		require.True(t, src.rules.Names.Admit(at, 1, src.rules.MaxNames), "%s/%s", src.Tenant, src.Name)
		require.False(t, src.rules.Names.Admit(at, 2, src.rules.MaxNames))
	}
}

// What a definition says of its limits holds, each in its place, and what it does not say stays as it is set.
func TestOwnLimitsHold(t *testing.T) {
	own := &definitionv1.RateLimit{RequestsPerSecond: 1, RequestBurst: 2, EventsPerSecond: 1, EventBurst: 4}
	defs := &changing{now: definition.NewSnapshot(
		tenant("bank", &definitionv1.RateLimit{EventsPerSecond: 1, EventBurst: 6}), source("bank", "web", "key-bank-web", own), source("bank", "app", "key-bank-app", nil))}
	s := newSources(defs, Limits{
		Source: RateLimit{RequestsPerSecond: 1, Burst: 11, EventsPerSecond: 1, EventBurst: 13}, Tenant: RateLimit{RequestsPerSecond: 1, Burst: 17},
	}, clock.NewManual(at), slog.New(slog.DiscardHandler))
	web, app := s.byKey("key-bank-web"), s.byKey("key-bank-app")
	require.Equal(t, 2, room(t, web.quotas[0], limit.Calls))
	require.Equal(t, 4, room(t, web.quotas[0], limit.Events))
	require.Equal(t, 11, room(t, app.quotas[0], limit.Calls))
	require.Equal(t, 13, room(t, app.quotas[0], limit.Events))
	require.Equal(t, 17, room(t, web.quotas[1], limit.Calls))
	require.Equal(t, 6, room(t, web.quotas[1], limit.Events))
}

// A source is as its definition is now: one that was closed takes nothing, one that is new takes at once, a
// key that was taken away is nobody's; and buckets are not refilled by that.
func TestDefinitionsThatChange(t *testing.T) {
	defs := &changing{now: definition.NewSnapshot(tenant("bank", nil), source("bank", "web", "key-bank-web", nil))}
	s := newSources(defs, Limits{Source: RateLimit{RequestsPerSecond: 1, Burst: 3}}, clock.NewManual(at), slog.New(slog.DiscardHandler))
	web := s.byKey("key-bank-web")
	require.Same(t, web, s.byKey("key-bank-web"), "it is resolved once")
	require.Nil(t, s.byKey("key-bank-app"))
	require.Equal(t, 3, room(t, web.quotas[0], limit.Calls))

	// The tenant alone changes.
	same := defs.now.All()
	for i, def := range same {
		if def.GetTenantSpec() != nil {
			same[i] = tenant("bank", &definitionv1.RateLimit{RequestsPerSecond: 1, RequestBurst: 2})
		}
	}
	defs.now = definition.NewSnapshot(same...)
	require.Equal(t, 2, room(t, s.byKey("key-bank-web").quotas[1], limit.Calls))

	closed := source("bank", "web", "key-bank-web", nil)
	closed.GetSource().Disabled = true
	defs.now = definition.NewSnapshot(tenant("bank", nil), closed, source("bank", "app", "key-bank-app", nil))
	require.True(t, s.byKey("key-bank-web").Disabled())
	require.Zero(t, room(t, s.byKey("key-bank-web").quotas[0], limit.Calls))
	require.False(t, s.byKey("key-bank-app").Disabled())
	defs.now = definition.NewSnapshot(tenant("bank", nil), source("bank", "web", "key-bank-other", nil))
	require.Nil(t, s.byKey("key-bank-web"))
	require.NotNil(t, s.byKey("key-bank-other"))
}
