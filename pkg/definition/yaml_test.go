package definition_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func TestParseErrorsSayWhereAndWhat(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"kind: [", "f.yaml: document 1: this is not YAML"},
		{"just words", "f.yaml: document 1, line 1: must be fields and values, and is the value \"just words\""},
		{"name: x\nspec: {}", "f.yaml: document 1, line 1: kind: is missing (write one of tenant, source,"},
		{"kind: segmant\nname: x\nspec: {}", `kind: "segmant" is not a kind`},
		{"kind: segment\nname: x", "spec: is missing"},
		{"kind: segment\nnam: x\nspec: {}", `f.yaml: document 1, line 2: nam: unknown field "nam" (did you mean name?)`},
		{"kind: segment\nname: x\nversion: 3\nspec: {}", `line 3: version: unknown field "version"`},
		{"---\n---\nkind: segment\nname: x\nspec:\n  condition:\n    performed:\n      filtr: {}", `f.yaml: document 2, line 8: spec.condition.performed.filtr: unknown field "filtr" (did you mean filter?)`},
		{"kind: journey\nname: x\nspec:\n  steps:\n    - id: a\n      waitFor: {}", `line 6: spec.steps[0].waitFor: unknown field "waitFor" (did you mean wait_for?)`},
		{"kind: segment\nname: x\nspec:\n  condition:\n    performed: {at_least: many}", `spec.condition.performed.at_least: "many" is not a whole number`},
		{"kind: segment\nname: x\nspec:\n  condition:\n    performed: {at_least: 99999999999}", `"99999999999" is not a whole number`},
		{"kind: segment\nname: x\nspec:\n  condition: {all: {where: x}}", "spec.condition.all: must be a list, and is fields and values"},
		{"kind: segment\nname: x\nspec:\n  condition: {where: [x]}", "spec.condition.where: must be one value, and is a list"},
		{"kind: segment\nname: x\nspec:\n  condition:", "spec.condition: is empty (write a value, or leave the field out)"},
		{"kind: segment\nname: x\nname: y\nspec: {}", "name: is there twice"},
		{"kind: score\nname: x\nspec: {heat: {rules: [{points: .nan}]}}", `spec.heat.rules[0].points: ".nan" is not a number`},
		{"kind: source\nname: x\nspec: {disabled: yes}", `spec.disabled: "yes" is neither true nor false`},
		{"kind: tenant\nname: x\nspec: {pressure: {quiet_hours: {action: later}}}", `action: "later" is not one of wait, hold`},
		{"kind: tenant\nname: &n x\ndescription: *n\nspec: {}", "description: must be one value, and is an alias"},
		{"kind: tenant\nname: x\n? [a, b]\n: c\nspec: {}", "the name of a field is a list"},
	} {
		_, err := definition.ParseYAML(strings.NewReader(test.text), "f.yaml")
		require.ErrorContains(t, err, test.want, test.text)
		var parse *definition.ParseError
		require.ErrorAs(t, err, &parse)
		require.Equal(t, "f.yaml", parse.File)
	}
}

func TestAllErrorsOfAFileAreTold(t *testing.T) {
	_, err := definition.ParseYAML(strings.NewReader("kind: segment\nname: x\nspec: {a: 1, b: 2}\n---\nkind: nothing\nname: y\nspec: {}"), "f.yaml")
	require.ErrorContains(t, err, "spec.a")
	require.ErrorContains(t, err, "spec.b")
	require.ErrorContains(t, err, "document 2")
}

func TestScalarsAreReadAsTheFieldWantsThem(t *testing.T) {
	def := parse(t, "kind: segment\ntenant: 1\nname: 2024-01-01\ndescription: yes\nspec: {condition: {performed: {filter: {event: 007}, at_most: 0}}}")[0]
	require.Equal(t, []string{"1", "2024-01-01", "yes"}, []string{def.GetTenant(), def.GetName(), def.GetDescription()})
	require.Equal(t, "007", def.GetSegment().GetCondition().GetPerformed().GetFilter().GetEvent())
	require.NotNil(t, def.GetSegment().GetCondition().GetPerformed().AtMost)
}

func TestTooLargeAFileIsRefused(t *testing.T) {
	_, err := definition.ParseYAML(strings.NewReader(strings.Repeat("#", definition.MaxFileBytes+1)), "f.yaml")
	require.ErrorContains(t, err, "is larger than")
}

