package scenarios

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// The two tenants of the people: the same definitions, but that in one all sends wait for the end of quiet
// hours, so that what is merged are also sends that are pending.
const (
	byDay   = "day"
	byNight = "night"
)

const (
	// waits is how long every wait and quiet reaction of the definitions takes.
	waits = time.Hour
	// promoCap and newsCap are the caps of the definitions.
	promoCap, newsCap = 2, 3
	// frequentFrom is how many views make a frequent visitor, heatHalfLife how fast the score halves.
	frequentFrom = 3
	heatHalfLife = 30 * 24 * time.Hour
)

// deed is one event that somebody sends, as often as the network wants.
type deed struct {
	event stack.Event
	at    time.Time
	// old is true for an event of long ago, outside of the windows of segments.
	old bool
}

func (d *deed) is(name string) bool { return d.event["event"] == name }

func (d *deed) property(name string) any {
	properties, _ := d.event["properties"].(stack.Event)
	return properties[name]
}

// someone is a person who is known in advance: all identifiers, and everything that is done in their name.
type someone struct {
	tenant string
	name   string
	ids    []string // `namespace:value`, sorted
	deeds  []*deed
}

func (p *someone) user() string { return "u-" + p.name }

func (p *someone) emails() []string {
	var addresses []string
	for _, id := range p.ids {
		if address, ok := strings.CutPrefix(id, "email:"); ok {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

func (p *someone) count(event string) int {
	n := 0
	for _, d := range p.deeds {
		if d.is(event) {
			n++
		}
	}
	return n
}

// traits are the last values of everything that the person's events say, and of nothing else.
func (p *someone) traits() map[string]any {
	values, at := map[string]any{}, map[string]time.Time{}
	for _, d := range p.deeds {
		stated, ok := d.event["traits"].(stack.Event)
		if within, inContext := d.event["context"].(stack.Event); inContext && !ok {
			stated, _ = within["traits"].(stack.Event)
		}
		for name, value := range stated {
			if last, known := at[name]; !known || d.at.After(last) {
				values[name], at[name] = value, d.at
			}
		}
	}
	return values
}

// started is when the person began the last application that nothing has followed.
func (p *someone) started() (at time.Time, abandoned bool) {
	var started, finished time.Time
	for _, d := range p.deeds {
		if d.is("Application Started") && d.at.After(started) {
			started = d.at
		}
		if d.is("Application Submitted") && d.at.After(finished) {
			finished = d.at
		}
	}
	return started, started.After(finished)
}

func (p *someone) frequent() bool {
	n := 0
	for _, d := range p.deeds {
		if d.is("Product Viewed") && !d.old {
			n++
		}
	}
	return n >= frequentFrom
}

// heat is the score at a time.
func (p *someone) heat(at time.Time) float64 {
	sum := 0.0
	for _, d := range p.deeds {
		if d.is("Product Viewed") && !d.at.After(at) {
			sum += math.Exp2(-float64(at.Sub(d.at)) / float64(heatHalfLife))
		}
	}
	return sum
}

// viewedBy is how many of the person's views happened by then.
func (p *someone) viewedBy(at time.Time) int {
	n := 0
	for _, d := range p.deeds {
		if d.is("Product Viewed") && !d.at.After(at) {
			n++
		}
	}
	return n
}

// segments are those that the person is in, sorted; abandonment comes with its timer only.
func (p *someone) segments(later bool) []string {
	in := []string{}
	if _, abandoned := p.started(); abandoned && later {
		in = append(in, "abandoned")
	}
	if p.frequent() {
		in = append(in, "frequent")
	}
	if p.traits()["tier"] == "gold" {
		in = append(in, "gold")
	}
	return in
}

// awaited are the journeys that the person must be in, once, when all merges are done and no wait is over.
func (p *someone) awaited() []string {
	in := map[string]bool{"frequent": p.frequent(), "guide": p.count("Guide Requested") > 0}
	for _, d := range p.deeds {
		if d.is("Promo Asked") {
			in["promo-"+d.property("letter").(string)] = true
		}
	}
	names := []string{}
	for name, is := range in {
		if is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// crowd makes people out of a seed.
type crowd struct {
	rng    *rand.Rand
	people []*someone
}

// newCrowd makes so many people a tenant, who do what they do in the two minutes before now, in an order
// of time that has nothing to do with the order in which it will be sent.
func newCrowd(seed uint64, size int, now time.Time) *crowd {
	c := &crowd{rng: rand.New(rand.NewPCG(seed, 31))}
	for _, tenant := range []string{byDay, byNight} {
		for i := range size {
			c.people = append(c.people, c.person(tenant, i))
		}
	}
	all := c.deeds()
	base := now.Add(-2 * time.Minute).Truncate(time.Millisecond)
	for i, place := range c.rng.Perm(len(all)) {
		all[i].at = base.Add(time.Duration(place) * time.Millisecond)
		if all[i].old {
			all[i].at = all[i].at.Add(-40 * 24 * time.Hour)
		}
		all[i].event["timestamp"] = all[i].at.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return c
}

func (c *crowd) deeds() []*deed {
	var all []*deed
	for _, p := range c.people {
		all = append(all, p.deeds...)
	}
	return all
}

func (c *crowd) person(tenant string, i int) *someone {
	p := &someone{tenant: tenant, name: fmt.Sprintf("%s-%d", tenant, i)}
	p.ids = []string{"user_id:" + p.user()}
	add := func(namespace, value string, n int) {
		for k := range n {
			p.ids = append(p.ids, namespace+":"+fmt.Sprintf(value, p.name, k))
		}
	}
	add("anonymous_id", "a-%s-%d", 2+c.rng.IntN(5))
	add("email", "%s.%d@merge.example", 1+c.rng.IntN(3))
	add("phone", "p-%s-%d", c.rng.IntN(3))
	slices.Sort(p.ids)
	c.link(p)
	c.act(p)
	return p
}

// link adds calls that each name two identifiers of the person until all hang together: a random tree,
// with calls that close cycles in it, and some of them said again.
func (c *crowd) link(p *someone) {
	group := map[string]string{}
	for _, id := range p.ids {
		group[id] = id
	}
	for groups := len(p.ids); groups > 1; {
		a, b := p.ids[c.rng.IntN(len(p.ids))], p.ids[c.rng.IntN(len(p.ids))]
		if namespaceOf(a) == namespaceOf(b) || (group[a] == group[b] && c.rng.IntN(4) > 0) {
			continue // a call names one of a kind
		}
		for range 1 + c.rng.IntN(5)/4 {
			c.do(p, c.call(a, b))
		}
		if from, to := group[a], group[b]; from != to {
			groups--
			for id, in := range group {
				if in == from {
					group[id] = to
				}
			}
		}
	}
}

func namespaceOf(id string) string {
	namespace, _, _ := strings.Cut(id, ":")
	return namespace
}

// call is a call that names both identifiers, of different namespaces, by one of the ways that there are.
func (c *crowd) call(a, b string) stack.Event {
	ev := stack.Event{"type": "identify", "traits": c.say()}
	if pair := namespaceOf(a) + namespaceOf(b); pair == "anonymous_iduser_id" || pair == "user_idanonymous_id" {
		switch c.rng.IntN(3) {
		case 0:
			if namespaceOf(a) == "user_id" {
				a, b = b, a
			}
			_, anonymous, _ := strings.Cut(a, ":")
			_, user, _ := strings.Cut(b, ":")
			return stack.Event{"type": "alias", "previousId": anonymous, "userId": user}
		case 1:
			ev = stack.Event{"type": "track", "event": "Seen"}
		}
	}
	name(ev, a)
	name(ev, b)
	return ev
}

// say are traits as a person states them, now so, now otherwise.
func (c *crowd) say() stack.Event {
	traits := stack.Event{"tier": []string{"gold", "plain"}[c.rng.IntN(2)]}
	if c.rng.IntN(2) == 0 {
		traits["city"] = fmt.Sprint("city ", c.rng.IntN(10))
	}
	return traits
}

// name puts an identifier into an event, where its namespace belongs.
func name(ev stack.Event, id string) {
	namespace, value, _ := strings.Cut(id, ":")
	inContext := func(key string, value any) {
		within, ok := ev["context"].(stack.Event)
		if !ok {
			within = stack.Event{}
			ev["context"] = within
		}
		within[key] = value
	}
	switch namespace {
	case "anonymous_id":
		ev["anonymousId"] = value
	case "user_id":
		ev["userId"] = value
	case "email":
		if traits, ok := ev["traits"].(stack.Event); ok {
			traits["email"] = value
		} else {
			inContext("traits", stack.Event{"email": value})
		}
	default:
		inContext("externalIds", []stack.Event{{"id": value, "type": namespace, "collection": "users", "encoding": "none"}})
	}
}

// act adds what the person does as one or the other of the identifiers.
func (c *crowd) act(p *someone) {
	as := func(event string, times int, properties func() stack.Event) {
		for range times {
			ev := stack.Event{"type": "track", "event": event}
			if properties != nil {
				ev["properties"] = properties()
			}
			name(ev, p.ids[c.rng.IntN(len(p.ids))])
			c.do(p, ev)
		}
	}
	as("Product Viewed", c.rng.IntN(6), nil)
	for range c.rng.IntN(3) {
		as("Product Viewed", 1, nil)
		p.deeds[len(p.deeds)-1].old = true
	}
	as("Guide Requested", c.rng.IntN(6), nil)
	as("Promo Asked", c.rng.IntN(9), func() stack.Event { return stack.Event{"letter": string(rune('a' + c.rng.IntN(3)))} })
	as("News Asked", c.rng.IntN(7), nil)
	as("Application Started", c.rng.IntN(4), nil)
	as("Application Submitted", c.rng.IntN(2), nil)
}

func (c *crowd) do(p *someone, ev stack.Event) {
	ev["messageId"] = fmt.Sprintf("m-%s-%d", p.name, len(p.deeds))
	p.deeds = append(p.deeds, &deed{event: ev})
}

// batch is one request of a client.
type batch struct {
	tenant string
	events []stack.Event
}

// batches spread everything over clients, in no order, in small requests; one in twenty is sent by two of
// them.
func (c *crowd) batches(clients int) (queues [][]batch, repeated map[string]int) {
	queues, repeated = make([][]batch, clients), map[string]int{}
	add := func(tenant string, ev stack.Event) {
		q := &queues[c.rng.IntN(clients)]
		if n := len(*q); n > 0 && (*q)[n-1].tenant == tenant && len((*q)[n-1].events) < 4 && c.rng.IntN(2) == 0 {
			(*q)[n-1].events = append((*q)[n-1].events, ev)
			return
		}
		*q = append(*q, batch{tenant: tenant, events: []stack.Event{ev}})
	}
	type entry struct {
		tenant string
		deed   *deed
	}
	var all []entry
	for _, p := range c.people {
		for _, d := range p.deeds {
			all = append(all, entry{p.tenant, d})
			if c.rng.IntN(20) == 0 {
				all = append(all, entry{p.tenant, d})
				repeated[p.tenant]++
			}
		}
	}
	c.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, e := range all {
		add(e.tenant, e.deed.event)
	}
	return queues, repeated
}
