// Package engine carries one person through journeys. It is a state machine: from the person's state,
// one input (an event, a flip of a membership, a score, a timer that is due, a merge) and the time, it
// makes the new state and the effects: journey steps, sends and changes of timers. It does no I/O and
// reads no clock.
//
// It promises:
//   - The same state, input and time give the same effects, ids included, on any node.
//   - A person is at most once at a time in a journey, and stays on the version entered.
//   - Every wait ends exactly once: by its time, by what it waits for, or by an exit.
//   - An exit takes a person out in the same call in which its event or flip is seen.
//   - No send breaks a cap, falls in quiet hours, goes against consent, or goes to the hold-out; each one
//     that is held says why and lets the journey go on.
//   - A call ends: a journey that turns on the spot is left with the reason `loop`.
//   - A merge gives nobody a message twice.
//
// The scripts under processor/testdata show each behaviour; the property tests of this package hold it
// against oracles over random histories, journeys and merges.
package engine

import (
	"time"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/person"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/quiet"
)

// Reasons that the engine gives by itself.
const (
	ReasonCompleted       = "completed"
	ReasonExit            = "exit"
	ReasonLoop            = "loop"
	ReasonMerged          = "merged"
	ReasonDeleted         = "deleted"
	ReasonLost            = "definition_lost"
	ReasonActive          = "active"
	ReasonReentry         = "reentry"
	ReasonTooMany         = "too_many"
	ReasonTriggerTooLarge = "trigger_too_large"
	ReasonQuietHours      = "quiet_hours"
	ReasonUnreachable     = "unreachable"
	ReasonNoChannel       = "channel_missing"
	ReasonNoTemplate      = "template_missing"
	ReasonProfileTooLarge = "profile_too_large"
	ReasonHoldout         = "holdout"
)

// Names of ways in journey steps.
const (
	branchThen      = "then"
	branchOtherwise = "otherwise"
)

// Reach is what a channel needs to reach a person.
type Reach int

const (
	// ReachIdentifier is met by any identifier: the partner behind the channel knows the person by it.
	ReachIdentifier Reach = iota
	// ReachEmail needs an e-mail address, as an identifier or a trait.
	ReachEmail
)

// Tenant is the definitions of a tenant that are in force. It is immutable.
type Tenant struct {
	// Journeys are those in force; Defined names all that exist, those that do not compile included.
	Journeys *journey.Set
	Defined  map[string]bool
	// Known is false if there is no such tenant: then no journey counts as deleted.
	Known bool
	// Zone is the IANA time zone of persons who have none.
	Zone string
	// Caps and Quiet are the pressure policy; QuietHold holds a send in quiet hours, else it waits.
	Caps      []pressure.Cap
	Quiet     quiet.Hours
	QuietHold bool
	// Consent is the categories for which a person who has said nothing counts as one who has refused.
	Consent map[string]bool
	// Channels by name with what they need, and the names of templates.
	Channels  map[string]Reach
	Templates map[string]bool
}

func (t *Tenant) gone(journey string) bool { return t.Known && !t.Defined[journey] }

// Graphs finds the compiled graph of a version that is not in force any more. Thawing is pure, so an
// implementation may remember what it compiled.
type Graphs interface {
	Thaw(hash journey.Hash, frozen []byte) (*journey.Graph, error)
	// Known is a graph compiled before; nil if there is none.
	Known(hash journey.Hash) *journey.Graph
}

// Effects is what one call brings about besides the new state.
type Effects struct {
	Steps  []*journeyv1.JourneyStep
	Sends  []*deliveryv1.Send
	Timers []TimerChange
}

// TimerChange sets or, with a zero Due, cancels the timer of a journey or of Settling.
type TimerChange struct {
	// Journey names the timer; empty for the one that ends the wait for merges.
	Journey  string
	Instance string
	Due      time.Time
}

// Turn is one call: one input of one person at one time.
type Turn struct {
	// Effects are complete when the input's method has returned.
	Effects

	tenant *Tenant
	graphs Graphs
	person *person.Person
	now    time.Time
}

// NewTurn begins a call. The person's state is saved by the caller when the input has been handled.
func NewTurn(tenant *Tenant, graphs Graphs, p *person.Person, now time.Time) *Turn {
	return &Turn{tenant: tenant, graphs: graphs, person: p, now: now}
}

func (t *Turn) nowMs() int64 { return t.now.UnixMilli() }

// graph is the version that a passage follows. If its definition cannot be had any more, it is the one
// in force, provided that the person's step still exists there; else nil.
func (t *Turn) graph(inst *journeyv1.Instance) *journey.Graph { return t.graphOf(t.person, inst) }

// graphOf is graph for a passage whose frozen definition another side keeps.
func (t *Turn) graphOf(side *person.Person, inst *journeyv1.Instance) *journey.Graph {
	var hash journey.Hash
	copy(hash[:], inst.GetDefinitionHash())
	if current := t.tenant.Journeys.Get(inst.GetJourney()); current != nil && current.Hash == hash {
		return current
	}
	if known := t.graphs.Known(hash); known != nil {
		return known
	}
	if frozen, kept := side.Frozen(inst.GetDefinitionHash()); kept {
		if g, err := t.graphs.Thaw(hash, frozen); err == nil {
			return g
		}
	}
	current := t.tenant.Journeys.Get(inst.GetJourney())
	if current == nil {
		return nil
	}
	if _, ok := current.Index(inst.GetStep()); !ok {
		return nil
	}
	return current
}

// record notes a journey step.
func (t *Turn) record(inst *journeyv1.Instance, s *journeyv1.JourneyStep) {
	inst.Sequence++
	s.Tenant, s.ProfileId = t.person.Tenant, t.person.ID
	s.Journey, s.Version, s.InstanceId = inst.GetJourney(), inst.GetVersion(), inst.GetInstanceId()
	s.AtMs, s.Sequence = t.nowMs(), inst.GetSequence()
	t.Steps = append(t.Steps, s)
}

func (t *Turn) setTimer(inst *journeyv1.Instance) {
	t.Timers = append(t.Timers, TimerChange{Journey: inst.GetJourney(), Instance: inst.GetInstanceId(), Due: time.UnixMilli(inst.GetDueMs()).UTC()})
}

func (t *Turn) cancelTimer(journey string) {
	t.Timers = append(t.Timers, TimerChange{Journey: journey})
}
