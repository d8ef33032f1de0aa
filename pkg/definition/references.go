package definition

import (
	"fmt"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Reference is one place in a definition that names another one.
type Reference struct {
	// Path is the field that names it.
	Path string
	// Target is what it names.
	Target ID
}

// References lists what def refers to by name, in the order of its fields. Every definition but the
// tenant's own refers to its tenant.
func References(def *definitionv1.Definition) []Reference {
	r := &references{tenant: def.GetTenant()}
	if Kind(def) != KindTenant {
		r.add("tenant", KindTenant, def.GetTenant())
	}
	switch spec := def.GetSpec().(type) {
	case *definitionv1.Definition_TenantSpec:
		for i, limit := range spec.TenantSpec.GetPressure().GetCaps() {
			r.add(fmt.Sprintf("spec.pressure.caps[%d].channel", i), KindChannel, limit.GetChannel())
		}
	case *definitionv1.Definition_TrackingPlan:
		r.add("spec.source", KindSource, spec.TrackingPlan.GetSource())
	case *definitionv1.Definition_Segment:
		r.condition("spec.condition", spec.Segment.GetCondition(), 0)
	case *definitionv1.Definition_Journey:
		r.journey(spec.Journey)
	}
	return r.found
}

type references struct {
	tenant string
	found  []Reference
}

func (r *references) add(path, kind, name string) {
	if name != "" {
		r.found = append(r.found, Reference{Path: path, Target: ID{Tenant: r.tenant, Kind: kind, Name: name}})
	}
}

func (r *references) condition(path string, c *definitionv1.Condition, depth int) {
	if c == nil || depth > MaxNesting {
		return
	}
	r.add(path+".segment", KindSegment, c.GetSegment())
	for i, inner := range c.GetAll() {
		r.condition(fmt.Sprintf("%s.all[%d]", path, i), inner, depth+1)
	}
	for i, inner := range c.GetAny() {
		r.condition(fmt.Sprintf("%s.any[%d]", path, i), inner, depth+1)
	}
	r.condition(path+".not", c.GetNot(), depth+1)
}

func (r *references) journey(j *definitionv1.Journey) {
	r.add("spec.entry.segment.name", KindSegment, j.GetEntry().GetSegment().GetName())
	for i, step := range j.GetSteps() {
		path := fmt.Sprintf("spec.steps[%d]", i)
		r.add(path+".wait_for.segment.name", KindSegment, step.GetWaitFor().GetSegment().GetName())
		r.add(path+".branch.segment", KindSegment, step.GetBranch().GetSegment())
		r.add(path+".send.channel", KindChannel, step.GetSend().GetChannel())
		r.add(path+".send.template", KindTemplate, step.GetSend().GetTemplate())
	}
	for i, exit := range j.GetExits() {
		r.add(fmt.Sprintf("spec.exits[%d].segment.name", i), KindSegment, exit.GetSegment().GetName())
	}
}
