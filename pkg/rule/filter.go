package rule

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Filter says which events count. It is immutable and safe for concurrent use.
type Filter struct {
	name    string
	kind    eventv1.EventType
	anyKind bool
	program cel.Program
}

// CompileFilter compiles a filter. No filter at all (nil) matches every event of the person's own, of
// any type. A filter without a type is for track events. A filter that names no event never matches
// events that Sillage wrote itself (outcomes of sends); one that names them does. No filter ever matches an
// event that is marked as a bot's: nobody did it.
func CompileFilter(def *definitionv1.EventFilter) (*Filter, error) {
	if def == nil {
		return &Filter{anyKind: true}, nil
	}
	kind, err := parseType(def.GetType())
	if err != nil {
		return nil, fmt.Errorf("type: %w", err)
	}
	filter := &Filter{name: def.GetEvent(), kind: kind}
	if def.GetWhere() != "" {
		if filter.program, _, err = compile(eventEnv, def.GetWhere()); err != nil {
			return nil, fmt.Errorf("where: %w", err)
		}
	}
	return filter, nil
}

func parseType(text string) (eventv1.EventType, error) {
	switch text {
	case "", "track":
		return eventv1.EventType_EVENT_TYPE_TRACK, nil
	case "identify":
		return eventv1.EventType_EVENT_TYPE_IDENTIFY, nil
	case "page":
		return eventv1.EventType_EVENT_TYPE_PAGE, nil
	case "screen":
		return eventv1.EventType_EVENT_TYPE_SCREEN, nil
	case "group":
		return eventv1.EventType_EVENT_TYPE_GROUP, nil
	case "alias":
		return eventv1.EventType_EVENT_TYPE_ALIAS, nil
	default:
		return 0, fmt.Errorf("%q is not a type of event (write track, page, screen, identify, group or alias)", text)
	}
}

// Match says whether ev counts. For many filters over one event, MatchEvent reads its JSON only once.
func (f *Filter) Match(ev *eventv1.Event) bool {
	if !f.matchKind(ev) {
		return false
	}
	return f.program == nil || holds(f.program, NewEvent(ev))
}

// MatchEvent is Match on a prepared event.
func (f *Filter) MatchEvent(ev *Event) bool {
	if !f.matchKind(ev.event) {
		return false
	}
	return f.program == nil || holds(f.program, ev)
}

// EventName is the name that events must have; empty for any. Callers index filters by it.
func (f *Filter) EventName() string { return f.name }

func (f *Filter) matchKind(ev *eventv1.Event) bool {
	if ev.GetBot() {
		return false
	}
	if f.name == "" {
		return !ev.GetInternal() && (f.anyKind || ev.GetType() == f.kind)
	}
	return ev.GetType() == f.kind && ev.GetName() == f.name
}

// holds evaluates a program; anything but true, errors included, is false.
func holds(program cel.Program, input any) bool {
	out, _, err := program.Eval(input)
	return err == nil && out == types.True
}

// errEmpty tells that there is nothing to compile.
var errEmpty = errors.New("the expression is empty")
