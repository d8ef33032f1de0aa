package condition

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

func segment(name string, c *definitionv1.Condition) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "acme", Name: name, Version: 1, Spec: &definitionv1.Definition_Segment{
		Segment: &definitionv1.Segment{Condition: c},
	}}
}

func did(event, within string) *definitionv1.Condition {
	return &definitionv1.Condition{Performed: &definitionv1.Performed{Filter: &definitionv1.EventFilter{Event: event}, Within: within}}
}

func refer(name string) *definitionv1.Condition { return &definitionv1.Condition{Segment: name} }

// TestSharesEqualConditions asks that equal sub-conditions, however written, are one leaf with one filter.
func TestSharesEqualConditions(t *testing.T) {
	spelled := did("view", "7d")
	spelled.Performed.AtLeast = 1
	spelled.Performed.Filter.Type = "track"
	spelled.Performed.Within = "1w"
	both := &definitionv1.Condition{All: []*definitionv1.Condition{did("view", "7d"), did("buy", "")}}
	turned := &definitionv1.Condition{All: []*definitionv1.Condition{did("buy", ""), spelled, spelled}}
	p := Compile([]*definitionv1.Definition{segment("a", both), segment("b", turned), segment("c", refer("a"))})
	require.Empty(t, p.Broken)
	require.Len(t, p.Leaves, 2)
	require.Len(t, p.filters, 2)
	require.Equal(t, p.Segments[0].Root, p.Segments[1].Root)
	require.Equal(t, p.Segments[0].Root, p.Segments[2].Root)
}

// TestIdentities asks that what a state is keyed by survives changes elsewhere, and that the revision
// tells conditions apart but not versions.
func TestIdentities(t *testing.T) {
	one := Compile([]*definitionv1.Definition{segment("a", did("view", "7d"))})
	more := Compile([]*definitionv1.Definition{segment("z", did("view", "7d")), segment("a", did("buy", "7d"))})
	require.Contains(t, []uint64{more.Leaves[0].ID, more.Leaves[1].ID}, one.Leaves[0].ID)
	require.Less(t, more.Leaves[0].ID, more.Leaves[1].ID)
	require.NotEqual(t, one.Revision, more.Revision)
	next := segment("a", did("view", "7d"))
	next.Version = 2
	require.Equal(t, one.Revision, Compile([]*definitionv1.Definition{next}).Revision)
	require.NotEqual(t, one.Revision, Compile([]*definitionv1.Definition{segment("b", did("view", "7d"))}).Revision)
}

// TestBroken asks that what cannot be compiled takes only what refers to it along.
func TestBroken(t *testing.T) {
	p := Compile([]*definitionv1.Definition{
		segment("ok", did("view", "7d")),
		segment("cycle-a", refer("cycle-b")),
		segment("cycle-b", &definitionv1.Condition{Not: refer("cycle-a")}),
		segment("refers", refer("cycle-a")),
		segment("missing", refer("nowhere")),
		segment("empty", nil),
		segment("window", did("view", "7 parsecs")),
		segment("cel", &definitionv1.Condition{Where: "traits."}),
		segment("count", &definitionv1.Condition{Performed: &definitionv1.Performed{AtLeast: -1}}),
	})
	require.Len(t, p.Segments, 1)
	for name, want := range map[string]string{
		"cycle-a": "itself", "cycle-b": "itself", "refers": "itself", "missing": `"nowhere"`, "empty": "empty",
		"window": "performed: within", "cel": "where", "count": "negative",
	} {
		require.ErrorContains(t, p.Broken[name], want)
		require.True(t, p.Knows(name))
	}
	require.Len(t, p.Broken, 8)
	require.True(t, p.Knows("ok"))
	require.False(t, p.Knows("nowhere"))
}

// TestInactiveWithoutFilter looks at every event of the person's own and none of Sillage's.
func TestInactiveWithoutFilter(t *testing.T) {
	p := Compile([]*definitionv1.Definition{segment("idle", &definitionv1.Condition{Inactive: &definitionv1.Inactive{
		For: "30d", Filter: &definitionv1.EventFilter{},
	}})})
	own := &eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_PAGE, Name: "Home"}
	require.Len(t, p.Match(nil, own.GetName(), rule.NewEvent(own)), 1)
	sent := &eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Message Delivered", Internal: true}
	require.Empty(t, p.Match(nil, sent.GetName(), rule.NewEvent(sent)))
}

// TestReadme compiles what the README shows.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(readme, -1)
	require.NotEmpty(t, blocks)
	for i, block := range blocks {
		defs, err := definition.ParseYAML(strings.NewReader(string(block[1])), fmt.Sprintf("block %d", i))
		require.NoError(t, err)
		p := Compile(append(defs, segment("staff", did("badge", "1d"))))
		require.Empty(t, p.Broken)
		require.Len(t, p.Segments, 2)
	}
}
