package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/rule"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/person"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/quiet"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/split"
)

// settle is for how long after a merge memberships taken over from the merged profile count, until
// segmentation says itself what the survivor is in.
const settle = time.Minute

// cause is what starts a journey.
type cause struct {
	// id names it within the tenant and profile.
	id         string
	name       string
	properties []byte
}

// trigger is the cause as sends carry it.
func (c cause) trigger() []byte {
	name, _ := json.Marshal(c.name) //nolint:errchkjson // a string always marshals
	properties := c.properties
	if len(properties) == 0 {
		properties = []byte("{}")
	}
	return slices.Concat([]byte(`{"name":`), name, []byte(`,"properties":`), properties, []byte("}"))
}

// enter starts a journey unless something stands in the way. A refusal is noted once for each reason
// until the next entry or exit, so that a person who does the same thing a thousand times is noted once.
func (t *Turn) enter(g *journey.Graph, c cause) {
	reason := t.refusal(g, c)
	if reason != "" && t.refusedBefore(g, reason) {
		return
	}
	trigger := c.trigger()
	if g.Where != nil && !t.holds(g.Where, trigger) {
		return
	}
	if reason != "" {
		t.refuse(g, reason)
		return
	}
	history := t.person.EnsureHistory(g.Name, t.tenant.gone)
	if history.GetEntries() == 0 {
		history.FirstEnteredMs = t.nowMs()
	}
	if history.GetSplitProfile() == "" {
		history.SplitProfile = t.person.ID
	}
	history.Entries++
	history.Refused = nil
	inst := &journeyv1.Instance{
		Journey: g.Name, Version: g.Version, DefinitionHash: slices.Clone(g.Hash[:]),
		InstanceId: derive("instance", t.person.Tenant, g.Name, t.person.ID, c.id),
		EnteredMs:  t.nowMs(), Trigger: trigger, SplitProfile: history.GetSplitProfile(),
	}
	t.person.AddInstance(inst)
	t.record(inst, &journeyv1.JourneyStep{Action: journeyv1.StepAction_STEP_ACTION_ENTERED, Reason: c.name})
	t.walk(inst, g, 0)
	if t.person.Instance(g.Name) == inst {
		t.person.KeepFrozen(g.Hash[:], g.Frozen)
	}
}

// refusal says why a person may not enter; "" if nothing stands in the way.
func (t *Turn) refusal(g *journey.Graph, c cause) string {
	if t.person.Instance(g.Name) != nil {
		return ReasonActive
	}
	history := t.person.History(g.Name)
	switch {
	case history.GetEntries() > 0 && !mayReenter(g, history.GetLastExitedMs(), t.nowMs()):
		return ReasonReentry
	case t.person.Full():
		return ReasonTooMany
	case len(c.name)+len(c.properties) > person.MaxTrigger:
		return ReasonTriggerTooLarge
	default:
		return ""
	}
}

func mayReenter(g *journey.Graph, exitedMs, nowMs int64) bool {
	return g.Reentry != journey.Never && nowMs-exitedMs >= g.Reentry.Milliseconds()
}

func (t *Turn) refusedBefore(g *journey.Graph, reason string) bool {
	return slices.Contains(t.person.History(g.Name).GetRefused(), reason)
}

func (t *Turn) refuse(g *journey.Graph, reason string) {
	history := t.person.EnsureHistory(g.Name, t.tenant.gone)
	history.Refused = append(history.Refused, reason)
	t.Steps = append(t.Steps, &journeyv1.JourneyStep{
		Tenant: t.person.Tenant, ProfileId: t.person.ID, Journey: g.Name, Version: g.Version,
		Action: journeyv1.StepAction_STEP_ACTION_REFUSED, Reason: reason, AtMs: t.nowMs(),
	})
}

// exit ends a passage.
func (t *Turn) exit(inst *journeyv1.Instance, reason string) {
	t.record(inst, &journeyv1.JourneyStep{Action: journeyv1.StepAction_STEP_ACTION_EXITED, Reason: reason})
	t.person.RemoveInstance(inst)
	t.cancelTimer(inst.GetJourney())
	history := t.person.EnsureHistory(inst.GetJourney(), t.tenant.gone)
	history.LastExitedMs = max(history.GetLastExitedMs(), t.nowMs())
	history.Refused = nil
}

