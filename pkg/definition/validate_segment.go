package definition

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/rule"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func (c *checker) segment(s *definitionv1.Segment) {
	c.text("spec.display_name", s.GetDisplayName(), maxEventName)
	if s.GetCondition() == nil {
		c.failf("spec.condition", "is missing (write who is in the segment)")
		return
	}
	conditions := 0
	c.condition("spec.condition", s.GetCondition(), &conditions, 1)
	if conditions > MaxConditions {
		c.failf("spec.condition", "has %d conditions and %d are allowed: make segments of parts of it", conditions, MaxConditions)
	}
	c.segmentCycle()
}

// condition checks a condition and everything within it, and counts them.
func (c *checker) condition(path string, cond *definitionv1.Condition, counted *int, depth int) {
	*counted++
	if depth > MaxNesting {
		c.failf(path, "is nested %d deep and %d is allowed: make segments of parts of it", depth, MaxNesting)
		return
	}
	if !c.exactlyOne(path,
		field{"all", len(cond.GetAll()) > 0}, field{"any", len(cond.GetAny()) > 0}, field{"not", cond.GetNot() != nil},
		field{"where", cond.GetWhere() != ""}, field{"performed", cond.GetPerformed() != nil},
		field{"abandoned", cond.GetAbandoned() != nil}, field{"inactive", cond.GetInactive() != nil},
		field{"segment", cond.GetSegment() != ""}) {
		return
	}
	for i, inner := range cond.GetAll() {
		c.condition(fmt.Sprintf("%s.all[%d]", path, i), inner, counted, depth+1)
	}
	for i, inner := range cond.GetAny() {
		c.condition(fmt.Sprintf("%s.any[%d]", path, i), inner, counted, depth+1)
	}
	switch {
	case cond.GetNot() != nil:
		c.condition(path+".not", cond.GetNot(), counted, depth+1)
	case cond.GetWhere() != "":
		c.profileRule(path+".where", cond.GetWhere(), "traits", "consents")
	case cond.GetPerformed() != nil:
		c.performed(path+".performed", cond.GetPerformed())
	case cond.GetAbandoned() != nil:
		c.abandoned(path+".abandoned", cond.GetAbandoned())
	case cond.GetInactive() != nil:
		c.filter(path+".inactive.filter", cond.GetInactive().GetFilter())
		c.duration(path+".inactive.for", cond.GetInactive().GetFor(), false)
	}
}

func (c *checker) performed(path string, p *definitionv1.Performed) {
	c.needFilter(path+".filter", p.GetFilter())
	c.duration(path+".within", p.GetWithin(), true)
	if least := p.GetAtLeast(); least < 0 || least > MaxCount {
		c.failf(path+".at_least", "%d is not between 1 and %d", least, MaxCount)
	}
	if p.AtMost == nil {
		return
	}
	switch most := p.GetAtMost(); {
	case most < 0 || most > MaxCount:
		c.failf(path+".at_most", "%d is not between 0 and %d", most, MaxCount)
	case most < p.GetAtLeast():
		c.failf(path+".at_most", "%d is below at_least, %d", most, p.GetAtLeast())
	}
}

func (c *checker) abandoned(path string, a *definitionv1.Abandoned) {
	c.needFilter(path+".started", a.GetStarted())
	c.needFilter(path+".finished", a.GetFinished())
	c.duration(path+".within", a.GetWithin(), false)
	c.duration(path+".lasts", a.GetLasts(), true)
}

func (c *checker) needFilter(path string, f *definitionv1.EventFilter) {
	if f == nil {
		c.failf(path, "is missing (write which events count, for example {event: Order Completed})")
		return
	}
	c.filter(path, f)
}

func (c *checker) filter(path string, f *definitionv1.EventFilter) {
	if f == nil {
		return
	}
	c.text(path+".event", f.GetEvent(), maxEventName)
	if _, err := rule.CompileFilter(&definitionv1.EventFilter{Type: f.GetType()}); err != nil {
		c.failf(path+".type", "%s", errors.Unwrap(err))
		return
	}
	if _, err := rule.CompileFilter(f); err != nil {
		c.failf(path+".where", "%s", errors.Unwrap(err))
	}
}

// profileRule checks an expression on a profile that may look at some variables only.
func (c *checker) profileRule(path, expression string, allowed ...string) {
	compiled, err := rule.CompileProfile(expression)
	if err != nil {
		c.failf(path, "%s", err)
		return
	}
	for _, variable := range compiled.Variables() {
		if !slices.Contains(allowed, variable) {
			c.failf(path, "%s is not known here (use %s)", variable, strings.Join(allowed, ", "))
		}
	}
}

// segmentCycle checks that the segment does not come back to itself through those that it refers to.
func (c *checker) segmentCycle() {
	if way := c.wayBack(c.def, map[ID]bool{}); way != nil {
		c.failf("spec.condition", "the segment refers to itself: %s", strings.Join(append([]string{c.id.Name}, way...), " → "))
	}
}

// wayBack is the names on a way from def to the segment that is checked, nil if there is none. A segment
// from which no way was found is not looked at again.
func (c *checker) wayBack(def *definitionv1.Definition, done map[ID]bool) []string {
	for _, reference := range References(def) {
		target := reference.Target
		if target.Kind != KindSegment {
			continue
		}
		if target == c.id {
			return []string{target.Name}
		}
		next := c.refs.Get(target)
		if next == nil || done[target] {
			continue
		}
		done[target] = true
		if way := c.wayBack(next, done); way != nil {
			return append([]string{target.Name}, way...)
		}
	}
	return nil
}
