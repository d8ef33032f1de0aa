package rule

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Names of the variables of a filter.
const (
	varProperties = "properties"
	varContext    = "context"
	varName       = "name"
	varValue      = "value"
	varTimestamp  = "timestamp"
)

// micros is how many millionths make one unit of a currency.
const micros = 1e6

// Event is an event made ready for many filters: the fields of its JSON are split when the first
// expression asks for them and kept for the next. It is not safe for concurrent use. The event must not
// change while it is used.
type Event struct {
	event      *eventv1.Event
	properties *object
	context    *object
}

var _ cel.Activation = (*Event)(nil)

// NewEvent wraps ev.
func NewEvent(ev *eventv1.Event) *Event { return &Event{event: ev} }

// Reset makes e ready for another event, so that one Event serves a whole stream.
func (e *Event) Reset(ev *eventv1.Event) { *e = Event{event: ev} }

// ResolveName is the value of a variable, for CEL.
func (e *Event) ResolveName(name string) (any, bool) {
	switch name {
	case varProperties:
		if e.properties == nil {
			e.properties = parseObject(e.event.GetProperties())
		}
		return e.properties, true
	case varContext:
		if e.context == nil {
			e.context = parseObject(e.event.GetContext())
		}
		return e.context, true
	case varName:
		return types.String(e.event.GetName()), true
	case varValue:
		return types.Double(float64(e.event.GetValueMicros()) / micros), true
	case varTimestamp:
		return types.Timestamp{Time: time.UnixMilli(e.event.GetTimestampMs()).UTC()}, true
	default:
		return nil, false
	}
}

// Parent is nil: an event stands alone.
func (e *Event) Parent() cel.Activation { return nil }
