package evaluate

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"
)

// entries is a store in memory.
type entries struct {
	values map[string][]byte
	writes int
}

func newEntries() *entries { return &entries{values: map[string][]byte{}} }

func (e *entries) Get(name string) ([]byte, bool) { v, ok := e.values[name]; return v, ok }
func (e *entries) Put(name string, value []byte) {
	e.values[name] = slices.Clone(value)
	e.writes++
}
func (e *entries) Delete(name string) {
	if _, ok := e.values[name]; ok {
		delete(e.values, name)
		e.writes++
	}
}

// bench drives the persons of a test: a clock, their states and timers, and what was told of them.
type bench struct {
	t       require.TestingT
	program *condition.Program
	person  Person
	now     int64
	state   map[string]*entries
	timer   map[string]int64
	told    map[string][]Flip
}

func newBench(t require.TestingT, program *condition.Program, ids ...string) *bench {
	b := &bench{t: t, program: program, state: map[string]*entries{}, timer: map[string]int64{}, told: map[string][]Flip{}}
	for _, id := range ids {
		b.state[id] = newEntries()
	}
	return b
}

// with takes up a profile, does something and finishes.
func (b *bench) with(id string, do func(p *Person) error) []Flip {
	require.NoError(b.t, b.person.Begin(b.program, b.state[id], b.now))
	require.NoError(b.t, do(&b.person))
	outcome, err := b.person.Finish()
	require.NoError(b.t, err)
	if outcome.Due != window.Forever {
		b.timer[id] = outcome.Due
	}
	flips := slices.Clone(outcome.Flips)
	b.told[id] = append(b.told[id], flips...)
	return flips
}

func (b *bench) send(id string, h happening) []Flip {
	flips := b.with(id, func(p *Person) error { return p.Event(h.event) })
	b.fire(b.now)
	return flips
}

// advance moves the clock and fires what is due on the way.
func (b *bench) advance(to int64) {
	b.fire(to)
	b.now = max(b.now, to)
}

func (b *bench) fire(upto int64) {
	for {
		next, due := "", int64(window.Forever)
		for id, at := range b.timer {
			if at < due || (at == due && id < next) {
				next, due = id, at
			}
		}
		if due > upto {
			return
		}
		delete(b.timer, next)
		b.now = max(b.now, due)
		b.with(next, (*Person).Tick)
	}
}

func (b *bench) merge(dst, src string, merge Merge) {
	b.with(src, func(p *Person) error { return p.Leave(merge) })
	delete(b.timer, src)
	b.with(dst, func(p *Person) error { return p.Absorb(b.state[src]) })
	b.state[src] = newEntries()
	b.fire(b.now)
}

// in is the set of segments that was told of a person.
func (b *bench) in(id string) map[string]bool {
	in := map[string]bool{}
	for _, flip := range b.told[id] {
		in[flip.Segment] = flip.Entered
	}
	return in
}

func (b *bench) equal(id string, o *oracle) {
	in := b.in(id)
	for _, name := range o.names() {
		require.Equal(b.t, o.member(name, b.now), in[name], "%s in %s at %d", id, name, b.now)
	}
}

// TestEqualsOracle sends random events in random order, far past and future among them, moves the clock
// and merges; after every step each membership told must be the oracle's.
func TestEqualsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		defs, program := drawDefinitions(t)
		b := newBench(t, program, "p", "q")
		b.now = 1_000_000
		oracles := map[string]*oracle{"p": {defs: defs}, "q": {defs: defs}}
		merged := false
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"p", "q"}).Draw(t, "person")
			if merged {
				id = "p"
			}
			switch rapid.SampledFrom([]string{"event", "event", "event", "advance", "merge"}).Draw(t, "do") {
			case "event":
				shift := rapid.SampledFrom([]int64{0, 0, -1, -500, -1000, -4000, -12_000, -59_999, -60_000, -900_000, 1, 700, 3000, 30_000})
				h := drawHappening(t, fmt.Sprintf("m%d", i), b.now+shift.Draw(t, "shift"))
				h.event.Event.Historical = rapid.IntRange(0, 4).Draw(t, "historical") == 0
				oracles[id].events = append(oracles[id].events, h)
				b.send(id, h)
			case "advance":
				b.advance(b.now + rapid.SampledFrom([]int64{1, 499, 1000, 2500, 5000, 61_000}).Draw(t, "by"))
			case "merge":
				if !merged {
					merged = true
					b.merge("p", "q", Merge{ID: "x", AtMs: b.now})
					oracles["p"].events = append(oracles["p"].events, oracles["q"].events...)
					oracles["q"].events = nil
				}
			}
			b.equal("p", oracles["p"])
			b.equal("q", oracles["q"])
		}
		for id := range oracles {
			requireAlternating(t, b.told[id])
		}
	})
}

