// Package label gives values their word: the label with the highest threshold that a value reaches.
// Labels are immutable and safe for concurrent use.
package label

import (
	"cmp"
	"slices"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Labels are thresholds with their words, lowest first.
type Labels []Label

// Label is a word for values from a threshold on.
type Label struct {
	From float64
	Name string
}

// New sorts the labels of a definition. Of two with the same threshold the later one counts.
func New(defs []*definitionv1.Label) Labels {
	labels := make(Labels, 0, len(defs))
	for _, def := range defs {
		labels = append(labels, Label{From: def.GetFrom(), Name: def.GetName()})
	}
	slices.SortStableFunc(labels, func(a, b Label) int { return cmp.Compare(a.From, b.From) })
	return labels
}

// Rank is the number of thresholds that a value reaches.
func (l Labels) Rank(value float64) int {
	rank := 0
	for rank < len(l) && value >= l[rank].From {
		rank++
	}
	return rank
}

// Of is the word for a value, empty if it reaches no threshold.
func (l Labels) Of(value float64) string {
	if rank := l.Rank(value); rank > 0 {
		return l[rank-1].Name
	}
	return ""
}
