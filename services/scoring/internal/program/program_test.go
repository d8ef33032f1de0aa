package program

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/rule"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

func score(name string, spec *definitionv1.Score) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "acme", Name: name, Version: 1, Spec: &definitionv1.Definition_Score{Score: spec}}
}

func heatOf(halfLife string, points float64, labels ...*definitionv1.Label) *definitionv1.Score {
	return &definitionv1.Score{Heat: &definitionv1.Heat{
		HalfLife: halfLife, Labels: labels,
		Rules: []*definitionv1.HeatRule{{Filter: &definitionv1.EventFilter{Event: "view"}, Points: points}},
	}}
}

// TestIdentities asks that labels may change under a state and rules may not.
func TestIdentities(t *testing.T) {
	compile := func(s *definitionv1.Score) *Program { return Compile([]*definitionv1.Definition{score("a", s)}) }
	plain := compile(heatOf("1d", 1))
	labelled := compile(heatOf("1d", 1, &definitionv1.Label{From: 1, Name: "warm"}))
	require.Equal(t, plain.Scores[0].ID, labelled.Scores[0].ID)
	require.NotEqual(t, plain.Revision, labelled.Revision)
	require.NotEqual(t, plain.Scores[0].ID, compile(heatOf("2d", 1)).Scores[0].ID)
	require.NotEqual(t, plain.Scores[0].ID, compile(heatOf("1d", 2)).Scores[0].ID)
	require.Equal(t, plain.Revision, compile(heatOf("24h", 1)).Revision)
}

// TestBroken asks that what cannot be compiled harms nothing else.
func TestBroken(t *testing.T) {
	p := Compile([]*definitionv1.Definition{
		score("ok", heatOf("1d", 1)), score("empty", &definitionv1.Score{}), score("never", heatOf("", 1)),
		score("cel", &definitionv1.Score{Rfm: &definitionv1.Rfm{Purchase: &definitionv1.EventFilter{Where: "properties."}}}),
	})
	require.Len(t, p.Scores, 1)
	require.ErrorContains(t, p.Broken["empty"], "heat or rfm")
	require.ErrorContains(t, p.Broken["never"], "heat: half_life")
	require.ErrorContains(t, p.Broken["cel"], "rfm.purchase: where")
	at, found := p.Find("ok")
	require.True(t, found)
	require.Zero(t, at)
}

// TestReadme compiles what the README shows.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(readme, -1)
	require.Len(t, blocks, 2)
	for i, block := range blocks {
		defs, err := definition.ParseYAML(strings.NewReader(string(block[1])), fmt.Sprintf("block %d", i))
		require.NoError(t, err)
		p := Compile(defs)
		require.Empty(t, p.Broken)
		require.Len(t, p.Scores, 1)
		ev := &eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Order Completed"}
		require.Len(t, p.Match(nil, ev.GetName(), rule.NewEvent(ev)), i)
	}
	require.Equal(t, int64(30*24*3600*1000), scaled(30, 24*3600*1000))
}
