package evaluate

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"
)

// happening is an event as the oracle sees it.
type happening struct {
	id    string
	at    int64
	name  string // of a track event
	plan  string // trait stated, if any
	event *profilev1.ResolvedEvent
}

func newHappening(id string, at int64, name, plan string) happening {
	event := &eventv1.Event{
		MessageId: id, Tenant: "acme", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name, TimestampMs: at,
	}
	if plan != "" {
		event.Type, event.Name = eventv1.EventType_EVENT_TYPE_IDENTIFY, ""
		event.Traits, _ = json.Marshal(map[string]string{"plan": plan})
		name = ""
	}
	return happening{id: id, at: at, name: name, plan: plan, event: &profilev1.ResolvedEvent{Event: event}}
}

// oracle decides membership by looking at every event each time.
type oracle struct {
	defs   map[string]*definitionv1.Condition
	events []happening
}

func (o *oracle) member(segment string, at int64) bool {
	exists := slices.ContainsFunc(o.events, func(h happening) bool { return h.at <= at })
	return exists && o.holds(o.defs[segment], at)
}

func (o *oracle) holds(c *definitionv1.Condition, at int64) bool {
	switch {
	case len(c.GetAll()) > 0:
		return !slices.ContainsFunc(c.GetAll(), func(c *definitionv1.Condition) bool { return !o.holds(c, at) })
	case len(c.GetAny()) > 0:
		return slices.ContainsFunc(c.GetAny(), func(c *definitionv1.Condition) bool { return o.holds(c, at) })
	case c.GetNot() != nil:
		return !o.holds(c.GetNot(), at)
	case c.GetSegment() != "":
		return o.holds(o.defs[c.GetSegment()], at)
	case c.GetWhere() != "":
		return o.plan(at) == "gold"
	case c.GetPerformed() != nil:
		return o.performed(c.GetPerformed(), at)
	case c.GetAbandoned() != nil:
		return o.abandoned(c.GetAbandoned(), at)
	default:
		last, some := o.last(c.GetInactive().GetFilter(), at)
		return some && at-last >= length(c.GetInactive().GetFor())
	}
}

func (o *oracle) plan(at int64) string {
	var last happening
	for _, h := range o.events {
		if h.plan != "" && h.at <= at && (last.plan == "" || h.at > last.at || (h.at == last.at && h.plan > last.plan)) {
			last = h
		}
	}
	return last.plan
}

func (o *oracle) performed(c *definitionv1.Performed, at int64) bool {
	n := int32(0)
	for _, h := range o.events {
		if h.at <= at && h.name != "" && h.name == c.GetFilter().GetEvent() && (c.GetWithin() == "" || at-h.at < length(c.GetWithin())) {
			n++
		}
	}
	least := c.GetAtLeast()
	if least == 0 && c.AtMost == nil {
		least = 1
	}
	return n >= least && (c.AtMost == nil || n <= c.GetAtMost())
}

func (o *oracle) abandoned(c *definitionv1.Abandoned, at int64) bool {
	started, some := o.last(c.GetStarted(), at)
	if finished, done := o.last(c.GetFinished(), at); !some || (done && finished >= started) {
		return false
	}
	passed := at - started - length(c.GetWithin())
	return passed >= 0 && (c.GetLasts() == "" || passed < length(c.GetLasts()))
}

// last is the latest event of a filter; an empty one stands for any event.
func (o *oracle) last(f *definitionv1.EventFilter, at int64) (int64, bool) {
	last, some := int64(window.Never), false
	for _, h := range o.events {
		if h.at <= at && (f.GetEvent() == "" || h.name == f.GetEvent()) {
			last, some = max(last, h.at), true
		}
	}
	return last, some
}

