package evaluate

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/scoring/internal/program"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// entries is a store in memory.
type entries map[string][]byte

func (e entries) Get(name string) ([]byte, bool) { v, ok := e[name]; return v, ok }
func (e entries) Put(name string, value []byte)  { e[name] = slices.Clone(value) }
func (e entries) Delete(name string)             { delete(e, name) }

func filter(event string) *definitionv1.EventFilter { return &definitionv1.EventFilter{Event: event} }

func scoreDefinition(name string, version int64, score *definitionv1.Score) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "acme", Name: name, Version: version, Spec: &definitionv1.Definition_Score{Score: score}}
}

func heatDefinition() *definitionv1.Score {
	return &definitionv1.Score{Heat: &definitionv1.Heat{
		HalfLife: "10s",
		Rules: []*definitionv1.HeatRule{
			{Filter: filter("view"), Points: 1}, {Filter: filter("buy"), Points: 5}, {Filter: filter("complain"), Points: -4},
			{Filter: &definitionv1.EventFilter{}, Points: 0.5},
		},
		Labels: []*definitionv1.Label{{From: 8, Name: "hot"}, {From: 1, Name: "warm"}, {From: -2, Name: "cool"}},
	}}
}

func rfmDefinition(within string) *definitionv1.Score {
	return &definitionv1.Score{Rfm: &definitionv1.Rfm{
		Purchase: filter("buy"), Refund: filter("refund"), Within: within,
		RecencyDays: []float64{0.0001, 0.0003}, Frequency: []float64{2, 4}, Monetary: []float64{1.5, 6},
		Labels: []*definitionv1.Label{{From: 3, Name: "lost"}, {From: 5, Name: "loyal"}, {From: 8, Name: "champion"}},
	}}
}

func testProgram(t require.TestingT) *program.Program {
	p := program.Compile([]*definitionv1.Definition{
		scoreDefinition("heat", 1, heatDefinition()),
		scoreDefinition("value", 1, rfmDefinition("")),
		scoreDefinition("value-30s", 1, rfmDefinition("30s")),
	})
	require.Empty(t, p.Broken)
	return p
}

// bench drives the persons of a test.
type bench struct {
	t       require.TestingT
	program *program.Program
	person  Person
	now     int64
	state   map[string]entries
	timer   map[string]int64
	told    map[string]map[string]Change
	log     map[string][]Change
}

func newBench(t require.TestingT, prog *program.Program) *bench {
	return &bench{
		t: t, program: prog, now: 1_000_000, timer: map[string]int64{},
		state: map[string]entries{"p": {}, "q": {}},
		told:  map[string]map[string]Change{"p": {}, "q": {}}, log: map[string][]Change{},
	}
}

func (b *bench) with(id string, do func(p *Person) error) []Change {
	require.NoError(b.t, b.person.Begin(b.program, b.state[id], b.now))
	require.NoError(b.t, do(&b.person))
	outcome := b.person.Finish()
	if outcome.Due != Forever {
		b.timer[id] = outcome.Due
	}
	for _, c := range outcome.Changes {
		if c.Removed {
			delete(b.told[id], c.Score)
		} else {
			b.told[id][c.Score] = c
		}
	}
	b.log[id] = append(b.log[id], outcome.Changes...)
	return slices.Clone(outcome.Changes)
}

func (b *bench) send(id string, ev *eventv1.Event) []Change {
	changes := b.with(id, func(p *Person) error { return p.Event(ev) })
	b.advance(b.now)
	return changes
}

func (b *bench) advance(to int64) {
	for {
		next, due := "", int64(Forever)
		for id, at := range b.timer {
			if at < due || (at == due && id < next) {
				next, due = id, at
			}
		}
		if due > to {
			b.now = max(b.now, to)
			return
		}
		delete(b.timer, next)
		b.now = max(b.now, due)
		b.with(next, func(p *Person) error { p.Tick(); return nil })
	}
}

