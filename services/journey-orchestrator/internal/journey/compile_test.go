package journey_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
)

func define(spec *definitionv1.Journey) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "bank", Name: "tour", Version: 3, Description: "for people", AppliedAtMs: 7, Spec: &definitionv1.Definition_Journey{Journey: spec}}
}

func onStart() *definitionv1.Entry {
	return &definitionv1.Entry{Event: &definitionv1.EventFilter{Event: "Start"}}
}

// TestWays: an empty way is `next`, an empty next the following step, and after the last one the end.
func TestWays(t *testing.T) {
	g, err := journey.Compile(define(&definitionv1.Journey{Entry: onStart(), Reentry: "7d", Steps: []*definitionv1.Step{
		{Id: "a", Branch: &definitionv1.Branch{Segment: "vip", Then: "c"}},
		{Id: "b", Next: "a", WaitFor: &definitionv1.WaitFor{Event: &definitionv1.EventFilter{Event: "X"}, Within: "1h", Otherwise: "c"}},
		{Id: "c", Send: &definitionv1.SendStep{Channel: "email", Template: "hello"}},
	}}))
	require.NoError(t, err)
	require.Equal(t, []int{2, 1}, []int{g.Steps[0].Then, g.Steps[0].Otherwise})
	require.Equal(t, []int{0, 2}, []int{g.Steps[1].Then, g.Steps[1].Otherwise})
	require.Equal(t, []int{journey.End, journey.End}, []int{g.Steps[2].Next, g.Steps[2].Otherwise})
	require.Equal(t, "marketing", g.Steps[2].Message.Category)
	named, anyName := journey.NewSet([]*journey.Graph{g}).ByEvent("Start")
	require.Equal(t, []*journey.Graph{g}, named)
	require.Empty(t, anyName)
}

// TestThaw: a frozen definition compiles to the same graph, and what only people read does not change it.
func TestThaw(t *testing.T) {
	def := define(&definitionv1.Journey{DisplayName: "Tour", Entry: onStart(), Steps: []*definitionv1.Step{{Id: "w", Wait: &definitionv1.Wait{Until: "09:00"}}}})
	g, err := journey.Compile(def)
	require.NoError(t, err)
	thawed, err := journey.Thaw(g.Frozen)
	require.NoError(t, err)
	require.Equal(t, g.Hash, thawed.Hash)
	require.Equal(t, g.Steps, thawed.Steps)
	require.Equal(t, int64(3), thawed.Version)

	def.Description, def.GetJourney().DisplayName, def.AppliedAtMs = "", "Other", 8
	same, err := journey.Compile(def)
	require.NoError(t, err)
	require.Equal(t, g.Hash, same.Hash)
	def.GetJourney().Steps[0].Wait.Until = "10:00"
	changed, err := journey.Compile(def)
	require.NoError(t, err)
	require.NotEqual(t, g.Hash, changed.Hash)
}

// TestErrors: everything that is wrong is said at once, each with its field.
func TestErrors(t *testing.T) {
	_, err := journey.Compile(define(&definitionv1.Journey{
		Entry: &definitionv1.Entry{Where: "traits.("}, Reentry: "often",
		Exits: []*definitionv1.ExitRule{{Segment: &definitionv1.SegmentFlip{Name: "vip", On: "sometimes"}}},
		Steps: []*definitionv1.Step{
			{Id: "a", Wait: &definitionv1.Wait{For: "0s"}},
			{Id: "a", Wait: &definitionv1.Wait{For: "1h", Until: "09:00"}},
			{Id: "b", Next: "nowhere", Branch: &definitionv1.Branch{}},
			{Id: "c", Split: &definitionv1.Split{Arms: []*definitionv1.Arm{{Name: "x"}}}},
			{Id: "d", Send: &definitionv1.SendStep{}},
			{Id: "e"},
			{Id: "f", WaitFor: &definitionv1.WaitFor{Event: &definitionv1.EventFilter{Type: "song"}, Within: "1h"}},
		},
	}))
	for _, want := range []string{
		"entry: exactly one of event and segment", "entry.where", "reentry", "exits[0].segment.on",
		"steps[0].wait.for: must be longer than 0s", `steps[1].id: "a" is empty or used twice`, "steps[1].wait: exactly one",
		`steps[2].next: there is no step "nowhere"`, "steps[2].branch: exactly one", "steps[3].split.arms: there must be at least two",
		"steps[3].split.arms[0].weight: must be positive", "steps[4].send: channel and template", "steps[5]: exactly one of wait", "steps[6].wait_for.event",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = journey.Compile(define(&definitionv1.Journey{Entry: onStart()}))
	require.ErrorContains(t, err, "steps: there must be at least one")
}

// FuzzThaw: whatever bytes a state holds, thawing ends in a graph or an error.
func FuzzThaw(f *testing.F) {
	g, err := journey.Compile(define(&definitionv1.Journey{Entry: onStart(), Steps: []*definitionv1.Step{{Id: "w", Wait: &definitionv1.Wait{For: "1h"}}}}))
	require.NoError(f, err)
	f.Add(g.Frozen)
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, frozen []byte) {
		if g, err := journey.Thaw(frozen); err == nil {
			require.NotEmpty(t, g.Steps)
		}
	})
}
