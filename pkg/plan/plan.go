package plan

import (
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
)

// Codes of violations.
const (
	// CodeUnplanned: the plan does not list the event.
	CodeUnplanned = "unplanned_event"
	// CodeViolation: the event breaks its schema.
	CodeViolation = "plan_violation"
)

// Plan is a compiled tracking plan. It is immutable and safe for concurrent use; a nil plan allows everything.
type Plan struct {
	name      string
	version   int64
	values    bool
	unplanned planv1.Action
	events    map[key]entry
}

type key struct {
	kind eventv1.EventType
	name string
}

type entry struct {
	action planv1.Action
	schema *jsonschema.Schema // nil allows any properties
}

// FieldError is what is wrong with a field of a plan.
type FieldError struct {
	// Path is the field within the spec, for example `events[2].schema`.
	Path string
	// Problem says what is wrong and what to write.
	Problem string
}

// Error is `events[2].schema: problem`.
func (e *FieldError) Error() string { return e.Path + ": " + e.Problem }

// Compile compiles the plan of a definition. Errors are *FieldError, joined; with any of them the plan is nil.
func Compile(def *definitionv1.Definition) (*Plan, error) {
	spec := def.GetTrackingPlan()
	mode := actionOf(spec.GetMode(), planv1.Action_ACTION_OBSERVED)
	p := &Plan{
		name: def.GetName(), version: def.GetVersion(), values: spec.GetSampleValues(),
		unplanned: actionOf(spec.GetUnplanned(), mode), events: make(map[key]entry, len(spec.GetEvents())),
	}
	var errs []error
	fail := func(i int, field, format string, args ...any) {
		errs = append(errs, &FieldError{Path: fmt.Sprintf("events[%d].%s", i, field), Problem: fmt.Sprintf(format, args...)})
	}
	for i, planned := range spec.GetEvents() {
		kind, ok := typeOf(planned.GetType())
		if !ok {
			fail(i, "type", "%q is not a type of event that can be planned (write track, page, screen, identify or group)", planned.GetType())
			continue
		}
		switch named := planned.GetEvent() != ""; {
		case !named && kind == eventv1.EventType_EVENT_TYPE_TRACK:
			fail(i, "event", "is missing (write the name of the track event)")
		case named && (kind == eventv1.EventType_EVENT_TYPE_IDENTIFY || kind == eventv1.EventType_EVENT_TYPE_GROUP):
			fail(i, "event", "must be empty: an identify or group call has no name")
		}
		at := key{kind, planned.GetEvent()}
		if _, twice := p.events[at]; twice {
			fail(i, "event", "%q is there twice", planned.GetEvent())
		}
		e := entry{action: actionOf(planned.GetMode(), mode)}
		if planned.GetSchema() != "" {
			schema, err := CompileSchema(planned.GetSchema())
			if err != nil {
				fail(i, "schema", "%s", err)
			}
			e.schema = schema
		}
		p.events[at] = e
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return p, nil
}

func typeOf(text string) (eventv1.EventType, bool) {
	switch text {
	case "", "track":
		return eventv1.EventType_EVENT_TYPE_TRACK, true
	case "page":
		return eventv1.EventType_EVENT_TYPE_PAGE, true
	case "screen":
		return eventv1.EventType_EVENT_TYPE_SCREEN, true
	case "identify":
		return eventv1.EventType_EVENT_TYPE_IDENTIFY, true
	case "group":
		return eventv1.EventType_EVENT_TYPE_GROUP, true
	}
	return 0, false
}

func actionOf(mode definitionv1.PlanMode, otherwise planv1.Action) planv1.Action {
	switch mode {
	case definitionv1.PlanMode_PLAN_MODE_OBSERVE:
		return planv1.Action_ACTION_OBSERVED
	case definitionv1.PlanMode_PLAN_MODE_QUARANTINE:
		return planv1.Action_ACTION_QUARANTINED
	case definitionv1.PlanMode_PLAN_MODE_REJECT:
		return planv1.Action_ACTION_REJECTED
	default:
		return otherwise
	}
}

// Lists says whether the plan names the event, so that its name is one of few.
func (p *Plan) Lists(ev *eventv1.Event) bool {
	if p == nil {
		return false
	}
	_, ok := p.events[key{ev.GetType(), ev.GetName()}]
	return ok
}

// Check holds an event against the plan: nil if it is as planned, else what is wrong and what is to be done.
// Track events must be listed; a call of another type that is not listed passes.
func (p *Plan) Check(ev *eventv1.Event) *planv1.PlanViolation {
	if p == nil {
		return nil
	}
	found, ok := p.events[key{ev.GetType(), ev.GetName()}]
	if !ok && ev.GetName() != "" {
		found, ok = p.events[key{kind: ev.GetType()}] // any page, any screen
	}
	switch {
	case !ok && ev.GetType() == eventv1.EventType_EVENT_TYPE_TRACK:
		return p.violation(ev, CodeUnplanned, p.unplanned, nil)
	case !ok, found.schema == nil:
		return nil
	}
	value, err := instance(document(ev))
	if err != nil {
		return p.violation(ev, CodeViolation, found.action, []*planv1.Issue{{Keyword: "type", Expected: "object", Found: "no JSON"}})
	}
	err = found.schema.Validate(value)
	if err == nil {
		return nil
	}
	var wrong []*planv1.Issue
	if bad, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		wrong = issues(bad)
	}
	return p.violation(ev, CodeViolation, found.action, wrong)
}

// document is what a plan speaks of: the properties, or the traits of an identify or group call.
func document(ev *eventv1.Event) []byte {
	switch ev.GetType() {
	case eventv1.EventType_EVENT_TYPE_IDENTIFY, eventv1.EventType_EVENT_TYPE_GROUP:
		return ev.GetTraits()
	default:
		return ev.GetProperties()
	}
}

func (p *Plan) violation(ev *eventv1.Event, code string, action planv1.Action, wrong []*planv1.Issue) *planv1.PlanViolation {
	return &planv1.PlanViolation{
		Tenant: ev.GetTenant(), Source: ev.GetSource(), Plan: p.name, PlanVersion: p.version,
		Type: ev.GetType(), Name: ev.GetName(), MessageId: ev.GetMessageId(), ReceivedAtMs: ev.GetReceivedAtMs(),
		Code: code, Action: action, Issues: wrong, Sample: sample(document(ev), p.values),
	}
}