func (b *bench) merge(dst, src string) {
	merge := Merge{ID: "x", AtMs: b.now}
	b.with(src, func(p *Person) error { p.Leave(merge); return nil })
	delete(b.timer, src)
	b.with(dst, func(p *Person) error { return p.Absorb(b.state[src]) })
	b.state[src] = entries{}
	b.advance(b.now)
}

// TestEqualsOracle sends random events in random order, far past and future among them, moves the clock
// and merges; after every step what was told must be what a look at all events says.
func TestEqualsOracle(t *testing.T) {
	prog := testProgram(t)
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, prog)
		events := map[string][]*eventv1.Event{}
		merged := false
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"p", "q"}).Draw(t, "person")
			if merged {
				id = "p"
			}
			switch rapid.SampledFrom([]string{"event", "event", "event", "advance", "merge"}).Draw(t, "do") {
			case "event":
				ev := &eventv1.Event{
					MessageId: fmt.Sprintf("m%d", i), Type: eventv1.EventType_EVENT_TYPE_TRACK,
					Name:        rapid.SampledFrom([]string{"view", "view", "buy", "buy", "refund", "complain", "other"}).Draw(t, "name"),
					TimestampMs: b.now + rapid.SampledFrom([]int64{0, 0, -1, -500, -9000, -29_999, -30_000, -900_000, 1, 3000}).Draw(t, "shift"),
					ValueMicros: rapid.Int64Range(0, 2_000_000).Draw(t, "micros"),
				}
				events[id] = append(events[id], ev)
				perScore := map[string]int{}
				for _, c := range b.send(id, ev) {
					if c.Cause.Kind == segmentv1.Cause_CAUSE_EVENT {
						perScore[c.Score]++
						require.Equal(t, 1, perScore[c.Score])
					}
				}
			case "advance":
				b.advance(b.now + rapid.SampledFrom([]int64{1, 499, 2500, 8640, 25_000, 61_000}).Draw(t, "by"))
			case "merge":
				if !merged {
					merged = true
					b.merge("p", "q")
					events["p"] = append(events["p"], events["q"]...)
					events["q"] = nil
					require.Empty(t, b.told["q"], "the scores of the profile that ended are removed")
				}
			}
			b.equal("p", events["p"])
			b.equal("q", events["q"])
		}
	})
}

// equal compares what was told of a person with the oracle.
func (b *bench) equal(id string, events []*eventv1.Event) {
	value, size, touched := 0.0, 0.0, false
	points := map[string]float64{"view": 1.5, "buy": 5.5, "complain": -3.5}
	for _, ev := range events {
		if ev.GetTimestampMs() > b.now {
			continue
		}
		earned, ok := points[ev.GetName()]
		if !ok {
			earned = 0.5
		}
		worth := earned * math.Exp2(-float64(b.now-ev.GetTimestampMs())/10_000)
		value, size, touched = value+worth, size+math.Abs(worth), touched || math.Abs(worth) > 1e-6
	}
	told, known := b.told[id]["heat"]
	if touched {
		require.True(b.t, known, "%s has no heat", id)
	}
	if known {
		require.InDelta(b.t, value, told.Value*math.Exp2(-float64(b.now-told.AtMs)/10_000), 1e-6*(1+size))
		if labels := b.program.Scores[0].Heat.Labels; labels.Rank(value-1e-6) == labels.Rank(value+1e-6) {
			require.Equal(b.t, labels.Of(value), told.Label)
		}
	}
	b.equalRfm(id, "value", math.MaxInt64/2, events)
	b.equalRfm(id, "value-30s", 30_000, events)
}

