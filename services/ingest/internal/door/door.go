// Package door decides on each event that wire has made: whether it may pass, and what is added to it. It is
// pure: an event, the rules of its source and the time go in, a verdict comes out.
//
// What it promises: an event that passes keeps everything that it had but what the rules say is to go; the
// verdict depends on the event, the rules and, for the bounds of package limit, on what came before;
// nothing a producer sends makes it keep more than its fixed tables.
// TestRefusals and, in package app, TestHotIdentity and TestNamesAreBounded catch the loss.
package door

import (
	"hash/maphash"
	"time"

	"github.com/sillage-cdp/sillage/pkg/plan"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/enrich"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// OtherName stands for the name of a page or screen beyond the names that its source may have.
const OtherName = "(other)"

// Rules are what holds for the events of one source.
type Rules struct {
	// Identity bounds the events of each identity.
	Identity limit.Rate
	// Names are those that the source has used; MaxNames is how many there may be.
	Names    *limit.NameSet
	MaxNames int
	// Enrich says what is kept of an address.
	Enrich enrich.Settings
	// Plan is what the source is meant to send; nil allows anything.
	Plan *plan.Plan
}

// Verdict is what is decided on an event. The zero value lets it pass.
type Verdict struct {
	// Problem is why it does not pass; nil if it does.
	Problem *wire.Problem
	// Violation is what is not as planned, also if the event passes.
	Violation *planv1.PlanViolation
}

// Quarantined is true for an event that is set aside, as it would have passed.
func (v Verdict) Quarantined() bool {
	return v.Problem != nil && v.Problem.Code == wire.Quarantined
}

// Visit is how the events of one request came.
type Visit struct {
	// Now is when.
	Now time.Time
	// Import is true for history, which is not held against the bound of an identity: a person's years come
	// within a second.
	Import bool
	// UserAgent is the request's own, blank if it is a server's.
	UserAgent string
}

// Door holds what the sources share. It is safe for concurrent use.
type Door struct {
	identities *limit.Identities
	enricher   *enrich.Enricher
	seed       maphash.Seed
}

// New returns a door through which nothing has gone. A nil locator tells no places.
func New(places enrich.Locator) *Door {
	return &Door{identities: limit.NewIdentities(), enricher: enrich.New(places), seed: maphash.MakeSeed()}
}

// Admit lets an event pass, which may change it, or says why not. What the plan refuses costs its source no
// name and its identity no event; what it sets aside does, since it may come in later.
func (d *Door) Admit(ev *eventv1.Event, rules *Rules, visit Visit) Verdict {
	violation := rules.Plan.Check(ev)
	if violation.GetAction() == planv1.Action_ACTION_REJECTED {
		return Verdict{&wire.Problem{Code: wire.Code(violation.GetCode()), Detail: plan.Describe(violation)}, violation}
	}
	if bad := d.name(ev, rules, visit); bad != nil {
		return Verdict{Problem: bad}
	}
	if !visit.Import && !d.identities.Allow(visit.Now, d.anchor(ev), rules.Identity) {
		return Verdict{Problem: &wire.Problem{Code: wire.IdentityTooFast, Detail: "one identity sends more events than a person can; is its id a constant?"}}
	}
	d.enricher.Apply(ev, rules.Enrich, visit.UserAgent)
	if violation.GetAction() == planv1.Action_ACTION_QUARANTINED {
		return Verdict{&wire.Problem{Code: wire.Quarantined, Detail: "set aside: " + plan.Describe(violation)}, violation}
	}
	return Verdict{Violation: violation}
}

// name holds a source to a number of names.
func (d *Door) name(ev *eventv1.Event, rules *Rules, visit Visit) *wire.Problem {
	if ev.GetName() == "" || rules.Plan.Lists(ev) || rules.Names.Admit(visit.Now, d.hash(ev.GetType(), ev.GetName()), rules.MaxNames) {
		return nil
	}
	if ev.GetType() == eventv1.EventType_EVENT_TYPE_TRACK {
		return &wire.Problem{Code: wire.TooManyNames, Detail: "the source has used too many distinct event names: put what varies into properties"}
	}
	ev.Name = OtherName
	return nil
}

// anchor is the hash of the identity that keys the event.
func (d *Door) anchor(ev *eventv1.Event) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	first := ev.GetIdentifiers()[0]
	for _, part := range [...]string{ev.GetTenant(), first.GetNamespace(), first.GetValue()} {
		_, _ = h.WriteString(part) // never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (d *Door) hash(kind eventv1.EventType, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	_ = h.WriteByte(byte(kind)) // never fails
	_, _ = h.WriteString(name)
	return h.Sum64()
}
