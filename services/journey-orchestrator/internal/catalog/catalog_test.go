package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/catalog"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
)

type live struct{ snapshot *definition.Snapshot }

func (l *live) Snapshot() *definition.Snapshot { return l.snapshot }

func parse(t *testing.T, yaml string) []*definitionv1.Definition {
	defs, err := definition.ParseYAML(strings.NewReader(yaml), "test")
	require.NoError(t, err)
	return defs
}

const bank = `
kind: tenant
tenant: bank
name: bank
spec:
  timezone: Europe/Paris
  pressure:
    caps: [{name: month, max: 8, within: 30d}, {name: never, channel: sms, max: 0, within: 1d}]
    quiet_hours: {from: "20:00", to: "08:00", action: hold}
---
kind: channel
tenant: bank
name: email
spec: {email: {from: "Bank <hello@bank.example>"}}
---
kind: channel
tenant: bank
name: call
spec: {webhook: {url: "https://call.example", secret_ref: "env:X"}}
---
kind: template
tenant: bank
name: hello
spec: {email: {subject: Hello, html: "<p>Hello</p>"}}
---
kind: journey
tenant: bank
name: tour
spec:
  entry: {event: {event: Start}}
  steps: [{id: mail, send: {channel: email, template: hello}}]
`

// TestCompilesOnceARevision: the same answer as long as nothing changes, another when something does, and
// the same graph for a journey that stayed as it was.
func TestCompilesOnceARevision(t *testing.T) {
	provider := &live{definition.NewSnapshot(parse(t, bank)...)}
	c := catalog.New(provider, func(err error) { require.NoError(t, err) })
	first := c.At("bank")
	require.Same(t, first, c.At("bank"))
	require.Equal(t, []pressure.Cap{
		{Name: "month", Max: 8, Within: 30 * 24 * time.Hour}, {Name: "never", Channel: "sms", Max: 0, Within: 24 * time.Hour},
	}, first.Caps)
	require.True(t, first.QuietHold)
	require.True(t, first.Known)
	require.Equal(t, "Europe/Paris", first.Zone)
	require.Equal(t, map[string]engine.Reach{"email": engine.ReachEmail, "call": engine.ReachIdentifier}, first.Channels)
	require.True(t, first.Templates["hello"])

	provider.snapshot = definition.NewSnapshot(parse(t, strings.Replace(bank, "max: 8", "max: 4", 1))...)
	second := c.At("bank")
	require.Equal(t, 4, second.Caps[0].Max)
	require.Same(t, first.Journeys.Get("tour"), second.Journeys.Get("tour"))
	require.Same(t, first.Journeys.Get("tour"), c.Known(first.Journeys.Get("tour").Hash))

	nobody := c.At("nobody")
	require.False(t, nobody.Known)
	require.Nil(t, nobody.Journeys.Get("tour"))
}

// TestBadDefinitions: a journey that does not compile is reported once and is not deleted; a policy that
// does not compile holds everything.
func TestBadDefinitions(t *testing.T) {
	defs := parse(t, bank)
	for _, def := range defs {
		if j := def.GetJourney(); j != nil {
			j.Steps[0].Next = "nowhere"
		}
		if spec := def.GetTenantSpec(); spec != nil {
			spec.Pressure.Caps[0].Within = "soon"
		}
	}
	var reports []error
	c := catalog.New(&live{definition.NewSnapshot(defs...)}, func(err error) { reports = append(reports, err) })
	tenant := c.At("bank")
	c.At("bank")
	require.Len(t, reports, 1)
	require.ErrorContains(t, reports[0], `steps[0].next: there is no step "nowhere"`)
	require.ErrorContains(t, reports[0], "pressure.caps[0].within")
	require.True(t, tenant.Defined["tour"])
	require.Nil(t, tenant.Journeys.Get("tour"))
	require.Equal(t, "cap:invalid_policy", pressure.Check(tenant.Caps, nil, "email", "marketing", time.Now()))
}
