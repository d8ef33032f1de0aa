package evaluate

import (
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/rule"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// Names of the entries of a profile's state.
const (
	entryAnswers = "answers"
	entryMembers = "members"
	entryFacts   = "facts"
	entryMerge   = "merge"
)

// maxInstant bounds timestamps on both sides of the epoch, so that adding durations cannot overflow.
const maxInstant = int64(1) << 52

// Reader reads the state of one profile.
type Reader interface {
	Get(name string) ([]byte, bool)
}

// Store reads and writes the state of one profile. Values given to Put are copied; those from Get are
// valid until the next call.
type Store interface {
	Reader
	Put(name string, value []byte)
	Delete(name string)
}

// Cause is why memberships flip.
type Cause struct {
	// Kind is what made them flip.
	Kind segmentv1.Cause
	// ID is the message id or the merge id.
	ID string
	// Historical tells that the event is history.
	Historical bool
}

// Flip is a membership that changed.
type Flip struct {
	Segment string
	Version int64
	// Entered is true if the profile is in the segment now.
	Entered bool
	// AtMs is when it became so.
	AtMs  int64
	Cause Cause
}

// Merge names a merge of profiles.
type Merge struct {
	ID string
	// AtMs is when it was decided.
	AtMs int64
}

// Person is the working state of one profile. One Person serves many profiles in turn: Begin, then what
// happened, then Finish. It is not safe for concurrent use.
type Person struct {
	program *condition.Program
	store   Store
	now     int64

	stored bool  // there was state
	dirty  bool  // there is something to write
	ending bool  // the state is about to go to another profile, whole
	asOf   int64 // the time up to which everything is evaluated
	first  int64 // timestamp of the earliest event
	armed  int64 // due time of the timer that is set; Forever if none
	next   int64 // the next instant at which an answer may change

	answers []condition.Answer // of leaves
	nodes   []condition.Answer
	work    []leafWork
	active  []int32 // leaves over events that remember something
	touched []int32 // leaves that the event in hand changed
	due     []int32 // leaves that may change by now: touched or active
	whole   bool    // all active leaves must be gone through, whatever the timer says
	horizon int64   // no other leaf changes before it
	members []bool  // by segment
	facts   facts
	ledger  ledger
	flips   []Flip
	dropped int

	event   rule.Event
	hits    []condition.Hit
	encoded []byte
}

// leafWork is a leaf's data in hand.
type leafWork struct {
	data   condition.Data
	next   int64
	active bool
}

// Begin takes up a profile: its program, its state and the time.
func (p *Person) Begin(program *condition.Program, store Store, now int64) error {
	p.reset(program, store)
	raw, ok := store.Get(entryAnswers)
	p.stored = ok
	p.now = now
	if !ok {
		return nil
	}
	revision, err := p.decodeAnswers(raw)
	if err != nil {
		return fmt.Errorf("decoding the state of a profile: %w", err)
	}
	p.now = max(now, p.asOf)
	if revision != program.Revision {
		return p.redefine()
	}
	return nil
}

func (p *Person) reset(program *condition.Program, store Store) {
	for _, i := range p.active {
		work := &p.work[i]
		work.data.First, work.data.Second, work.active = work.data.First[:0], work.data.Second[:0], false
	}
	p.active = p.active[:0]
	if p.program != program {
		p.work = make([]leafWork, len(program.Leaves))
		p.answers = make([]condition.Answer, len(program.Leaves))
		p.nodes = make([]condition.Answer, len(program.Nodes))
		p.members = make([]bool, len(program.Segments))
		p.program = program
	}
	copy(p.answers, program.Defaults)
	clear(p.members)
	p.store = store
	p.stored, p.dirty, p.ending, p.dropped = false, false, false, 0
	p.asOf, p.first, p.armed, p.next = window.Never, window.Forever, window.Forever, window.Forever
	p.facts, p.ledger = facts{due: window.Forever}, ledger{}
	p.flips, p.touched, p.due, p.whole = p.flips[:0], p.touched[:0], nil, false
}

// Event takes an event in.
func (p *Person) Event(ev *profilev1.ResolvedEvent) error {
	event := ev.GetEvent()
	at := event.GetTimestampMs()
	if at < -maxInstant || at > maxInstant {
		return fmt.Errorf("timestamp %d is out of range", at)
	}
	p.event.Reset(event)
	p.hits = p.program.Match(p.hits[:0], event.GetName(), &p.event)
	stated := len(p.program.Wheres) > 0 && statesFacts(event)
	if len(p.hits) == 0 && !stated && (event.GetBot() || p.indifferent(at)) {
		return nil
	}
	cause := Cause{Kind: segmentv1.Cause_CAUSE_EVENT, ID: event.GetMessageId(), Historical: event.GetHistorical()}
	if cause.Historical {
		// History tells who is in now; entries and exits of long ago are nobody's news.
		p.advance(window.Never, cause)
	}
	if at < p.first {
		p.first, p.dirty = at, true
	}
	late := at <= p.asOf
	p.observe(at)
	if stated {
		if err := p.state(ev, late); err != nil {
			return err
		}
	}
	if late {
		p.reconsider(at, cause)
	}
	p.advance(at, cause)
	return p.facts.err
}

// indifferent tells that an event which no condition looks at changes nothing: nobody becomes a member
// by merely appearing, or has appeared already, and nothing is due.
func (p *Person) indifferent(at int64) bool {
	if !p.stored {
		return !p.program.Entered
	}
	return !p.dirty && p.first <= at && p.armed > p.now
}

// Tick lets time pass. It is called when the timer fires, and forgets that it was set.
func (p *Person) Tick() error {
	if !p.stored {
		return nil
	}
	if p.armed <= p.now {
		p.armed, p.dirty, p.whole = window.Forever, true, true
	}
	p.advance(window.Never, Cause{})
	return p.facts.err
}

// observe puts an event down in every leaf that counts it.
func (p *Person) observe(at int64) {
	for _, hit := range p.hits {
		work := p.activate(hit.Leaf)
		if p.program.Leaves[hit.Leaf].Observe(&work.data, hit.Role, at, p.asOf) {
			p.dirty = true
			p.touched = append(p.touched, hit.Leaf)
		}
	}
}

func (p *Person) activate(leaf int32) *leafWork {
	work := &p.work[leaf]
	if !work.active {
		work.active = true
		p.active = append(p.active, leaf)
	}
	return work
}

// reconsider answers anew, as of now, what a late event changed.
func (p *Person) reconsider(at int64, cause Cause) {
	for _, i := range p.touched {
		verdict := p.program.Leaves[i].At(&p.work[i].data, p.asOf)
		if verdict.Holds == p.answers[i].Holds {
			continue
		}
		since := verdict.Since
		if since == window.Never {
			since = at
		}
		p.answers[i] = condition.Answer{Holds: verdict.Holds, Since: since}
	}
	p.judgeFacts(at)
	p.settle(cause, false)
}

// advance evaluates every instant up to now. A flip at the instant of the event in hand has its cause,
// any other one is the work of time.
func (p *Person) advance(event int64, cause Cause) {
	p.schedule(event)
	for p.next <= p.now && p.facts.err == nil {
		at := p.next
		p.asOf = at
		changed := p.step(at)
		if changed || at == p.first {
			why := cause
			if at != event {
				why = Cause{Kind: segmentv1.Cause_CAUSE_TIMER}
			}
			p.settle(why, true)
		}
	}
	p.asOf = max(p.asOf, p.now)
}

// schedule finds the next instant of every leaf that may have one by now, and the earliest of all. The
// timer is never set later than any leaf's next instant: while it is not due, only the leaves that the
// event in hand touched can have something to say, and they had nothing to say before it.
func (p *Person) schedule(event int64) {
	quick := !p.whole && p.armed > p.now && p.first <= p.asOf
	p.due, p.next = p.active, p.facts.due
	if quick {
		p.due, p.next = p.touched, min(p.armed, p.facts.due)
	}
	if p.first > p.asOf {
		p.next = min(p.next, p.first)
	}
	for _, i := range p.due {
		work := &p.work[i]
		if quick && event > p.asOf {
			work.next = event
		} else {
			work.next = p.program.Leaves[i].At(&work.data, p.asOf).Next
		}
		p.next = min(p.next, work.next)
	}
	p.horizon = window.Forever
	if quick {
		p.horizon = p.armed
	}
}

// step answers anew what may change at an instant, and finds the next one. It reports whether anything did.
func (p *Person) step(at int64) bool {
	changed := false
	if p.facts.due <= at {
		p.foldDue(at)
		changed = p.judgeFacts(at)
	}
	p.next = min(p.horizon, p.facts.due)
	if p.first > at {
		p.next = min(p.next, p.first)
	}
	for _, i := range p.due {
		work := &p.work[i]
		if work.next <= at {
			verdict := p.program.Leaves[i].At(&work.data, at)
			work.next = verdict.Next
			if verdict.Holds != p.answers[i].Holds {
				p.answers[i] = condition.Answer{Holds: verdict.Holds, Since: at}
				changed = true
			}
		}
		p.next = min(p.next, work.next)
	}
	p.dirty = p.dirty || changed
	return changed
}

// settle evaluates the segments and notes the flips: with exact at asOf, else since the answer is so.
func (p *Person) settle(cause Cause, exact bool) {
	at := int64(window.Never)
	if exact {
		at = p.asOf
	}
	p.settleAt(at, cause)
}

// settleAt is settle for flips at a given instant, Never for since the answer is so.
func (p *Person) settleAt(at int64, cause Cause) {
	p.program.Evaluate(p.nodes, p.answers)
	exists := p.first <= p.asOf
	for i := range p.program.Segments {
		segment := &p.program.Segments[i]
		answer := p.nodes[segment.Root]
		in := exists && answer.Holds
		if in == p.members[i] {
			continue
		}
		when := at
		if at == window.Never {
			when = min(max(answer.Since, p.first), p.asOf)
		}
		p.members[i] = in
		p.flip(segment, in, when, cause)
	}
}

// flip notes a flip, in the ledger too, not before the last one of the segment.
func (p *Person) flip(segment *condition.Segment, in bool, at int64, cause Cause) {
	p.dirty = true
	entry := p.told().entry(segment.Name)
	entry.in, entry.version, entry.at = in, segment.Version, max(at, entry.at)
	p.flips = append(p.flips, Flip{Segment: segment.Name, Version: segment.Version, Entered: in, AtMs: entry.at, Cause: cause})
}

// redefine answers everything anew after the segments changed. What a leaf that lives on remembers is
// kept; segments that are gone are left.
func (p *Person) redefine() error {
	p.dirty, p.whole = true, true
	p.asOf = p.now
	if err := p.openFacts(); err != nil {
		return err
	}
	p.foldDue(p.asOf)
	for _, i := range p.active {
		verdict := p.program.Leaves[i].At(&p.work[i].data, p.asOf)
		if verdict.Holds != p.answers[i].Holds {
			p.answers[i] = condition.Answer{Holds: verdict.Holds, Since: p.asOf}
		}
	}
	p.judgeFacts(p.asOf)
	cause := Cause{Kind: segmentv1.Cause_CAUSE_DEFINITION}
	for i := range p.program.Segments {
		p.members[i] = p.told().holds(p.program.Segments[i].Name)
	}
	p.leaveDeleted(cause)
	p.settle(cause, true)
	return p.ledger.err
}