// walk carries a passage on from a step until it waits or ends. One call visits no step twice: whoever
// comes back to a step without having waited would go round for ever, and is taken out.
func (t *Turn) walk(inst *journeyv1.Instance, g *journey.Graph, at int) {
	for visited := 0; at != journey.End; visited++ {
		if visited == len(g.Steps) {
			t.exit(inst, ReasonLoop)
			return
		}
		step := &g.Steps[at]
		switch step.Kind {
		case journey.Wait:
			t.rest(inst, step, t.waitEnd(step), "")
			return
		case journey.WaitFor:
			t.rest(inst, step, t.now.Add(step.For), "")
			return
		case journey.Branch:
			at = t.branch(inst, step)
		case journey.Split:
			at = t.split(inst, step)
		case journey.Send:
			visit(inst, step.ID)
			next, stays := t.send(inst, step)
			if stays {
				return
			}
			at = next
		default:
			reason := step.Reason
			if reason == "" {
				reason = ReasonExit
			}
			t.exit(inst, reason)
			return
		}
	}
	t.exit(inst, ReasonCompleted)
}

// rest lets a passage stand at a step until due.
func (t *Turn) rest(inst *journeyv1.Instance, step *journey.Step, due time.Time, reason string) {
	inst.Step, inst.DueMs = step.ID, due.UnixMilli()
	t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_WAITING, Reason: reason})
	t.person.InstanceChanged()
	t.setTimer(inst)
}

func (t *Turn) waitEnd(step *journey.Step) time.Time {
	if step.HasUntil {
		return quiet.Next(t.now, step.Until, t.location())
	}
	return t.now.Add(step.For)
}

func (t *Turn) location() *time.Location { return profile.Location(t.person.Profile(), t.tenant.Zone) }

func (t *Turn) branch(inst *journeyv1.Instance, step *journey.Step) int {
	var is bool
	if step.Where != nil {
		is = t.holds(step.Where, inst.GetTrigger())
	} else {
		is = t.member(step.Segment)
	}
	way, next := branchOtherwise, step.Otherwise
	if is {
		way, next = branchThen, step.Then
	}
	t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_PASSED, Branch: way})
	return next
}

// member says whether the person is in a segment. A membership taken over in a merge counts only for a
// moment: if segmentation does not confirm it, the merged person is not in.
func (t *Turn) member(segment string) bool {
	m := t.person.Membership(segment)
	if m == nil {
		return false
	}
	return m.GetInheritedMs() == 0 || t.nowMs()-m.GetInheritedMs() <= settle.Milliseconds()
}

// holds evaluates a condition on the person.
func (t *Turn) holds(condition *rule.Profile, trigger []byte) bool {
	p := t.person.Profile()
	vars := rule.Vars{Traits: p.GetTraits(), Consents: p.GetConsents()}
	for _, name := range condition.Variables() {
		switch name {
		case "scores":
			vars.Scores = make(map[string]float64)
			for _, s := range t.person.Scores() {
				vars.Scores[s.GetScore()] = s.GetValue()
			}
		case "trigger":
			vars.Trigger = []byte(gjson.GetBytes(trigger, "properties").Raw)
		}
	}
	return condition.Match(vars)
}

func (t *Turn) split(inst *journeyv1.Instance, step *journey.Step) int {
	hash := split.Hash(split.Key{Tenant: t.person.Tenant, Journey: inst.GetJourney(), Salt: step.Salt, Profile: inst.GetSplitProfile()})
	arm := step.Arms[split.Arm(hash, step.Weights)]
	if !inst.GetHoldout() {
		inst.Arm, inst.Holdout = arm.Name, arm.Holdout
	}
	t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_PASSED, Branch: arm.Name})
	return arm.Next
}

// visit counts that a passage came to a sending step.
func visit(inst *journeyv1.Instance, step string) {
	for _, v := range inst.GetVisits() {
		if v.GetStep() == step {
			v.Count++
			return
		}
	}
	inst.Visits = append(inst.Visits, &journeyv1.StepVisits{Step: step, Count: 1})
}

func visits(inst *journeyv1.Instance, step string) int64 {
	for _, v := range inst.GetVisits() {
		if v.GetStep() == step {
			return v.GetCount()
		}
	}
	return 0
}

// derive makes an id from parts: 128 bits of a SHA-256 over the parts, each preceded by its length.
func derive(parts ...string) string {
	digest := sha256.New()
	for _, part := range parts {
		digest.Write(binary.AppendUvarint(nil, uint64(len(part))))
		digest.Write([]byte(part))
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}