// requireAlternating demands that flips of a segment alternate and never go back in time.
func requireAlternating(t require.TestingT, told []Flip) {
	last := map[string]Flip{}
	for _, flip := range told {
		before := last[flip.Segment]
		require.NotEqual(t, before.Entered, flip.Entered, "a flip that is none")
		if before.Segment != "" {
			require.GreaterOrEqual(t, flip.AtMs, before.AtMs, "a flip before the one told before it")
		}
		last[flip.Segment] = flip
	}
}

func drawHappening(t *rapid.T, id string, at int64) happening {
	name := rapid.SampledFrom([]string{"a", "a", "b", "c", "d", "plan"}).Draw(t, "name")
	plan := ""
	if name == "plan" {
		plan = rapid.SampledFrom([]string{"gold", "free"}).Draw(t, "plan")
	}
	return newHappening(id, at, name, plan)
}

// TestFlipsAreExactInOrder sends events as they happen; every flip told, with its instant, must be the oracle's.
func TestFlipsAreExactInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		defs, program := drawDefinitions(t)
		b := newBench(t, program, "p")
		b.now = 1_000_000
		o := &oracle{defs: defs}
		for i := range rapid.IntRange(1, 25).Draw(t, "events") {
			b.advance(b.now + rapid.SampledFrom([]int64{0, 1, 500, 999, 1000, 2000, 4000, 5000, 14_000}).Draw(t, "gap"))
			h := drawHappening(t, fmt.Sprintf("m%d", i), b.now)
			o.events = append(o.events, h)
			b.send("p", h)
		}
		b.advance(b.now + 200_000)
		// Events of the same millisecond have an order that the oracle does not see.
		require.Equal(t, o.flips(b.now), net(b.told["p"]))
	})
}

// net writes flips in order of time and name, without those that were taken back within a millisecond.
func net(told []Flip) []string {
	type place struct {
		at      int64
		segment string
	}
	first, last := map[place]bool{}, map[place]bool{}
	var order []place
	for _, flip := range told {
		at := place{flip.AtMs, flip.Segment}
		if _, seen := first[at]; !seen {
			first[at] = flip.Entered
			order = append(order, at)
		}
		last[at] = flip.Entered
	}
	slices.SortFunc(order, func(a, b place) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return int(a.segment[1]) - int(b.segment[1])
	})
	var lines []string
	for _, at := range order {
		if first[at] == last[at] {
			lines = append(lines, fmt.Sprintf("%d %s %t", at.at, at.segment, last[at]))
		}
	}
	return lines
}

// TestDelayDoesNotMoveFlips handles one event long after it happened: the flips are those of time.
func TestDelayDoesNotMoveFlips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		defs, program := drawDefinitions(t)
		b := newBench(t, program, "p")
		h := drawHappening(t, "m", 1_000_000)
		b.now = 1_000_000 + rapid.Int64Range(0, 200_000).Draw(t, "delay")
		b.send("p", h)
		o := &oracle{defs: defs, events: []happening{h}}
		require.Equal(t, o.flips(b.now), net(b.told["p"]))
		for _, flip := range b.told["p"] {
			if flip.AtMs == h.at {
				require.Equal(t, Cause{Kind: segmentv1.Cause_CAUSE_EVENT, ID: "m"}, flip.Cause)
			} else {
				require.Equal(t, Cause{Kind: segmentv1.Cause_CAUSE_TIMER}, flip.Cause)
			}
		}
	})
}
