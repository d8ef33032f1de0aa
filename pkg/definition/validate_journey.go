package definition

import (
	"fmt"
	"strings"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// never is the value of `reentry` that lets nobody in twice.
const never = "never"

func (c *checker) journey(j *definitionv1.Journey) {
	c.text("spec.display_name", j.GetDisplayName(), maxEventName)
	c.entry("spec.entry", j.GetEntry())
	if j.GetReentry() != "" && j.GetReentry() != never {
		if _, err := ParseDuration(j.GetReentry()); err != nil {
			c.failf("spec.reentry", "%s, or write never", err)
		}
	}
	c.count("spec.exits", len(j.GetExits()), MaxExits)
	for i, exit := range j.GetExits() {
		path := fmt.Sprintf("spec.exits[%d]", i)
		c.slug(path+".reason", exit.GetReason())
		c.eventOrFlip(path, exit.GetEvent(), exit.GetSegment())
	}
	if len(j.GetSteps()) == 0 {
		c.failf("spec.steps", "is empty (write at least one step)")
		return
	}
	c.count("spec.steps", len(j.GetSteps()), MaxSteps)
	graph := newJourneyGraph(j.GetSteps())
	before := len(c.errs)
	for i, step := range j.GetSteps() {
		path := fmt.Sprintf("spec.steps[%d]", i)
		if graph.index[step.GetId()] != i {
			c.failf(path+".id", "%q is there twice", step.GetId())
		}
		c.step(path, step, graph)
	}
	// A way that is misspelt would show up again as a step that nothing leads to.
	if len(c.errs) == before {
		c.journeyGraph(graph)
	}
}

func (c *checker) entry(path string, entry *definitionv1.Entry) {
	if entry == nil {
		c.failf(path, "is missing (write how people come in: event or segment)")
		return
	}
	c.eventOrFlip(path, entry.GetEvent(), entry.GetSegment())
	if entry.GetWhere() != "" {
		c.profileRule(path+".where", entry.GetWhere(), "traits")
	}
}

func (c *checker) eventOrFlip(path string, event *definitionv1.EventFilter, flip *definitionv1.SegmentFlip) {
	if !c.exactlyOne(path, field{"event", event != nil}, field{"segment", flip != nil}) {
		return
	}
	if event != nil {
		c.filter(path+".event", event)
		return
	}
	c.slug(path+".segment.name", flip.GetName())
	if on := flip.GetOn(); on != "" && on != "entered" && on != "exited" {
		c.failf(path+".segment.on", "%q is neither entered nor exited", on)
	}
}

func (c *checker) step(path string, step *definitionv1.Step, graph *journeyGraph) {
	c.slug(path+".id", step.GetId())
	for _, way := range waysOf(step) {
		if _, known := graph.index[way.to]; way.to != "" && !known {
			hint := "write the id of a step"
			if near := nearest(way.to, graph.ids); near != "" {
				hint = "did you mean " + near + "?"
			}
			c.failf(path+"."+way.field, "there is no step %q (%s)", way.to, hint)
		}
	}
	if !c.exactlyOne(path, field{"wait", step.GetWait() != nil}, field{"wait_for", step.GetWaitFor() != nil},
		field{"branch", step.GetBranch() != nil}, field{"split", step.GetSplit() != nil},
		field{"send", step.GetSend() != nil}, field{"exit", step.GetExit() != nil}) {
		return
	}
	switch {
	case step.GetWait() != nil:
		c.wait(path+".wait", step.GetWait())
	case step.GetWaitFor() != nil:
		c.eventOrFlip(path+".wait_for", step.GetWaitFor().GetEvent(), step.GetWaitFor().GetSegment())
		c.duration(path+".wait_for.within", step.GetWaitFor().GetWithin(), false)
	case step.GetBranch() != nil:
		c.branch(path+".branch", step.GetBranch())
	case step.GetSplit() != nil:
		c.split(path+".split", step.GetSplit())
	case step.GetSend() != nil:
		c.send(path+".send", step.GetSend())
	case step.GetExit().GetReason() != "":
		c.slug(path+".exit.reason", step.GetExit().GetReason())
	}
}

func (c *checker) wait(path string, w *definitionv1.Wait) {
	if !c.exactlyOne(path, field{"for", w.GetFor() != ""}, field{"until", w.GetUntil() != ""}) {
		return
	}
	if w.GetFor() != "" {
		c.duration(path+".for", w.GetFor(), false)
		return
	}
	c.timeOfDay(path+".until", w.GetUntil())
}

func (c *checker) branch(path string, b *definitionv1.Branch) {
	if !c.exactlyOne(path, field{"where", b.GetWhere() != ""}, field{"segment", b.GetSegment() != ""}) {
		return
	}
	if b.GetWhere() != "" {
		c.profileRule(path+".where", b.GetWhere(), "traits", "trigger", "scores")
	}
}

func (c *checker) split(path string, s *definitionv1.Split) {
	if len(s.GetArms()) < 2 {
		c.failf(path+".arms", "has %d arms and needs at least two", len(s.GetArms()))
	}
	c.count(path+".arms", len(s.GetArms()), MaxArms)
	c.text(path+".salt", s.GetSalt(), maxNameLength)
	seen := map[string]bool{}
	for i, arm := range s.GetArms() {
		at := fmt.Sprintf("%s.arms[%d]", path, i)
		c.slug(at+".name", arm.GetName())
		if seen[arm.GetName()] {
			c.failf(at+".name", "%q is there twice", arm.GetName())
		}
		seen[arm.GetName()] = true
		if weight := arm.GetWeight(); weight < 1 || weight > maxWeight {
			c.failf(at+".weight", "%d is not between 1 and %d", weight, maxWeight)
		}
	}
}

func (c *checker) send(path string, s *definitionv1.SendStep) {
	c.slug(path+".channel", s.GetChannel())
	c.slug(path+".template", s.GetTemplate())
	if s.GetCategory() != "" {
		c.slug(path+".category", s.GetCategory())
	}
	channel := c.refs.Channel(c.id.Tenant, s.GetChannel()).GetChannel()
	template := c.refs.Template(c.id.Tenant, s.GetTemplate()).GetTemplate()
	if channel == nil || template == nil {
		return
	}
	if (channel.GetEmail() != nil) != (template.GetEmail() != nil) {
		c.failf(path+".template", "%q is not a template for the channel %q: one is an e-mail, the other a webhook", s.GetTemplate(), s.GetChannel())
	}
}

// journeyGraph checks the ways through the steps as a whole.
func (c *checker) journeyGraph(graph *journeyGraph) {
	if loop := graph.loopWithoutWait(); loop != nil {
		c.failf("spec.steps", "people would go round without waiting: %s (put a wait in between)", strings.Join(loop, " → "))
	}
	for _, i := range graph.unreached() {
		c.failf(fmt.Sprintf("spec.steps[%d]", i), "no way leads to step %q: take it out or refer to it", graph.ids[i])
	}
}
