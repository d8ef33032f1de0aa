package evaluate

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// BenchmarkEvent is the cost of one event that every one of n live segments looks at: counts in windows
// of different lengths, abandonments and inactivities, each with a state of its own.
func BenchmarkEvent(b *testing.B) {
	for _, n := range []int{1, 200} {
		b.Run(fmt.Sprintf("segments=%d", n), func(b *testing.B) { benchmarkEvents(b, n, "view") })
	}
	b.Run("segments=200,looked at by none", func(b *testing.B) { benchmarkEvents(b, 200, "other") })
}

func benchmarkEvents(b *testing.B, segments int, name string) {
	var defs []*definitionv1.Definition
	for i := range segments {
		defs = append(defs, segmentDefinition(fmt.Sprintf("s%d", i), 1, benchCondition(i)))
	}
	program := condition.Compile(defs)
	require.Empty(b, program.Broken)
	const persons = 1000
	var p Person
	stores := make([]*entries, persons)
	for i := range stores {
		stores[i] = newEntries()
	}
	now := int64(1_750_000_000_000)
	h := newHappening("m", now, name, "")
	size := 0
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		now += 10
		h.event.Event.TimestampMs = now - 3
		store := stores[i%persons]
		if err := p.Begin(program, store, now); err != nil {
			b.Fatal(err)
		}
		if err := p.Event(h.event); err != nil {
			b.Fatal(err)
		}
		if _, err := p.Finish(); err != nil {
			b.Fatal(err)
		}
		size = len(store.values[entryAnswers])
	}
	b.ReportMetric(float64(size), "state-bytes")
}

func benchCondition(i int) *definitionv1.Condition {
	filter := &definitionv1.EventFilter{Event: "view"}
	length := fmt.Sprintf("%dm", i+1)
	switch i % 4 {
	case 0, 1:
		return &definitionv1.Condition{Performed: &definitionv1.Performed{Filter: filter, AtLeast: 3, Within: length}}
	case 2:
		done := &definitionv1.EventFilter{Event: "done"}
		return &definitionv1.Condition{Abandoned: &definitionv1.Abandoned{Started: filter, Finished: done, Within: length}}
	default:
		return &definitionv1.Condition{Inactive: &definitionv1.Inactive{Filter: filter, For: length}}
	}
}
