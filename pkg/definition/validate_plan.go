package definition

import (
	"errors"
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/plan"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func (c *checker) plan(p *definitionv1.TrackingPlan) {
	c.slug("spec.source", p.GetSource())
	c.count("spec.events", len(p.GetEvents()), MaxPlannedEvents)
	c.mode("spec.mode", p.GetMode())
	c.mode("spec.unplanned", p.GetUnplanned())
	for i, planned := range p.GetEvents() {
		at := fmt.Sprintf("spec.events[%d]", i)
		c.text(at+".event", planned.GetEvent(), maxEventName)
		c.text(at+".description", planned.GetDescription(), maxTextLength)
		c.mode(at+".mode", planned.GetMode())
	}
	if len(p.GetEvents()) <= MaxPlannedEvents {
		_, err := plan.Compile(c.def)
		c.planErrors(err)
	}
	for _, other := range c.refs.List(c.id.Tenant, KindPlan) {
		if IDOf(other) != c.id && other.GetTrackingPlan().GetSource() == p.GetSource() {
			c.failf("spec.source", "the source %q has the tracking plan %q already, and can have only one", p.GetSource(), other.GetName())
		}
	}
}

func (c *checker) mode(path string, mode definitionv1.PlanMode) {
	if _, known := definitionv1.PlanMode_name[int32(mode)]; !known {
		c.failf(path, "%d is not a mode (write observe, quarantine or reject)", mode)
	}
}

// planErrors takes over what compiling found.
func (c *checker) planErrors(err error) {
	joined, many := err.(interface{ Unwrap() []error }) // as Compile says
	if !many {
		return
	}
	for _, part := range joined.Unwrap() {
		if field, ok := errors.AsType[*plan.FieldError](part); ok {
			c.failf("spec."+field.Path, "%s", field.Problem)
		}
	}
}
