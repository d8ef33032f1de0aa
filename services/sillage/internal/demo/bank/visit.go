package bank

import (
	"encoding/json"
	"fmt"
	"sort"
	"time"
)

// Action is one call of the tracking API at one moment.
type Action struct {
	// After is how long after the start it happens.
	After time.Duration
	Call  Call
}

// Call is one call of the tracking API. The sender adds timestamp and sentAt.
type Call struct {
	Type        string         `json:"type"`
	Event       string         `json:"event,omitempty"`
	Name        string         `json:"name,omitempty"`
	MessageID   string         `json:"messageId"`
	UserID      string         `json:"userId,omitempty"`
	AnonymousID string         `json:"anonymousId,omitempty"`
	Timestamp   string         `json:"timestamp,omitempty"`
	Context     map[string]any `json:"context,omitempty"`
	Properties  map[string]any `json:"properties,omitempty"`
	Traits      map[string]any `json:"traits,omitempty"`
}

// At returns the call as JSON with its moment.
func (c Call) At(t time.Time) ([]byte, error) {
	c.Timestamp = t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	return json.Marshal(c)
}

// Product is what the bank's demonstration sells.
const Product = "consumer-loan"

// Visits lists what all people do by themselves, in order of time.
func Visits(people []Person) []Action {
	var all []Action
	for _, p := range people {
		all = append(all, p.visit()...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].After < all[j].After })
	return all
}

// visit is one person's visit.
func (p Person) visit() []Action {
	v := &visit{person: p, at: p.Arrives}
	v.page("Home", "/")
	switch p.Kind {
	case Browser:
		v.look()
	case Complainer:
		v.signIn()
		v.page("Complaints", "/complaints")
	case Buyer:
		v.look()
		v.apply()
		v.signIn()
		v.track("Loan Application Submitted", v.loan())
		v.subscribe("web")
	case Reader:
		v.signIn()
		for _, guide := range []string{"first-loan", "insurance", "budget"} {
			v.track("Guide Requested", map[string]any{"guide": guide})
		}
		v.look()
		v.apply()
		v.returnAlone()
	case Abandoner:
		if p.SignsInFirst {
			v.signIn()
		}
		v.look()
		v.apply()
		if !p.SignsInFirst {
			v.signIn()
		}
		v.returnAlone()
	}
	return v.actions
}

// visit gathers the actions of one person; at is the moment of the next one.
type visit struct {
	person  Person
	at      time.Duration
	known   bool
	actions []Action
}

func (v *visit) add(c Call, takes time.Duration) {
	p := v.person
	c.MessageID = fmt.Sprintf("bank-%04d-%03d", p.Number, len(v.actions))
	c.AnonymousID = p.AnonymousID()
	if v.known {
		c.UserID = p.UserID()
	}
	if len(v.actions) == 0 && p.Campaign != (Campaign{}) {
		c.Context = map[string]any{"campaign": map[string]any{
			"name": p.Campaign.Name, "source": p.Campaign.Source, "medium": p.Campaign.Medium,
		}}
	}
	v.actions = append(v.actions, Action{After: v.at, Call: c})
	v.at += takes
}

func (v *visit) page(name, path string) {
	v.add(Call{Type: "page", Name: name, Properties: map[string]any{"url": "https://bank.example" + path, "path": path, "title": name}}, 20*time.Second)
}

func (v *visit) track(event string, properties map[string]any) {
	v.add(Call{Type: "track", Event: event, Properties: properties}, 25*time.Second)
}

// look views the product a few times and moves the simulator's slider.
func (v *visit) look() {
	v.page("Consumer loan", "/loans/consumer")
	for range 1 + v.person.Number%5 {
		v.track("Product Viewed", map[string]any{"product": Product})
	}
	for step := range 1 + v.person.Number%4 {
		loan := v.loan()
		loan["amount"] = v.person.Amount - 500*step
		v.track("Loan Simulated", loan)
	}
}

func (v *visit) apply() { v.track("Loan Application Started", v.loan()) }

func (v *visit) signIn() {
	v.known = true
	p := v.person
	v.add(Call{Type: "identify", Traits: map[string]any{
		"email": p.Email(), "first_name": fmt.Sprintf("Client %d", p.Number), "language": "en", "phone": fmt.Sprintf("+3312345%04d", p.Number),
	}}, 15*time.Second)
}

func (v *visit) subscribe(channel string) {
	v.track("Loan Subscribed", SubscribedProperties(v.person, channel))
}

// returnAlone comes back and subscribes without having been asked, if the person is of that sort.
func (v *visit) returnAlone() {
	if v.person.ReturnsAlone == 0 {
		return
	}
	v.at += v.person.ReturnsAlone
	v.known = true
	v.track("Loan Application Submitted", v.loan())
	v.subscribe("web")
}

func (v *visit) loan() map[string]any {
	return map[string]any{"product": Product, "amount": v.person.Amount, "months": v.person.Months, "currency": "EUR"}
}

// SubscribedProperties are the properties of `Loan Subscribed`: the bank's margin is 3 % of the amount.
func SubscribedProperties(p Person, channel string) map[string]any {
	return map[string]any{
		"product": Product, "amount": p.Amount, "months": p.Months, "channel": channel,
		"revenue": float64(p.Amount*3) / 100, "currency": "EUR",
	}
}
