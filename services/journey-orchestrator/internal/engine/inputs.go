package engine

import (
	"bytes"
	"fmt"

	"github.com/tidwall/gjson"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/rule"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
)

// Event handles an event of the person. A historical one, and an open or click by a machine, is folded
// into the profile and moves no journey. Passages under way see the event before it starts new ones, so
// that one event may end a passage and begin the next.
func (t *Turn) Event(resolved *profilev1.ResolvedEvent) {
	ev := resolved.GetEvent()
	if moves(resolved) {
		profile.Fold(t.person.Profile(), resolved)
		t.person.ProfileChanged()
	}
	if ev.GetHistorical() || byMachine(ev) {
		return
	}
	named, anyName := t.tenant.Journeys.ByEvent(ev.GetName())
	if len(named) == 0 && len(anyName) == 0 && !t.person.AnyRunning() {
		return
	}
	event := rule.NewEvent(ev)
	matches := func(on *journey.Trigger) bool { return on.Event != nil && on.Event.MatchEvent(event) }
	t.react(matches)
	cause := cause{id: "event:" + ev.GetMessageId(), name: ev.GetName(), properties: ev.GetProperties()}
	for _, graphs := range [][]*journey.Graph{named, anyName} {
		for _, g := range graphs {
			if matches(&g.Entry) {
				t.enter(g, cause)
			}
		}
	}
}

// moves says whether folding an event changes anything that journeys look at: identifiers, traits or
// consents. The count of events and the time last seen are not kept up to date here, which saves a write
// of the whole profile for most events.
func moves(resolved *profilev1.ResolvedEvent) bool {
	ev := resolved.GetEvent()
	return len(resolved.GetNewIdentifiers()) > 0 || len(ev.GetTraits()) > 0 || len(ev.GetConsent().GetPurposes()) > 0 ||
		(ev.GetInternal() && ev.GetName() == profile.Unsubscribed) || bytes.Contains(ev.GetContext(), []byte(`"traits"`))
}

// byMachine says whether a scanner or prefetcher made a reaction.
func byMachine(ev *eventv1.Event) bool {
	return ev.GetInternal() && gjson.GetBytes(ev.GetProperties(), "machine").Bool()
}

// Flip handles a flip of a membership. One of another profile is a late record of a profile that was
// merged away: segmentation says anew what holds for the survivor. One caused by a merge waits until the
// merge is done here, so that what the merged profile already went through is known. A historical flip
// changes the membership, may end a wait or a passage, and starts none.
func (t *Turn) Flip(m *segmentv1.MembershipChanged) {
	if m.GetProfileId() != t.person.ID {
		return
	}
	if m.GetCause() == segmentv1.Cause_CAUSE_MERGE && !t.merged(m.GetCauseId()) {
		t.postpone(m)
		return
	}
	t.supersede(m.GetSegment())
	t.flip(m)
}

func (t *Turn) flip(m *segmentv1.MembershipChanged) {
	entered := m.GetState() == segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED
	before := t.person.Membership(m.GetSegment())
	t.applyMembership(m)
	if entered && before != nil && before.GetInheritedMs() == 0 {
		return
	}
	t.react(func(on *journey.Trigger) bool { return on.Flips(m.GetSegment(), entered) })
	if m.GetHistorical() || (before != nil && m.GetCause() == segmentv1.Cause_CAUSE_MERGE) {
		return
	}
	for _, g := range t.tenant.Journeys.ByFlip(m.GetSegment(), entered) {
		t.enter(g, flipCause(m, entered))
	}
}

func (t *Turn) applyMembership(m *segmentv1.MembershipChanged) {
	if m.GetState() == segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED {
		t.person.PutMembership(&journeyv1.Membership{Segment: m.GetSegment(), SinceMs: m.GetAtMs()})
		return
	}
	t.person.DropMembership(m.GetSegment())
}

func flipCause(m *segmentv1.MembershipChanged, entered bool) cause {
	name, way := "Segment Exited", "exited"
	if entered {
		name, way = "Segment Entered", "entered"
	}
	return cause{
		id:         fmt.Sprintf("flip:%s:%s:%d:%s", m.GetSegment(), way, m.GetAtMs(), m.GetCauseId()),
		name:       name,
		properties: fmt.Appendf(nil, `{"segment":%q}`, m.GetSegment()),
	}
}

// Score handles a new value of a score. It moves nothing: branches read it. One of another profile is a
// late record of a profile that was merged away.
func (t *Turn) Score(s *scorev1.ScoreChanged) {
	switch {
	case s.GetProfileId() != t.person.ID:
	case s.GetRemoved():
		t.person.DropScore(s.GetScore())
	default:
		t.person.PutScore(s.GetScore(), s.GetValue())
	}
}

// Wake handles the timer of a journey that is due. One that does not belong to the passage under way, or
// came for a wait that is over, does nothing.
func (t *Turn) Wake(journeyName, instanceID string) {
	inst := t.person.Instance(journeyName)
	if inst == nil || inst.GetInstanceId() != instanceID || inst.GetDueMs() == 0 || inst.GetDueMs() > t.nowMs() {
		return
	}
	g, step := t.standing(inst)
	if g == nil {
		return
	}
	inst.DueMs = 0
	t.person.InstanceChanged()
	switch step.Kind {
	case journey.Wait:
		t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_PASSED})
		t.walk(inst, g, step.Next)
	case journey.WaitFor:
		t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_TIMED_OUT, Branch: branchOtherwise})
		t.walk(inst, g, step.Otherwise)
	default:
		if next, stays := t.send(inst, step); !stays {
			t.walk(inst, g, next)
		}
	}
}

// standing is the graph and step of a passage. If there are none any more, the passage ends and both are nil.
func (t *Turn) standing(inst *journeyv1.Instance) (*journey.Graph, *journey.Step) {
	if t.tenant.gone(inst.GetJourney()) {
		t.exit(inst, ReasonDeleted)
		return nil, nil
	}
	g := t.graph(inst)
	if g == nil {
		t.exit(inst, ReasonLost)
		return nil, nil
	}
	at, ok := g.Index(inst.GetStep())
	if !ok {
		t.exit(inst, ReasonLost)
		return nil, nil
	}
	return g, &g.Steps[at]
}

// react lets passages under way see an event or a flip: exits first, then what a step waits for.
func (t *Turn) react(matches func(*journey.Trigger) bool) {
	if !t.person.AnyRunning() {
		return
	}
	for _, inst := range t.person.Running() {
		g, step := t.standing(inst)
		if g == nil {
			continue
		}
		if reason, out := exitReason(g, matches); out {
			t.exit(inst, reason)
			continue
		}
		if step.Kind == journey.WaitFor && matches(&step.On) {
			inst.DueMs = 0
			t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_PASSED, Branch: branchThen})
			t.person.InstanceChanged()
			t.walk(inst, g, step.Then)
		}
	}
}

func exitReason(g *journey.Graph, matches func(*journey.Trigger) bool) (string, bool) {
	for i := range g.Exits {
		if matches(&g.Exits[i].On) {
			if g.Exits[i].Reason == "" {
				return ReasonExit, true
			}
			return g.Exits[i].Reason, true
		}
	}
	return "", false
}
