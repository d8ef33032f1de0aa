package catalog_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/control/internal/catalog"
)

const world = `
{kind: tenant, name: demo, spec: {timezone: Europe/Paris}}
---
{kind: source, tenant: demo, name: web, spec: {write_keys: [demo-key, demo-key-2]}}
---
{kind: segment, tenant: demo, name: vip, spec: {condition: {where: traits.vip == true}}}
---
{kind: segment, tenant: demo, name: loud-vip, spec: {condition: {all: [{segment: vip}, {performed: {filter: {event: Complained}}}]}}}
---
{kind: channel, tenant: demo, name: reach, spec: {email: {from: a@b.example}}}
---
{kind: template, tenant: demo, name: hello, spec: {email: {subject: Hello, text: Hi}}}
---
{kind: journey, tenant: demo, name: welcome, spec: {entry: {segment: {name: vip}}, steps: [{id: mail, send: {channel: reach, template: hello}}]}}
`

var (
	limits = catalog.Limits{PerRequest: 20, PerTenant: 10}
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func parse(t require.TestingT, text string) []*definitionv1.Definition {
	defs, err := definition.ParseYAML(strings.NewReader(text), "test.yaml")
	require.NoError(t, err)
	return defs
}

// after is the definitions once applied is written.
func after(current *definition.Snapshot, applied []catalog.Applied) *definition.Snapshot {
	all := append([]*definitionv1.Definition(nil), current.All()...)
	for _, one := range applied {
		all = append(all, one.Definition)
	}
	return definition.NewSnapshot(all...)
}

func started(t require.TestingT) *definition.Snapshot {
	applied, err := catalog.Apply(nil, parse(t, world), limits, noon)
	require.NoError(t, err)
	return after(nil, applied)
}

func TestVersionsFollowContent(t *testing.T) {
	current := started(t)
	for _, def := range current.All() {
		require.EqualValues(t, 1, def.GetVersion())
		require.Equal(t, noon.UnixMilli(), def.GetAppliedAtMs())
	}
	later := noon.Add(time.Hour)
	wanted := parse(t, strings.Replace(world, "traits.vip == true", "traits.vip == false", 1))
	wanted[0].Version = 99 // what the caller says of versions does not count
	applied, err := catalog.Apply(current, wanted, limits, later)
	require.NoError(t, err)
	for i, one := range applied {
		require.Equal(t, definition.IDOf(wanted[i]), definition.IDOf(one.Definition), "in the order of the request")
		if one.Definition.GetName() == "vip" {
			require.Equal(t, catalog.Updated, one.Change)
			require.EqualValues(t, 2, one.Definition.GetVersion())
			require.Equal(t, later.UnixMilli(), one.Definition.GetAppliedAtMs())
			continue
		}
		require.Equal(t, catalog.Unchanged, one.Change, "%s", definition.IDOf(one.Definition))
		require.EqualValues(t, 1, one.Definition.GetVersion())
	}
}

func TestWriteKeysAreKeptAsHashesOnly(t *testing.T) {
	wanted := parse(t, world)
	applied, err := catalog.Apply(nil, wanted, limits, noon)
	require.NoError(t, err)
	source := applied[1].Definition.GetSource()
	require.Empty(t, source.GetWriteKeys())
	require.ElementsMatch(t, []string{definition.HashWriteKey("demo-key"), definition.HashWriteKey("demo-key-2")}, source.GetWriteKeySha256())
	require.Equal(t, []string{"demo-key", "demo-key-2"}, wanted[1].GetSource().GetWriteKeys(), "the request is left as it is")

	// What is read back can be applied again, and the order of keys says nothing.
	again, err := catalog.Apply(after(nil, applied), []*definitionv1.Definition{applied[1].Definition}, limits, noon)
	require.NoError(t, err)
	require.Equal(t, catalog.Unchanged, again[0].Change)
	swapped := parse(t, strings.Replace(world, "[demo-key, demo-key-2]", "[demo-key-2, demo-key]", 1))
	again, err = catalog.Apply(after(nil, applied), swapped, limits, noon)
	require.NoError(t, err)
	require.Equal(t, catalog.Unchanged, again[1].Change)
}

func TestAllOrNothing(t *testing.T) {
	wanted := append(parse(t, world), parse(t, `{kind: segment, tenant: demo, name: bad, spec: {condition: {segment: nobody}}}`)...)
	applied, err := catalog.Apply(nil, wanted, limits, noon)
	require.Empty(t, applied)
	fields := definition.FieldErrors(err)
	require.Len(t, fields, 1)
	require.Equal(t, "spec.condition.segment", fields[0].Path)
}

func TestAChangeThatBreaksAnotherDefinitionIsRefused(t *testing.T) {
	current := started(t)
	webhook := parse(t, `{kind: channel, tenant: demo, name: reach, spec: {webhook: {url: "https://x.example"}}}`)
	_, err := catalog.Apply(current, webhook, limits, noon)
	fields := definition.FieldErrors(err)
	require.Len(t, fields, 1)
	require.Equal(t, definition.ID{Tenant: "demo", Kind: "journey", Name: "welcome"}, fields[0].Definition)
	require.Contains(t, fields[0].Problem, "would break")

	both := slices.Concat(webhook, parse(t, `{kind: template, tenant: demo, name: hello, spec: {webhook: {type: hello}}}`))
	_, err = catalog.Apply(current, both, limits, noon)
	require.NoError(t, err, "both together are right")
}

func TestACycleOverStoredSegmentsIsRefused(t *testing.T) {
	_, err := catalog.Apply(started(t), parse(t, `{kind: segment, tenant: demo, name: vip, spec: {condition: {not: {segment: loud-vip}}}}`), limits, noon)
	require.ErrorContains(t, err, "vip → loud-vip → vip")
}

func TestLimits(t *testing.T) {
	_, err := catalog.Apply(nil, parse(t, world), catalog.Limits{PerRequest: 6, PerTenant: 10}, noon)
	require.ErrorIs(t, err, catalog.ErrTooMany)
	_, err = catalog.Apply(nil, parse(t, world), catalog.Limits{PerRequest: 7, PerTenant: 6}, noon)
	require.ErrorIs(t, err, catalog.ErrTooMany)
	twice := append(parse(t, world), parse(t, `{kind: tenant, name: demo, spec: {}}`)...)
	_, err = catalog.Apply(nil, twice, limits, noon)
	require.ErrorContains(t, err, "is in the request twice")
}

func TestDeleting(t *testing.T) {
	current := started(t)
	id := func(kind, name string) definition.ID { return definition.ID{Tenant: "demo", Kind: kind, Name: name} }
	require.NoError(t, catalog.Delete(current, id("journey", "welcome")))
	require.ErrorIs(t, catalog.Delete(current, id("journey", "nothing")), catalog.ErrNotFound)
	for _, used := range []definition.ID{id("channel", "reach"), id("template", "hello"), id("segment", "vip"), id("tenant", "demo")} {
		var inUse *catalog.InUseError
		require.ErrorAs(t, catalog.Delete(current, used), &inUse, used)
		require.NotEmpty(t, inUse.By)
	}
	require.ErrorContains(t, catalog.Delete(current, id("segment", "vip")), "journey demo/welcome")
	require.ErrorContains(t, catalog.Delete(current, id("tenant", "demo")), "and 1 more")
}

// TestNothingThatRefersIsEverLeftAlone applies and deletes at random: the catalogue stays right as a whole.
func TestNothingThatRefersIsEverLeftAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tenant := parse(t, `{kind: tenant, name: demo, spec: {}}`)[0]
		current := definition.NewSnapshot(tenant)
		names := []string{"a", "b", "c", "d"}
		for range rapid.IntRange(1, 15).Draw(t, "changes") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			if rapid.Bool().Draw(t, "delete") {
				id := definition.ID{Tenant: "demo", Kind: definition.KindSegment, Name: name}
				if catalog.Delete(current, id) == nil {
					var rest []*definitionv1.Definition
					for _, def := range current.All() {
						if definition.IDOf(def) != id {
							rest = append(rest, def)
						}
					}
					current = definition.NewSnapshot(rest...)
				}
			} else {
				other := rapid.SampledFrom(append(names, "")).Draw(t, "other")
				condition := &definitionv1.Condition{Where: "true"}
				if other != "" {
					condition = &definitionv1.Condition{Segment: other}
				}
				def := &definitionv1.Definition{Tenant: "demo", Name: name, Spec: &definitionv1.Definition_Segment{Segment: &definitionv1.Segment{Condition: condition}}}
				if applied, err := catalog.Apply(current, []*definitionv1.Definition{def}, limits, noon); err == nil {
					current = after(current, applied)
				}
			}
			require.NoError(t, definition.ValidateAll(current))
		}
	})
}
