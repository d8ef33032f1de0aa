// Package plandraft makes a tracking plan of what a source has sent: its events, each with the properties that
// were seen, their types, and whether every event had them. It is pure: what ClickHouse counted goes in, a
// definition comes out.
//
// What it promises: the plan is one that `sillage apply` takes, and what was counted is as planned by it
// (TestDraft); it only observes until somebody says more. Its limits are what ClickHouse's JSON type tells: a
// property whose name holds a dot reads as one within another, and of an array's objects only that they are.
package plandraft

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Event is one name of event with how often it was seen. Page, screen, identify and group calls have none.
type Event struct {
	Type, Name string
	Count      int64
}

// Property is a path within an event's properties (or traits): its types as ClickHouse names them, and how
// many events had it.
type Property struct {
	Type, Name string
	Path       string
	Kinds      []string
	Count      int64
}

// Seen is what a source has sent.
type Seen struct {
	Tenant, Source string
	Events         []Event
	Properties     []Property
}

// Draft is the plan, named like its source, with how many of the rarest events were left out because a plan
// cannot list more.
func Draft(seen Seen) (def *definitionv1.Definition, left int, err error) {
	if len(seen.Events) == 0 {
		return nil, 0, errors.New("nothing was seen of this source")
	}
	events := slices.Clone(seen.Events)
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	if left = max(0, len(events)-definition.MaxPlannedEvents); left > 0 {
		events = events[:definition.MaxPlannedEvents]
	}
	properties := map[[2]string][]Property{}
	for _, p := range seen.Properties {
		at := [2]string{p.Type, p.Name}
		properties[at] = append(properties[at], p)
	}
	spec := &definitionv1.TrackingPlan{Source: seen.Source, Mode: definitionv1.PlanMode_PLAN_MODE_OBSERVE}
	for _, ev := range events {
		planned := &definitionv1.PlannedEvent{Event: ev.Name}
		if ev.Type != "track" {
			planned.Type = ev.Type
		}
		schema, err := json.Marshal(schemaOf(properties[[2]string{ev.Type, ev.Name}], ev.Count))
		if err != nil {
			return nil, 0, fmt.Errorf("writing the schema of %s: %w", ev.Name, err)
		}
		planned.Schema = string(schema)
		spec.Events = append(spec.Events, planned)
	}
	def = &definitionv1.Definition{
		Tenant: seen.Tenant, Name: seen.Source, Description: "Drafted from what was seen",
		Spec: &definitionv1.Definition_TrackingPlan{TrackingPlan: spec},
	}
	if err := definition.Validate(def, nil); err != nil {
		return nil, 0, fmt.Errorf("what was seen makes no plan: %w", err)
	}
	return def, left, nil
}

// node is a property with those within it.
type node struct {
	kinds  map[string]bool
	items  map[string]bool
	count  int64
	inside map[string]*node
}

// schemaOf is the schema of the properties of count events.
func schemaOf(properties []Property, count int64) map[string]any {
	root := &node{inside: map[string]*node{}}
	for _, p := range properties {
		at := root
		steps := strings.Split(p.Path, ".")
		for i, step := range steps {
			next := at.inside[step]
			if next == nil {
				next = &node{kinds: map[string]bool{}, items: map[string]bool{}, inside: map[string]*node{}}
				at.inside[step] = next
			}
			if i < len(steps)-1 {
				next.kinds["object"] = true
				next.count = max(next.count, p.Count)
			}
			at = next
		}
		at.count = max(at.count, p.Count)
		for _, kind := range p.Kinds {
			name, item := kindOf(kind)
			at.kinds[name] = true
			if item != "" {
				at.items[item] = true
			}
		}
	}
	out := root.members(count)
	out["type"] = "object"
	return out
}

// members are properties and required of the events that had the node itself.
func (n *node) members(count int64) map[string]any {
	out, inside := map[string]any{}, map[string]any{}
	var required []string
	for name, part := range n.inside {
		inside[name] = part.schema()
		if part.count >= count {
			required = append(required, name)
		}
	}
	if len(inside) > 0 {
		out["properties"] = inside
	}
	if len(required) > 0 {
		slices.Sort(required)
		out["required"] = required
	}
	return out
}

func (n *node) schema() map[string]any {
	out := map[string]any{}
	if n.kinds["object"] {
		// How many events had it is not counted, only how many had the most common of its parts: nothing is
		// required within.
		out = n.members(n.count + 1)
	}
	if types := typesOf(n.kinds); types != nil {
		out["type"] = types
	}
	if types := typesOf(n.items); types != nil && n.kinds["array"] {
		out["items"] = map[string]any{"type": types}
	}
	return out
}

// typesOf is one type, or several; nil if anything will do.
func typesOf(kinds map[string]bool) any {
	var all []string
	for kind := range kinds {
		switch {
		case kind == "any":
			return nil
		case kind == "integer" && kinds["number"]: // every integer is a number
		default:
			all = append(all, kind)
		}
	}
	slices.Sort(all)
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return all
}

// kindOf is the type of JSON Schema for a type that ClickHouse has inferred, with that of an array's items.
// Dates are text that reads as one.
func kindOf(inferred string) (kind, item string) {
	if inner, ok := strings.CutPrefix(inferred, "Array("); ok {
		item, _ = kindOf(strings.TrimSuffix(inner, ")"))
		if strings.HasPrefix(inner, "JSON") {
			item = "object"
		}
		return "array", item
	}
	if inner, ok := strings.CutPrefix(inferred, "Nullable("); ok {
		// In an array null stands beside the others, and which of them had one is not told.
		return kindOf(strings.TrimSuffix(inner, ")"))
	}
	switch {
	case strings.HasPrefix(inferred, "Int"), strings.HasPrefix(inferred, "UInt"):
		return "integer", ""
	case strings.HasPrefix(inferred, "Float"), strings.HasPrefix(inferred, "Decimal"):
		return "number", ""
	case inferred == "Bool":
		return "boolean", ""
	case inferred == "String", strings.HasPrefix(inferred, "Date"), inferred == "UUID", strings.HasPrefix(inferred, "IPv"):
		return "string", ""
	case strings.HasPrefix(inferred, "JSON"), strings.HasPrefix(inferred, "Map"), strings.HasPrefix(inferred, "Object"):
		return "object", ""
	case strings.HasPrefix(inferred, "Tuple"):
		return "array", "any"
	}
	return "any", ""
}