func (b *bench) equalRfm(id, score string, within int64, events []*eventv1.Event) {
	var count, micros int64
	last, found := int64(Never), false
	for _, ev := range events {
		if ev.GetTimestampMs() > b.now || b.now-ev.GetTimestampMs() >= within {
			continue
		}
		switch ev.GetName() {
		case "buy":
			count, micros, last, found = count+1, micros+ev.GetValueMicros(), max(last, ev.GetTimestampMs()), true
		case "refund":
			micros, found = micros-ev.GetValueMicros(), true
		}
	}
	told, known := b.told[id][score]
	if !known {
		require.False(b.t, found, "%s has no %s", id, score)
		return
	}
	marks := 3.0
	for _, holds := range []bool{
		count >= 2, count >= 4, micros >= 1_500_000, micros >= 6_000_000, b.now-last < 8640, b.now-last < 25_920,
	} {
		if holds {
			marks++
		}
	}
	require.InDelta(b.t, marks, told.Value, 0, "%s %s at %d", id, score, b.now)
	require.Equal(b.t, count, told.Rfm.Frequency)
	require.Equal(b.t, micros, told.Rfm.Micros)
	require.Equal(b.t, map[bool]string{true: "champion", false: map[bool]string{true: "loyal", false: "lost"}[marks >= 5]}[marks >= 8], told.Label)
}

// TestCoolsInTime follows one event down the labels.
func TestCoolsInTime(t *testing.T) {
	b := newBench(t, testProgram(t))
	b.send("p", &eventv1.Event{MessageId: "m", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "view", TimestampMs: b.now})
	b.send("p", &eventv1.Event{MessageId: "n", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "buy", TimestampMs: b.now})
	start := b.now
	b.advance(start + 1_000_000)
	var labels []string
	for _, c := range b.log["p"] {
		if c.Score == "heat" {
			labels = append(labels, fmt.Sprintf("%d %s %s", c.AtMs-start, c.Label, c.Cause.Kind))
		}
	}
	require.Equal(t, []string{
		"0 warm CAUSE_EVENT", "0 warm CAUSE_EVENT", "28074 cool CAUSE_TIMER",
	}, labels)
}

// TestRedefine changes what scores depend on: labels keep the value, rules do not.
func TestRedefine(t *testing.T) {
	b := newBench(t, testProgram(t))
	b.send("p", &eventv1.Event{MessageId: "m", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "buy", TimestampMs: b.now, ValueMicros: 2_000_000})
	require.Len(t, b.told["p"], 3)

	relabelled := heatDefinition()
	relabelled.Heat.Labels[1].Name = "tepid"
	b.program = program.Compile([]*definitionv1.Definition{
		scoreDefinition("heat", 2, relabelled), scoreDefinition("value", 2, rfmDefinition("60s")),
	})
	changes := b.send("p", &eventv1.Event{MessageId: "n", Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, TimestampMs: b.now})
	told := map[string]Change{}
	for _, c := range changes {
		require.Equal(t, segmentv1.Cause_CAUSE_DEFINITION, c.Cause.Kind)
		told[c.Score] = c
	}
	require.Len(t, told, 3)
	require.Equal(t, "tepid", told["heat"].Label)
	require.InDelta(t, 5.5, told["heat"].Value, 0)
	require.True(t, told["value"].Removed)
	require.True(t, told["value-30s"].Removed)

	b.program = testProgram(t)
	changes = b.send("p", &eventv1.Event{MessageId: "o", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "buy", TimestampMs: b.now, Historical: true})
	require.Len(t, changes, 3)
	for _, c := range changes {
		require.Equal(t, Cause{Kind: segmentv1.Cause_CAUSE_EVENT, ID: "o", Historical: true}, c.Cause)
	}
}

// FuzzDecode feeds the decoder anything: it must refuse or read, and what it reads must survive being
// evaluated, written and read again.
func FuzzDecode(f *testing.F) {
	prog := testProgram(f)
	b := newBench(f, prog)
	for i, name := range []string{"buy", "refund", "view", "buy"} {
		b.send("p", &eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name, TimestampMs: b.now + int64(i-1)*5000, ValueMicros: 7})
		f.Add(b.state["p"][entryScores])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		store := entries{entryScores: raw}
		var p Person
		if err := p.Begin(prog, store, 1_000_000); err != nil {
			return
		}
		if err := p.Event(&eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "buy", TimestampMs: 1_000_000}); err != nil {
			t.Fatal(err)
		}
		p.Finish()
		require.NoError(t, p.Begin(prog, store, 1_000_000))
	})
}
