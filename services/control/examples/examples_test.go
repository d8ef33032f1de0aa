package examples_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/osteele/liquid"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/services/control/examples"
)

func TestEverySetIsValid(t *testing.T) {
	sets, err := examples.Files.ReadDir(".")
	require.NoError(t, err)
	for _, set := range sets {
		defs, err := examples.Load(set.Name())
		require.NoError(t, err)
		snapshot := definition.NewSnapshot(defs...)
		require.Len(t, snapshot.All(), len(defs), "no definition is there twice")
		require.NoError(t, definition.ValidateAll(snapshot))
	}
}

func TestDemoBankIsComplete(t *testing.T) {
	defs, err := examples.Load(examples.DemoBank)
	require.NoError(t, err)
	snapshot := definition.NewSnapshot(defs...)
	require.Equal(t, []string{"demo"}, snapshot.Tenants())
	source, ok := snapshot.SourceByWriteKey("demo-key")
	require.True(t, ok)
	require.Equal(t, "web", source.GetName())
	for _, name := range []string{"loan-abandoned", "engaged", "at-risk", "big-spenders", "inactive-90d", "customers"} {
		require.NotNil(t, snapshot.Segment("demo", name), name)
	}
	require.NotNil(t, snapshot.Score("demo", "heat"))
	require.NotNil(t, snapshot.Score("demo", "rfm"))
	require.NotNil(t, snapshot.Journey("demo", "loan-abandonment"))
}

func TestFormattingAnExampleLosesNothing(t *testing.T) {
	defs, err := examples.Load(examples.DemoBank)
	require.NoError(t, err)
	text, err := definition.FormatYAML(defs...)
	require.NoError(t, err)
	again, err := definition.ParseYAML(bytes.NewReader(text), "again.yaml")
	require.NoError(t, err)
	require.Len(t, again, len(defs))
	for i := range defs {
		require.True(t, defs[i].EqualVT(again[i]), "%s\n%s", defs[i], again[i])
	}
}

// TestTemplatesRender finds what parsing does not: filters that do not exist, JSON that is none.
func TestTemplatesRender(t *testing.T) {
	defs, err := examples.Load(examples.DemoBank)
	require.NoError(t, err)
	for _, variables := range []liquid.Bindings{
		{},
		{"profile": map[string]any{"id": "p1"}, "traits": map[string]any{"first_name": "Ada \"<b>\"", "phone": "+33"},
			"trigger": map[string]any{"properties": map[string]any{"amount": 12000, "guide": "first loan"}}},
	} {
		for _, def := range defs {
			template := def.GetTemplate()
			for _, text := range []string{template.GetEmail().GetSubject(), template.GetEmail().GetHtml(), template.GetEmail().GetText(), template.GetWebhook().GetData()} {
				out, err := liquid.NewEngine().ParseAndRenderString(text, variables)
				require.NoError(t, err, def.GetName())
				if text == template.GetEmail().GetHtml() {
					require.NotContains(t, out, "<b>", "what people wrote is escaped in HTML")
				}
				if template.GetWebhook() != nil && text == template.GetWebhook().GetData() {
					require.True(t, json.Valid([]byte(out)), out)
				}
			}
		}
	}
}

func TestAnUnknownSetIsAnError(t *testing.T) {
	_, err := examples.Load("no-such-set")
	require.ErrorContains(t, err, "no-such-set")
}
