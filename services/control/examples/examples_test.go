package examples_test

import (
	"bytes"
	"testing"

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

func TestAnUnknownSetIsAnError(t *testing.T) {
	_, err := examples.Load("no-such-set")
	require.ErrorContains(t, err, "no-such-set")
}
