package processor_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
)

// TestReadme: the examples of the README are valid together, compile, and show every kind of step.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	var defs []*definitionv1.Definition
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		parsed, err := definition.ParseYAML(strings.NewReader(block[1]), "README.md")
		require.NoError(t, err)
		defs = append(defs, parsed...)
	}
	require.NoError(t, definition.ValidateAll(definition.NewSnapshot(defs...)))
	kinds := map[journey.Kind]bool{}
	for _, def := range defs {
		if def.GetJourney() == nil {
			continue
		}
		g, err := journey.Compile(def)
		require.NoError(t, err)
		for _, step := range g.Steps {
			kinds[step.Kind] = true
		}
	}
	require.Len(t, kinds, 6)
}
