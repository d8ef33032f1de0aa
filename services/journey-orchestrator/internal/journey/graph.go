// Package journey compiles the definition of a journey into a graph that the engine walks, and indexes
// the journeys of a tenant by what starts them.
//
// It promises: a compiled graph names only steps that exist, so walking it cannot fail; compiling is
// pure, and a frozen definition compiles to the same graph for ever; an event that starts no journey
// costs one look-up by its name. What it cannot compile it refuses with the path of the field.
package journey

import (
	"time"

	"github.com/sillage-cdp/sillage/pkg/rule"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/quiet"
)

// End is the index that stands for the end of the journey.
const End = -1

// Kind is what a step does.
type Kind int

// The kinds of steps.
const (
	// Wait waits for Step.For, or until Step.Until.
	Wait Kind = iota
	// WaitFor waits for Step.On, at most Step.For.
	WaitFor
	// Branch goes to Then or Otherwise.
	Branch
	// Split goes to the arm that a hash picks.
	Split
	// Send decides on a message.
	Send
	// Exit ends the journey.
	Exit
)

// Graph is one version of a journey, immutable and safe for concurrent use.
type Graph struct {
	// Tenant and Name are the journey's, Version its definition's.
	Tenant, Name string
	Version      int64
	// Hash names the frozen definition, Frozen is the definition itself, encoded.
	Hash   Hash
	Frozen []byte
	// Entry starts it; Where must hold as well, if not nil.
	Entry Trigger
	Where *rule.Profile
	// Reentry is how soon after leaving a person may enter again; Never if not at all.
	Reentry time.Duration
	// Steps are walked from the first.
	Steps []Step
	// Exits take people out wherever they stand.
	Exits []ExitRule

	index map[string]int
}

// Never is the Reentry of a journey that is entered once in a life.
const Never = time.Duration(-1)

// Index is the place of a step by its id; false if there is none.
func (g *Graph) Index(id string) (int, bool) {
	i, ok := g.index[id]
	return i, ok
}

// Trigger is an event or a flip of a membership. Exactly one of Event and Segment is set.
type Trigger struct {
	Event *rule.Filter
	// Segment is the name of the segment, Entered the way it flips.
	Segment string
	Entered bool
}

// Flips says whether a flip of a segment is this trigger's.
func (t *Trigger) Flips(segment string, entered bool) bool {
	return t.Event == nil && t.Segment == segment && t.Entered == entered
}

// ExitRule takes people out.
type ExitRule struct {
	// Reason names the exit.
	Reason string
	On     Trigger
}

// Step is one step. Indices are places in Graph.Steps or End.
type Step struct {
	// ID is the step's own.
	ID   string
	Kind Kind
	// Next is where a step without a way of its own goes on.
	Next int
	// Then and Otherwise are the ways of WaitFor and Branch; Otherwise also that of a Send that was held.
	Then, Otherwise int
	// For is the length of a Wait, or the time-out of a WaitFor.
	For time.Duration
	// Until is the time of day that a Wait with HasUntil waits for.
	Until    quiet.TimeOfDay
	HasUntil bool
	// On is what a WaitFor waits for.
	On Trigger
	// Where is the condition of a Branch, or nil if it asks for membership of Segment.
	Where   *rule.Profile
	Segment string
	// Salt stands for the split in the hash; Arms and Weights are its ways, in step.
	Salt    string
	Arms    []Arm
	Weights []int32
	// Message is what a Send sends.
	Message Message
	// Reason is that of an Exit.
	Reason string
}

// Arm is one way of a split.
type Arm struct {
	Name    string
	Next    int
	Holdout bool
}

// Message is what a send step sends.
type Message struct {
	Channel, Template, Category string
	Transactional               bool
}
