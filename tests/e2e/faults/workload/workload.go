// Package workload makes the events of a fault scenario from a seed: unique ids, keys whose events are
// chained, timers that fire, wait or are cancelled, keys that merge, and a share of poison.
package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
)

// Op is what an event asks for.
type Op string

// All of them. A Timer fires soon, Far is set for after the run, Cancel takes a Far one of the same key
// back; Poison fails in the first stage, Poison2 in the second; Into is sent under a key that ends, From
// under the key that goes on.
const (
	Plain   Op = "plain"
	Timer   Op = "timer"
	Far     Op = "far"
	Cancel  Op = "cancel"
	Poison  Op = "poison"
	Poison2 Op = "poison2"
	Into    Op = "into"
	From    Op = "from"
)

// Event is one record of the inputs.
type Event struct {
	Key, ID string
	Op      Op
	// Delay is that of a Timer.
	Delay time.Duration
	// Target is the id of the event whose timer Cancel takes back.
	Target string
	// Other and Merge are the other key and the id of a merge.
	Other, Merge string
}

// Ordered says whether the key of the event never merges, so that the order of its events is defined.
func (e Event) Ordered() bool { return e.Key[0] == 'k' }

// Value is the event on the wire.
func (e Event) Value() []byte {
	switch e.Op {
	case Timer:
		return fmt.Appendf(nil, "%s %s %d", e.ID, e.Op, e.Delay.Milliseconds())
	case Cancel:
		return fmt.Appendf(nil, "%s %s %s", e.ID, e.Op, e.Target)
	case Into, From:
		return fmt.Appendf(nil, "%s %s %s %s", e.ID, e.Op, e.Other, e.Merge)
	default:
		return fmt.Appendf(nil, "%s %s", e.ID, e.Op)
	}
}

// Options say what to make. Shares are of all events, from 0 to 1.
type Options struct {
	Seed   uint64
	Events int
	// Keys never merge, People do: every fifth of them goes on and the four before end in it, one by one
	// or one after the other.
	Keys, People int
	// Poison is shared by the two stages.
	Timers, Poison float64
	// MaxDelay bounds the delay of timers.
	MaxDelay time.Duration
}

// NewDefaultOptions are the options of most scenarios.
func NewDefaultOptions(seed uint64, events int) Options {
	return Options{Seed: seed, Events: events, Keys: 60, People: 20, Timers: 0.1, Poison: 0.02, MaxDelay: 1500 * time.Millisecond}
}

// Generate makes the events in the order in which they are fed.
func Generate(o Options) []Event {
	g := &generator{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 0x5eed)), count: map[string]int{}, far: map[string][]string{}}
	merges := g.merges()
	for i := range o.Events {
		for len(merges) > 0 && merges[0].at <= i {
			g.merge(merges[0])
			merges = merges[1:]
		}
		g.event()
	}
	return g.events
}

type generator struct {
	Options
	rng    *rand.Rand
	events []Event
	count  map[string]int
	far    map[string][]string // timers of a key that wait and were not cancelled
}

const groupSize = 5

// plannedMerge ends one key in another before the event at.
type plannedMerge struct {
	at         int
	ends, goes string
}

// merges are in order of their place, all in the middle half of the run. Half of the groups merge in a
// row (a into b, b into c), the others all into the last.
func (g *generator) merges() []plannedMerge {
	var plan []plannedMerge
	groups := g.People / groupSize
	for group := range groups {
		person := func(i int) string { return fmt.Sprint("p", group*groupSize+i) }
		for i := range groupSize - 1 {
			goes := person(groupSize - 1)
			if group%2 == 0 {
				goes = person(i + 1)
			}
			// A place for each: the order of merges within a group is that of its members.
			at := g.Events/4 + (i*groups+group)*g.Events/2/(groups*(groupSize-1))
			plan = append(plan, plannedMerge{at: at, ends: person(i), goes: goes})
		}
	}
	for i := 1; i < len(plan); i++ {
		for j := i; j > 0 && plan[j].at < plan[j-1].at; j-- {
			plan[j], plan[j-1] = plan[j-1], plan[j]
		}
	}
	return plan
}

func (g *generator) merge(m plannedMerge) {
	id := m.ends + "+" + m.goes
	g.add(Event{Key: m.goes, Op: From, Other: m.ends, Merge: id})
	g.add(Event{Key: m.ends, Op: Into, Other: m.goes, Merge: id})
}

func (g *generator) add(e Event) {
	e.ID = fmt.Sprintf("%s-%d", e.Key, g.count[e.Key])
	g.count[e.Key]++
	if e.Op == Far {
		g.far[e.Key] = append(g.far[e.Key], e.ID)
	}
	g.events = append(g.events, e)
}

func (g *generator) event() {
	e := Event{Op: Plain}
	if n := g.rng.IntN(g.Keys + g.People); n < g.Keys {
		e.Key = fmt.Sprint("k", n)
	} else {
		e.Key = fmt.Sprint("p", n-g.Keys)
	}
	switch draw := g.rng.Float64(); {
	case draw < g.Poison/2:
		e.Op = Poison
	case draw < g.Poison:
		e.Op = Poison2
	case draw < g.Poison+g.Timers:
		e.Op, e.Delay = Timer, time.Duration(g.rng.Int64N(int64(g.MaxDelay)))
	case draw < g.Poison+g.Timers+0.02 && e.Ordered():
		e.Op = Far
		// A person's timer may be at another key by the time that it is to be cancelled.
		if waiting := g.far[e.Key]; len(waiting) > 0 && g.rng.IntN(2) == 0 {
			i := g.rng.IntN(len(waiting))
			e.Op, e.Target = Cancel, waiting[i]
			g.far[e.Key] = append(waiting[:i:i], waiting[i+1:]...)
		}
	}
	g.add(e)
}

// Record is the event as a record of the input that its key has.
func Record(names chain.Names, e Event) *kgo.Record {
	topic := names.In
	if len(e.Key)%2 == 0 && e.Ordered() {
		topic = names.In2
	}
	return &kgo.Record{Topic: topic, Key: []byte(e.Key), Value: e.Value()}
}

// Feeder writes events to the inputs, in order, with a producer that neither loses nor doubles any.
type Feeder struct {
	client *kgo.Client
	names  chain.Names
}

// NewFeeder makes a feeder; Close it.
func NewFeeder(brokers []string, names chain.Names) (*Feeder, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(20_000))
	if err != nil {
		return nil, fmt.Errorf("making the client that feeds: %w", err)
	}
	return &Feeder{client: client, names: names}, nil
}

// Close lets go of the broker.
func (f *Feeder) Close() { f.client.Close() }

// Feed writes events evenly over about the given time; 0: as fast as the broker takes them. All are
// acknowledged when it returns without an error.
func (f *Feeder) Feed(ctx context.Context, events []Event, over time.Duration) error {
	const slice = 10 * time.Millisecond
	step := len(events)
	if slices := int(over / slice); slices > 1 {
		step = max(1, len(events)/slices)
	}
	pause := time.NewTicker(slice)
	defer pause.Stop()
	failed := make(chan error, 1)
	for i := 0; i < len(events); i += step {
		for _, e := range events[i:min(i+step, len(events))] {
			f.client.Produce(ctx, Record(f.names, e), func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
		if over > 0 {
			<-pause.C
		}
	}
	if err := f.client.Flush(ctx); err != nil {
		return fmt.Errorf("feeding: %w", err)
	}
	select {
	case err := <-failed:
		return fmt.Errorf("feeding: %w", err)
	default:
		return nil
	}
}