// text is strings that YAML could take for something else.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "yes", "null", "~", "1e3", "22:00", "0x1f", "- a", "a: b", "#x", "{", "*a", " lead", "tail ", "line\nbreak\n", "\ttab", "'q\"", "é✓", "%d", "2024-01-01"}),
		rapid.StringMatching(`[ -~]{0,20}`),
	)
}

func condition(depth int) *rapid.Generator[*definitionv1.Condition] {
	return rapid.Custom(func(t *rapid.T) *definitionv1.Condition {
		kinds := 8
		if depth == 0 {
			kinds = 5
		}
		filter := &definitionv1.EventFilter{Event: text().Draw(t, "event"), Where: text().Draw(t, "where")}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return &definitionv1.Condition{Where: text().Draw(t, "where")}
		case 1:
			most := rapid.Int32Range(0, 5).Draw(t, "most")
			return &definitionv1.Condition{Performed: &definitionv1.Performed{Filter: filter, AtMost: &most, AtLeast: rapid.Int32().Draw(t, "least")}}
		case 2:
			return &definitionv1.Condition{Abandoned: &definitionv1.Abandoned{Started: filter, Within: text().Draw(t, "within")}}
		case 3:
			return &definitionv1.Condition{Inactive: &definitionv1.Inactive{}}
		case 4:
			return &definitionv1.Condition{Segment: text().Draw(t, "segment")}
		case 5:
			return &definitionv1.Condition{Not: condition(depth-1).Draw(t, "not")}
		case 6:
			return &definitionv1.Condition{All: rapid.SliceOfN(condition(depth-1), 0, 3).Draw(t, "all")}
		default:
			return &definitionv1.Condition{Any: rapid.SliceOfN(condition(depth-1), 0, 3).Draw(t, "any")}
		}
	})
}

func anyDefinition() *rapid.Generator[*definitionv1.Definition] {
	return rapid.Custom(func(t *rapid.T) *definitionv1.Definition {
		def := &definitionv1.Definition{Tenant: text().Draw(t, "tenant"), Name: text().Draw(t, "name"), Description: text().Draw(t, "description")}
		switch rapid.IntRange(0, 3).Draw(t, "spec") {
		case 0:
			def.Spec = &definitionv1.Definition_Segment{Segment: &definitionv1.Segment{Condition: condition(3).Draw(t, "condition")}}
		case 1:
			def.Tenant = def.Name
			def.Spec = &definitionv1.Definition_TenantSpec{TenantSpec: &definitionv1.Tenant{Pressure: &definitionv1.PressurePolicy{
				QuietHours: &definitionv1.QuietHours{Action: definitionv1.QuietAction(rapid.Int32Range(0, 2).Draw(t, "action"))},
			}, Identity: &definitionv1.IdentityPolicy{RefusedValues: rapid.SliceOf(text()).Draw(t, "refused")}}}
		case 2:
			def.Spec = &definitionv1.Definition_Score{Score: &definitionv1.Score{Rfm: &definitionv1.Rfm{
				Monetary: rapid.SliceOf(rapid.Float64Range(-1e300, 1e300)).Draw(t, "monetary"),
			}}}
		default:
			def.Spec = &definitionv1.Definition_Source{Source: &definitionv1.Source{Disabled: rapid.Bool().Draw(t, "disabled")}}
		}
		return def
	})
}

func TestFormattingLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		defs := rapid.SliceOfN(anyDefinition(), 1, 3).Draw(t, "definitions")
		written, err := definition.FormatYAML(defs...)
		require.NoError(t, err)
		read, err := definition.ParseYAML(bytes.NewReader(written), "f.yaml")
		require.NoError(t, err, "%s", written)
		require.Len(t, read, len(defs))
		for i := range defs {
			require.True(t, defs[i].EqualVT(read[i]), "%s\n%v\n%v", written, defs[i], read[i])
		}
	})
}

func FuzzParseYAML(f *testing.F) {
	f.Add(world)
	f.Add("kind: &a [*a]")
	f.Add("{kind: segment, name: x, spec: {condition: {not: {not: {where: x}}}}}")
	f.Fuzz(func(t *testing.T, text string) {
		defs, err := definition.ParseYAML(strings.NewReader(text), "f.yaml")
		if err != nil {
			return
		}
		_ = definition.ValidateAll(definition.NewSnapshot(defs...))
		written, err := definition.FormatYAML(defs...)
		require.NoError(t, err)
		_, err = definition.ParseYAML(bytes.NewReader(written), "f.yaml")
		require.NoError(t, err, "%s", written)
	})
}
