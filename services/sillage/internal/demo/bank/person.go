// Package bank plays the customers of a bank for two hours: what they look at, what they begin and leave
// unfinished, and how they react to mails and calls. It is pure: the same seed gives the same people, who
// do the same things at the same moments; sending their events is somebody else's work.
package bank

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Kind is what a person is like.
type Kind string

const (
	// Browser looks at pages and leaves, unknown.
	Browser Kind = "browser"
	// Abandoner begins an application and leaves it.
	Abandoner Kind = "abandoner"
	// Reader asks for several guides by e-mail first, then abandons an application: contact pressure is high.
	Reader Kind = "reader"
	// Buyer applies and subscribes at once.
	Buyer Kind = "buyer"
	// Complainer reads the complaints page.
	Complainer Kind = "complainer"
)

// shares are the parts of the population, in percent.
var shares = []struct {
	kind    Kind
	percent int
}{{Browser, 30}, {Abandoner, 46}, {Reader, 8}, {Buyer, 10}, {Complainer, 6}}

// Person is one of the bank's visitors, with everything that chance decides about them.
type Person struct {
	Number int
	Kind   Kind
	// Arrives is how long after the start the visit begins.
	Arrives time.Duration
	// SignsInFirst tells whether the person signs in before the application or in the midst of it.
	SignsInFirst bool
	// Campaign is what brought the person; empty: nothing.
	Campaign Campaign
	Amount   int
	Months   int

	// How the person reacts. An After of zero means never.
	OpensAfter, ClicksAfter, ReturnsAfter time.Duration
	// AnswersCall and BuysOnCall are the outcome of a call; ReturnsAlone is when the person subscribes
	// without any message having been needed.
	AnswersCall, BuysOnCall bool
	ReturnsAlone            time.Duration
	// Unsubscribes tells whether the person has had enough once a mail is open.
	Unsubscribes bool
}

// Campaign is a marketing campaign (UTM parameters).
type Campaign struct{ Name, Source, Medium string }

var campaigns = []Campaign{
	{}, {},
	{Name: "spring-loans", Source: "google", Medium: "cpc"},
	{Name: "dream-car", Source: "meta", Medium: "paid-social"},
	{Name: "partners", Source: "comparator", Medium: "affiliate"},
}

// People makes n people from a seed. The visits begin within the first 40 minutes.
func People(seed uint64, n int) []Person {
	r := rand.New(rand.NewPCG(seed, 0x51_11_A6_E0)) //nolint:gosec // a seed always plays the same
	people := make([]Person, n)
	for i := range people {
		people[i] = newPerson(r, i)
	}
	return people
}

func newPerson(r *rand.Rand, number int) Person {
	p := Person{
		Number:       number,
		Kind:         kind(r.IntN(100)),
		Arrives:      time.Duration(r.IntN(40*60)) * time.Second,
		SignsInFirst: r.IntN(100) < 40,
		Campaign:     campaigns[r.IntN(len(campaigns))],
		Amount:       (3 + r.IntN(28)) * 1000,
		Months:       12 * (1 + r.IntN(6)),
	}
	// The order of the draws is part of the seed's meaning: each is made whether it is used or not.
	opens, clicks, returns := chance(r, 66), chance(r, 45), chance(r, 50)
	openAfter, clickAfter, returnAfter := minutes(r, 1, 8), minutes(r, 1, 3), minutes(r, 2, 6)
	p.AnswersCall, p.BuysOnCall = chance(r, 65), chance(r, 42)
	alone, aloneAfter := chance(r, 8), minutes(r, 20, 60)
	p.Unsubscribes = opens && !clicks && chance(r, 10)
	if opens {
		p.OpensAfter = openAfter
	}
	if opens && clicks {
		p.ClicksAfter = clickAfter
	}
	if opens && clicks && returns {
		p.ReturnsAfter = returnAfter
	}
	if alone {
		p.ReturnsAlone = aloneAfter
	}
	return p
}

func kind(percent int) Kind {
	for _, s := range shares {
		if percent < s.percent {
			return s.kind
		}
		percent -= s.percent
	}
	return Browser
}

func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

func minutes(r *rand.Rand, from, to int) time.Duration {
	return time.Duration(from*60+r.IntN((to-from)*60)) * time.Second
}

// AnonymousID is the person's browser.
func (p Person) AnonymousID() string { return fmt.Sprintf("visitor-%04d", p.Number) }

// UserID is the person as a customer.
func (p Person) UserID() string { return fmt.Sprintf("client-%04d", p.Number) }

// Email is the person's address.
func (p Person) Email() string { return fmt.Sprintf("client-%04d@customers.example", p.Number) }

// Abandons reports whether the person leaves an application unfinished.
func (p Person) Abandons() bool { return p.Kind == Abandoner || p.Kind == Reader }

// Number returns the number of the person with this address or user id; ok is false if there is none.
func Number(name string) (n int, ok bool) {
	_, err := fmt.Sscanf(name, "client-%d", &n)
	return n, err == nil
}
