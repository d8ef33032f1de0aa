package evaluate

import (
	"bytes"
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// maxPending bounds the events to come whose traits or consents wait for their time.
const maxPending = 64

// facts are the traits and consents of a profile, kept only if some segment asks for them.
type facts struct {
	loaded, dirty bool
	err           error
	profile       *profilev1.Profile
	pending       []*profilev1.ResolvedEvent // statements of events to come
	due           int64                      // of the first of them; Forever if none
}

// statesFacts reports whether an event may say anything of traits or consents.
func statesFacts(event *eventv1.Event) bool {
	if event.GetConsent() != nil {
		return true
	}
	if event.GetInternal() {
		return event.GetName() == profile.Unsubscribed
	}
	if event.GetBot() {
		return false
	}
	return len(event.GetTraits()) > 0 || bytes.Contains(event.GetContext(), []byte(`"traits"`))
}

// openFacts reads the facts if they were not read.
func (p *Person) openFacts() error {
	if p.facts.loaded {
		return p.facts.err
	}
	p.facts.loaded = true
	p.facts.profile = &profilev1.Profile{}
	raw, ok := p.store.Get(entryFacts)
	if !ok {
		return nil
	}
	if len(p.program.Wheres) == 0 {
		// No segment asks for them any more.
		p.facts.dirty, p.facts.due = true, window.Forever
		return nil
	}
	if p.facts.err = p.facts.decode(raw); p.facts.err != nil {
		p.facts.err = fmt.Errorf("decoding the traits of a profile: %w", p.facts.err)
	}
	return p.facts.err
}

// state takes in what an event says of traits and consents, now if it is late, else in its time.
func (p *Person) state(ev *profilev1.ResolvedEvent, late bool) error {
	if err := p.openFacts(); err != nil {
		return err
	}
	if late {
		p.fold(ev)
		return nil
	}
	p.wait(statement(ev.GetEvent()))
	return nil
}

// statement is what of an event waits for its time.
func statement(event *eventv1.Event) *profilev1.ResolvedEvent {
	kept := &eventv1.Event{
		Type: event.GetType(), Name: event.GetName(), TimestampMs: event.GetTimestampMs(),
		Traits: event.GetTraits(), Consent: event.GetConsent(), Internal: event.GetInternal(), Bot: event.GetBot(),
	}
	if event.GetInternal() {
		kept.Properties = event.GetProperties()
	} else if bytes.Contains(event.GetContext(), []byte(`"traits"`)) {
		kept.Context = event.GetContext()
	}
	return &profilev1.ResolvedEvent{Event: kept}
}

// wait puts a statement down for its time. Of too many, those furthest ahead are let go.
func (p *Person) wait(ev *profilev1.ResolvedEvent) {
	p.facts.dirty, p.dirty = true, true
	p.facts.pending = append(p.facts.pending, ev)
	if len(p.facts.pending) > maxPending {
		last := 0
		for i, other := range p.facts.pending {
			if other.GetEvent().GetTimestampMs() > p.facts.pending[last].GetEvent().GetTimestampMs() {
				last = i
			}
		}
		p.facts.pending = append(p.facts.pending[:last], p.facts.pending[last+1:]...)
		p.dropped++
	}
	p.facts.schedule()
}

func (f *facts) schedule() {
	f.due = window.Forever
	for _, ev := range f.pending {
		f.due = min(f.due, ev.GetEvent().GetTimestampMs())
	}
}

// fold takes a statement into the profile, of which only traits and consents are kept.
func (p *Person) fold(ev *profilev1.ResolvedEvent) {
	profile.Fold(p.facts.profile, &profilev1.ResolvedEvent{Event: ev.GetEvent()})
	p.facts.profile = &profilev1.Profile{Traits: p.facts.profile.GetTraits(), Consents: p.facts.profile.GetConsents()}
	p.facts.dirty, p.dirty = true, true
}

// foldDue takes in every statement whose time has come.
func (p *Person) foldDue(now int64) {
	if p.facts.due > now || p.openFacts() != nil {
		return
	}
	waiting := p.facts.pending[:0]
	for _, ev := range p.facts.pending {
		if ev.GetEvent().GetTimestampMs() > now {
			waiting = append(waiting, ev)
			continue
		}
		p.fold(ev)
	}
	p.facts.pending = waiting
	p.facts.schedule()
}

// judgeFacts answers the expressions anew if the facts changed, and reports whether an answer did.
func (p *Person) judgeFacts(since int64) bool {
	changed := false
	if !p.facts.loaded || p.facts.err != nil {
		return false
	}
	for _, i := range p.program.Wheres {
		if holds := p.program.Leaves[i].Holds(p.facts.profile); holds != p.answers[i].Holds {
			p.answers[i] = condition.Answer{Holds: holds, Since: since}
			changed = true
		}
	}
	return changed
}
