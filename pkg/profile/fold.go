package profile

import (
	"bytes"

	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Unsubscribed is the name of the internal event that ends the subscription of one channel.
const Unsubscribed = "Message Unsubscribed"

// channelPurpose begins the name under which a channel's subscription stands among the consents.
const channelPurpose = "channel:"

// Fold takes ev into p: its new identifiers, the traits of `traits` (those of a person, not of a group)
// and `context.traits`, the consents that it states, and when it happened. A trait set to null is
// deleted; of two values the later stays. Events written by Sillage itself (outcomes of sends) change
// consents only: a delivered e-mail is no sign of life. What a bot says of a person's traits is not believed;
// a consent it states is, since a person may be taken for one.
func Fold(p *profilev1.Profile, ev *profilev1.ResolvedEvent) {
	event := ev.GetEvent()
	if event == nil {
		return
	}
	if p.GetTenant() == "" {
		p.Tenant = event.GetTenant()
	}
	addIdentifiers(p, ev.GetNewIdentifiers())
	foldConsents(p, event)
	if event.GetInternal() {
		return
	}
	if !event.GetBot() {
		foldTraits(p, event)
	}
	seen(p, event.GetTimestampMs(), event.GetTimestampMs())
	p.Events++
}

// seen widens the time in which the profile was seen.
func seen(p *profilev1.Profile, first, last int64) {
	if p.FirstSeenMs == 0 || (first != 0 && first < p.FirstSeenMs) {
		p.FirstSeenMs = first
	}
	p.LastSeenMs = max(p.LastSeenMs, last)
}

// foldTraits sets what the event says. Where `traits` and `context.traits` name the same trait, `traits` counts.
func foldTraits(p *profilev1.Profile, event *eventv1.Event) {
	own := event.GetTraits()
	if event.GetType() == eventv1.EventType_EVENT_TYPE_GROUP {
		own = nil
	}
	inContext := gjson.Result{}
	if bytes.Contains(event.GetContext(), []byte(`"traits"`)) {
		inContext = gjson.GetBytes(event.GetContext(), "traits")
	}
	if len(own) == 0 && !inContext.IsObject() {
		return
	}
	stated := map[string]*profilev1.Trait{}
	collectTraits(stated, inContext, event.GetTimestampMs())
	collectTraits(stated, gjson.ParseBytes(own), event.GetTimestampMs())
	joinTraits(p, stated)
}

// collectTraits adds the fields of a JSON object to stated, as they were at atMs.
func collectTraits(stated map[string]*profilev1.Trait, object gjson.Result, atMs int64) {
	if !object.IsObject() {
		return
	}
	object.ForEach(func(key, value gjson.Result) bool {
		name := key.String()
		if name == "" || len(name) > MaxTraitName || len(value.Raw) > MaxTraitBytes {
			return true
		}
		trait := &profilev1.Trait{AtMs: atMs}
		if value.Type != gjson.Null {
			trait.Json = []byte(value.Raw)
		}
		stated[name] = trait
		return true
	})
}

func joinTraits(p *profilev1.Profile, others map[string]*profilev1.Trait) {
	if len(others) == 0 {
		return
	}
	if p.Traits == nil {
		p.Traits = make(map[string]*profilev1.Trait, len(others))
	}
	for name, other := range others {
		if have, ok := p.Traits[name]; !ok || traitAfter(other, have) {
			p.Traits[name] = other
		}
	}
	for len(p.Traits) > MaxTraits {
		dropOldest(p.Traits)
	}
}

// traitAfter says whether a counts rather than b.
func traitAfter(a, b *profilev1.Trait) bool {
	if a.GetAtMs() != b.GetAtMs() {
		return a.GetAtMs() > b.GetAtMs()
	}
	return bytes.Compare(a.GetJson(), b.GetJson()) > 0
}

// foldConsents takes in purposes, and a channel's subscription that ended.
func foldConsents(p *profilev1.Profile, event *eventv1.Event) {
	purposes := event.GetConsent().GetPurposes()
	unsubscribed := event.GetInternal() && event.GetName() == Unsubscribed
	if len(purposes) == 0 && !unsubscribed {
		return
	}
	stated := make(map[string]*profilev1.ConsentState, len(purposes)+1)
	for purpose, granted := range purposes {
		if purpose != "" && len(purpose) <= MaxTraitName {
			stated[purpose] = &profilev1.ConsentState{Granted: granted, AtMs: event.GetTimestampMs()}
		}
	}
	if unsubscribed {
		if channel := gjson.GetBytes(event.GetProperties(), "channel").String(); channel != "" && len(channel) <= MaxTraitName {
			stated[channelPurpose+channel] = &profilev1.ConsentState{AtMs: event.GetTimestampMs()}
		}
	}
	joinConsents(p, stated)
}

func joinConsents(p *profilev1.Profile, others map[string]*profilev1.ConsentState) {
	if len(others) == 0 {
		return
	}
	if p.Consents == nil {
		p.Consents = make(map[string]*profilev1.ConsentState, len(others))
	}
	for purpose, other := range others {
		if have, ok := p.Consents[purpose]; !ok || consentAfter(other, have) {
			p.Consents[purpose] = other
		}
	}
	for len(p.Consents) > MaxConsents {
		dropOldest(p.Consents)
	}
}

// consentAfter says whether a counts rather than b: the later one, and at the same time the refusal.
func consentAfter(a, b *profilev1.ConsentState) bool {
	if a.GetAtMs() != b.GetAtMs() {
		return a.GetAtMs() > b.GetAtMs()
	}
	return b.GetGranted() && !a.GetGranted()
}

// dropOldest takes out the entry stated longest ago; of several, the one whose name sorts last.
func dropOldest[V interface{ GetAtMs() int64 }](entries map[string]V) {
	var oldest string
	first := true
	for name, entry := range entries {
		at, least := entry.GetAtMs(), entries[oldest].GetAtMs()
		if first || at < least || (at == least && name > oldest) {
			oldest, first = name, false
		}
	}
	delete(entries, oldest)
}