// instants are all times up to a bound at which a membership may change, in order.
func (o *oracle) instants(upto int64) []int64 {
	lengths := []int64{0}
	var walk func(c *definitionv1.Condition)
	walk = func(c *definitionv1.Condition) {
		for _, child := range append(slices.Clone(c.GetAll()), c.GetAny()...) {
			walk(child)
		}
		if c.GetNot() != nil {
			walk(c.GetNot())
		}
		within, lasts := length(c.GetAbandoned().GetWithin()), length(c.GetAbandoned().GetLasts())
		lengths = append(lengths, length(c.GetPerformed().GetWithin()), within, within+lasts, length(c.GetInactive().GetFor()))
	}
	for _, c := range o.defs {
		walk(c)
	}
	var all []int64
	for _, h := range o.events {
		for _, l := range lengths {
			if h.at+l <= upto {
				all = append(all, h.at+l)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// flips are what the oracle would tell up to a time.
func (o *oracle) flips(upto int64) []string {
	var told []string
	names := o.names()
	in := map[string]bool{}
	for _, at := range o.instants(upto) {
		for _, name := range names {
			if now := o.member(name, at); now != in[name] {
				in[name] = now
				told = append(told, fmt.Sprintf("%d %s %t", at, name, now))
			}
		}
	}
	return told
}

func (o *oracle) names() []string {
	names := make([]string, 0, len(o.defs))
	for name := range o.defs {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func length(text string) int64 {
	if text == "" {
		return 0
	}
	d, err := definition.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return d.Milliseconds()
}

// drawDefinitions draws segments s0, s1, …; each may refer to those before it.
func drawDefinitions(t *rapid.T) (map[string]*definitionv1.Condition, *condition.Program) {
	conditions := map[string]*definitionv1.Condition{}
	var defs []*definitionv1.Definition
	for i := range rapid.IntRange(1, 5).Draw(t, "segments") {
		name := fmt.Sprintf("s%d", i)
		conditions[name] = drawCondition(t, 3, i)
		defs = append(defs, segmentDefinition(name, 1, conditions[name]))
	}
	program := condition.Compile(defs)
	for name, err := range program.Broken {
		t.Fatalf("%s: %v", name, err)
	}
	return conditions, program
}

func segmentDefinition(name string, version int64, c *definitionv1.Condition) *definitionv1.Definition {
	return &definitionv1.Definition{
		Tenant: "acme", Name: name, Version: version,
		Spec: &definitionv1.Definition_Segment{Segment: &definitionv1.Segment{Condition: c}},
	}
}

func drawCondition(t *rapid.T, depth, segments int) *definitionv1.Condition {
	kinds := []string{"performed", "performed", "abandoned", "inactive", "where"}
	if depth > 0 {
		kinds = append(kinds, "all", "any", "not")
	}
	if segments > 0 {
		kinds = append(kinds, "segment")
	}
	children := func() []*definitionv1.Condition {
		var list []*definitionv1.Condition
		for range rapid.IntRange(1, 3).Draw(t, "children") {
			list = append(list, drawCondition(t, depth-1, segments))
		}
		return list
	}
	filter := func() *definitionv1.EventFilter {
		return &definitionv1.EventFilter{Event: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "event")}
	}
	duration := rapid.SampledFrom([]string{"1s", "2s", "5s", "13s", "60s"})
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "all":
		return &definitionv1.Condition{All: children()}
	case "any":
		return &definitionv1.Condition{Any: children()}
	case "not":
		return &definitionv1.Condition{Not: drawCondition(t, depth-1, segments)}
	case "segment":
		return &definitionv1.Condition{Segment: fmt.Sprintf("s%d", rapid.IntRange(0, segments-1).Draw(t, "ref"))}
	case "where":
		return &definitionv1.Condition{Where: `traits.plan == "gold"`}
	case "abandoned":
		c := &definitionv1.Abandoned{Started: filter(), Finished: filter(), Within: duration.Draw(t, "within")}
		if rapid.Bool().Draw(t, "ends") {
			c.Lasts = duration.Draw(t, "lasts")
		}
		return &definitionv1.Condition{Abandoned: c}
	case "inactive":
		c := &definitionv1.Inactive{For: duration.Draw(t, "for")}
		if rapid.Bool().Draw(t, "filtered") {
			c.Filter = filter()
		}
		return &definitionv1.Condition{Inactive: c}
	default:
		c := &definitionv1.Performed{Filter: filter(), AtLeast: int32(rapid.IntRange(0, 3).Draw(t, "least"))}
		if rapid.Bool().Draw(t, "bounded") {
			most := int32(rapid.IntRange(0, 3).Draw(t, "most"))
			c.AtMost = &most
		}
		if rapid.Bool().Draw(t, "windowed") {
			c.Within = duration.Draw(t, "within")
		}
		return &definitionv1.Condition{Performed: c}
	}
}
