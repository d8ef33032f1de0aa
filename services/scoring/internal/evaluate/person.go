package evaluate

import (
	"fmt"
	"math"
	"slices"

	"github.com/sillage-cdp/sillage/pkg/rule"
	"github.com/sillage-cdp/sillage/services/scoring/internal/heat"
	"github.com/sillage-cdp/sillage/services/scoring/internal/program"
	"github.com/sillage-cdp/sillage/services/scoring/internal/rfm"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// Names of the entries of a profile's state.
const (
	entryScores = "scores"
	entryMerge  = "merge"
)

const (
	// Never is before every instant.
	Never = math.MinInt64 / 4
	// Forever is after every instant.
	Forever = math.MaxInt64 / 4
	// maxInstant bounds timestamps on both sides of the epoch, so that adding durations cannot overflow.
	maxInstant = int64(1) << 52
)

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

// Cause is why a score changed.
type Cause struct {
	// Kind is what changed it.
	Kind segmentv1.Cause
	// ID is the message id or the merge id.
	ID string
	// Historical tells that the event is history.
	Historical bool
}

// Change is a score with a new value.
type Change struct {
	Score   string
	Version int64
	Value   float64
	Label   string
	// AtMs is the time as of which the value holds.
	AtMs  int64
	Cause Cause
	// Removed tells that the score no longer exists for this profile.
	Removed bool
	// Rfm is what an rfm is made of; nil for other scores.
	Rfm *rfm.Reading
}

// Outcome is what came of a call.
type Outcome struct {
	// Changes are in order of time. Valid until the next Begin.
	Changes []Change
	// Due is when the timer is to be set; Forever if it stays as it is.
	Due int64
}

// Merge names a merge of profiles.
type Merge struct {
	ID string
	// AtMs is when it was decided.
	AtMs int64
}

// entry is the state of one score.
type entry struct {
	name    string
	id      uint64
	kind    program.Kind
	version int64
	told    bool    // a value was told
	value   float64 // last told
	label   string  // last told
	heat    heat.State
	rfm     rfm.State
}

// Person is the working state of one profile. One Person serves many profiles in turn: Begin, then what
// happened, then Finish. It is not safe for concurrent use.
type Person struct {
	program *program.Program
	store   Store

	stored bool  // there was state
	dirty  bool  // there is something to write
	now    int64 // the time as of which scores are evaluated; never before asOf
	asOf   int64 // the time last written
	armed  int64 // due time of the timer that is set; Forever if none
	next   int64 // the next instant that a changed score asks for

	entries []entry // in order of name
	changes []Change
	event   rule.Event
	hits    []program.Hit
	encoded []byte
}

// Begin takes up a profile: its program, its state and the time.
func (p *Person) Begin(prog *program.Program, store Store, now int64) error {
	p.program, p.store, p.now = prog, store, now
	p.dirty, p.asOf, p.armed, p.next = false, Never, Forever, Forever
	p.entries, p.changes = p.entries[:0], p.changes[:0]
	raw, ok := store.Get(entryScores)
	if p.stored = ok; !ok {
		return nil
	}
	revision, err := p.decode(raw)
	if err != nil {
		return fmt.Errorf("decoding the scores of a profile: %w", err)
	}
	p.now = max(now, p.asOf)
	if revision != prog.Revision {
		p.redefine()
	}
	return nil
}

// Event takes an event in.
func (p *Person) Event(ev *eventv1.Event) error {
	at := ev.GetTimestampMs()
	if at < -maxInstant || at > maxInstant {
		return fmt.Errorf("timestamp %d is out of range", at)
	}
	p.event.Reset(ev)
	p.hits = p.program.Match(p.hits[:0], ev.GetName(), &p.event)
	cause := Cause{Kind: segmentv1.Cause_CAUSE_EVENT, ID: ev.GetMessageId(), Historical: ev.GetHistorical()}
	for hits := p.hits; len(hits) > 0; {
		n := 1
		for n < len(hits) && hits[n].Score == hits[0].Score {
			n++
		}
		p.earn(hits[:n], at, ev.GetValueMicros(), cause)
		hits = hits[n:]
	}
	return nil
}

// earn lets an event count for one score.
func (p *Person) earn(hits []program.Hit, at, micros int64, cause Cause) {
	score := &p.program.Scores[hits[0].Score]
	e := p.entry(score)
	p.pass(score, e)
	p.advance(score, e)
	waiting := len(e.heat.Future) + len(e.rfm.Deals)
	changed := false
	switch score.Kind {
	case program.Heat:
		points := 0.0
		for _, hit := range hits {
			points += hit.Points
		}
		changed = score.Heat.Add(&e.heat, points, at)
	case program.Rfm:
		for _, hit := range hits {
			changed = score.Rfm.Add(&e.rfm, rfm.Deal{At: at, Micros: micros, Refund: hit.Refund}) || changed
		}
	}
	p.dirty = p.dirty || len(e.heat.Future)+len(e.rfm.Deals) != waiting
	p.next = min(p.next, next(score, e))
	if changed {
		p.tell(score, e, p.now, cause)
	}
}

// entry is the state of a score, made if it is not there.
func (p *Person) entry(score *program.Score) *entry {
	at, found := p.find(score.Name)
	if !found {
		p.entries = slices.Insert(p.entries, at, entry{
			name: score.Name, id: score.ID, kind: score.Kind, heat: heat.State{At: p.now}, rfm: rfm.NewState(p.now),
		})
	}
	return &p.entries[at]
}

// advance evaluates a score as of now.
func (p *Person) advance(score *program.Score, e *entry) {
	if score.Kind == program.Heat {
		score.Heat.Advance(&e.heat, p.now)
	} else {
		score.Rfm.Advance(&e.rfm, p.now)
	}
}

// next is the earliest instant at which a score may have something to tell.
func next(score *program.Score, e *entry) int64 {
	if score.Kind == program.Heat {
		return score.Heat.Next(&e.heat)
	}
	return score.Rfm.Next(&e.rfm)
}

// tell notes the value of a score. Told of anything but time, it supersedes what the same call told of it before.
func (p *Person) tell(score *program.Score, e *entry, at int64, cause Cause) {
	change := Change{Score: score.Name, Version: score.Version, AtMs: at, Cause: cause}
	if score.Kind == program.Heat {
		change.Value = e.heat.Value
		change.Label = score.Heat.Labels.Of(change.Value)
	} else {
		reading := score.Rfm.Read(&e.rfm)
		change.Rfm, change.Value, change.Label = &reading, reading.Value, score.Rfm.Label(reading)
	}
	e.told, e.value, e.label, e.version = true, change.Value, change.Label, score.Version
	p.dirty = true
	if cause.Kind != segmentv1.Cause_CAUSE_TIMER {
		p.changes = slices.DeleteFunc(p.changes, func(c Change) bool { return c.Score == score.Name })
	}
	p.changes = append(p.changes, change)
}

// Tick lets time pass. It is called when the timer fires, and forgets that it was set.
func (p *Person) Tick() {
	if !p.stored {
		return
	}
	if p.armed <= p.now {
		p.armed, p.dirty = Forever, true
	}
	for i := range p.entries {
		e := &p.entries[i]
		if at, found := p.program.Find(e.name); found {
			p.pass(&p.program.Scores[at], e)
		}
	}
	slices.SortStableFunc(p.changes, func(a, b Change) int { return int(a.AtMs - b.AtMs) })
}

// pass walks a score through every instant up to now at which there may be something to tell.
func (p *Person) pass(score *program.Score, e *entry) {
	for {
		at := next(score, e)
		if at > p.now {
			p.next = min(p.next, at)
			return
		}
		if p.step(score, e, at) {
			p.tell(score, e, at, Cause{Kind: segmentv1.Cause_CAUSE_TIMER})
		}
	}
}

// step evaluates a score as of an instant and reports whether there is something to tell.
func (p *Person) step(score *program.Score, e *entry, at int64) bool {
	if score.Kind == program.Rfm {
		before := score.Rfm.Read(&e.rfm)
		score.Rfm.Advance(&e.rfm, at)
		return !e.told || score.Rfm.Read(&e.rfm) != before
	}
	waiting := len(e.heat.Future)
	score.Heat.Advance(&e.heat, at)
	p.dirty = p.dirty || len(e.heat.Future) != waiting
	return len(e.heat.Future) != waiting || score.Heat.Labels.Of(e.heat.Value) != e.label
}

// redefine goes over the scores after they changed: what is gone, or computed otherwise, is removed; of
// what lives on, new values and labels are told.
func (p *Person) redefine() {
	p.dirty = true
	cause := Cause{Kind: segmentv1.Cause_CAUSE_DEFINITION}
	kept := p.entries[:0]
	for _, e := range p.entries {
		at, found := p.program.Find(e.name)
		switch {
		case found && p.program.Scores[at].ID == e.id:
			kept = append(kept, e)
		case !found && p.program.Broken[e.name] != nil:
			kept = append(kept, e)
		case e.told:
			p.changes = append(p.changes, removed(&e, p.now, cause))
		}
	}
	clear(p.entries[len(kept):])
	p.entries = kept
	for i := range p.entries {
		e := &p.entries[i]
		at, found := p.program.Find(e.name)
		if !found {
			continue
		}
		score := &p.program.Scores[at]
		p.pass(score, e)
		p.advance(score, e)
		if e.told && p.differs(score, e) {
			p.tell(score, e, p.now, cause)
		}
	}
}

// differs reports whether a label, or the marks of an rfm, are others than those told.
func (p *Person) differs(score *program.Score, e *entry) bool {
	if score.Kind == program.Heat {
		return score.Heat.Labels.Of(e.heat.Value) != e.label
	}
	reading := score.Rfm.Read(&e.rfm)
	return reading.Value != e.value || score.Rfm.Label(reading) != e.label
}

func removed(e *entry, at int64, cause Cause) Change {
	return Change{Score: e.name, Version: e.version, AtMs: at, Cause: cause, Removed: true}
}

// Leave ends the profile in hand: its scores are removed because of the merge, which is noted for the
// profile that absorbs it.
func (p *Person) Leave(merge Merge) {
	if !p.stored {
		return
	}
	cause := Cause{Kind: segmentv1.Cause_CAUSE_MERGE, ID: merge.ID}
	// What was just told of changed definitions is superseded.
	p.changes = slices.DeleteFunc(p.changes, func(c Change) bool { return !c.Removed })
	for i := range p.entries {
		if e := &p.entries[i]; e.told {
			p.changes = append(p.changes, removed(e, p.now, cause))
		}
	}
	p.dirty = true
	p.store.Put(entryMerge, encodeMerge(merge))
}

// Absorb takes the state of a profile that ended into the one in hand, as if the events of both had
// always been one person's.
func (p *Person) Absorb(src Reader) error {
	raw, ok := src.Get(entryScores)
	if !ok {
		return nil
	}
	other := &Person{}
	if _, err := other.decode(raw); err != nil {
		return fmt.Errorf("decoding the scores of the absorbed profile: %w", err)
	}
	var merge Merge
	if raw, ok = src.Get(entryMerge); ok {
		var err error
		if merge, err = decodeMerge(raw); err != nil {
			return fmt.Errorf("decoding the note of a merge: %w", err)
		}
	}
	p.now = max(p.now, other.asOf)
	cause := Cause{Kind: segmentv1.Cause_CAUSE_MERGE, ID: merge.ID}
	for i := range other.entries {
		from := &other.entries[i]
		at, found := p.program.Find(from.name)
		if !found || p.program.Scores[at].ID != from.id {
			continue
		}
		p.join(&p.program.Scores[at], from, cause)
	}
	p.dirty = true
	return nil
}

func (p *Person) join(score *program.Score, from *entry, cause Cause) {
	e := p.entry(score)
	p.pass(score, e)
	p.advance(score, e)
	p.advance(score, from)
	if score.Kind == program.Heat {
		score.Heat.Join(&e.heat, &from.heat)
	} else {
		score.Rfm.Join(&e.rfm, &from.rfm)
	}
	p.next = min(p.next, next(score, e))
	if from.told || e.told {
		p.tell(score, e, p.now, cause)
	}
}

func (p *Person) find(name string) (int, bool) {
	return slices.BinarySearchFunc(p.entries, name, func(e entry, name string) int {
		switch {
		case e.name < name:
			return -1
		case e.name > name:
			return 1
		default:
			return 0
		}
	})
}

// Finish writes what changed and says what came of it.
func (p *Person) Finish() Outcome {
	outcome := Outcome{Changes: p.changes, Due: Forever}
	if !p.dirty {
		return outcome
	}
	// A timer that is set too early costs one idle firing; setting it anew with every event would cost a
	// write each time.
	if p.next < p.armed {
		p.armed, outcome.Due = p.next, p.next
	}
	p.asOf = p.now
	p.entries = slices.DeleteFunc(p.entries, func(e entry) bool { return e.empty() })
	if len(p.entries) == 0 {
		p.store.Delete(entryScores)
		return outcome
	}
	p.encoded = p.encode(p.encoded[:0])
	p.store.Put(entryScores, p.encoded)
	return outcome
}

// empty reports whether nothing is remembered and nothing was told.
func (e *entry) empty() bool {
	return !e.told && e.heat.Value == 0 && len(e.heat.Future) == 0 && e.rfm.Count == 0 && e.rfm.Sum == 0 && len(e.rfm.Deals) == 0
}
