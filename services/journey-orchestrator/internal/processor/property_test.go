package processor_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// journeys are what the random histories of TestInvariants go through: loops, waits, reactions, hold-outs,
// entries by event and by flip, journeys for once in a life and for ever again.
const journeys = `
kind: channel
tenant: bank
name: email
spec: {email: {from: "Bank <hello@bank.example>"}}
---
kind: channel
tenant: bank
name: call
spec: {webhook: {url: "https://call.example/tasks", secret_ref: "env:CALL_SECRET"}}
---
kind: template
tenant: bank
name: hello
spec: {email: {subject: Hello, html: "<p>Hello</p>"}}
---
kind: template
tenant: bank
name: call_back
spec: {webhook: {type: call.requested}}
---
kind: segment
tenant: bank
name: hesitant
spec: {condition: {where: "traits.hesitant == true"}}
---
kind: journey
tenant: bank
name: once
spec:
  entry: {event: {event: Visit}}
  steps:
    - {id: pause, wait: {for: 1h}}
    - {id: mail, send: {channel: email, template: hello}}
    - {id: click, wait_for: {event: {event: Click}, within: 3h, then: bye, otherwise: call}}
    - {id: call, send: {channel: call, template: call_back}}
    - {id: bye, exit: {}}
  exits: [{reason: goal, event: {event: Bought}}]
---
kind: journey
tenant: bank
name: flipped
spec:
  entry: {segment: {name: hesitant}}
  steps:
    - {id: mail, send: {channel: email, template: hello, category: service}}
    - {id: left, wait_for: {segment: {name: hesitant, on: exited}, within: 5h}}
    - {id: call, send: {channel: call, template: call_back}}
  exits: [{reason: goal, event: {event: Bought}}]
---
kind: journey
tenant: bank
name: again
spec:
  entry: {event: {event: Visit}}
  reentry: 0s
  steps:
    - {id: ab, split: {arms: [{name: mail, weight: 1, next: mail}, {name: none, weight: 1, next: mail, holdout: true}, {name: call, weight: 1, next: call}]}}
    - {id: mail, send: {channel: email, template: hello, otherwise: call}, next: pause}
    - {id: call, send: {channel: call, template: call_back, category: service}}
    - {id: pause, wait: {for: 2h}}
    - {id: morning, wait: {until: "09:00"}, next: more}
    - {id: more, branch: {segment: hesitant, then: mail, otherwise: bye}}
    - {id: bye, exit: {}}
  exits: [{reason: goal, event: {event: Bought}}]
`

// op is one thing that happens, drawn before anything runs so that it can be run twice.
type op struct {
	kind     string
	profile  string
	other    string
	duration time.Duration
	id       string
}

func drawOps(t *rapid.T) []op {
	profiles := []string{"a", "b", "c", "d"}
	kinds := []string{"visit", "visit", "visit", "click", "buy", "enter", "enter", "leave", "consent", "advance", "advance", "advance", "advance", "merge", "halves"}
	ops := make([]op, rapid.IntRange(5, 80).Draw(t, "ops"))
	for i := range ops {
		ops[i] = op{
			kind: rapid.SampledFrom(kinds).Draw(t, "kind"), profile: rapid.SampledFrom(profiles).Draw(t, "profile"),
			other: rapid.SampledFrom(profiles).Draw(t, "other"), id: fmt.Sprintf("op%d", i),
			duration: time.Duration(rapid.IntRange(1, 40*60).Draw(t, "minutes")) * time.Minute,
		}
	}
	return ops
}

type capRule struct {
	name, channel, category string
	max, hours              int
}

func drawPolicy(t *rapid.T) (caps []capRule, yaml string) {
	yaml = "kind: tenant\ntenant: bank\nname: bank\nspec:\n  timezone: Europe/Paris\n  pressure:\n    quiet_hours: {from: \"21:00\", to: \"07:30\", action: " +
		rapid.SampledFrom([]string{"wait", "hold"}).Draw(t, "action") + "}\n    caps:\n"
	for i := range rapid.IntRange(1, 3).Draw(t, "caps") {
		c := capRule{
			name: fmt.Sprintf("c%d", i), channel: rapid.SampledFrom([]string{"", "email", "call"}).Draw(t, "channel"),
			category: rapid.SampledFrom([]string{"", "marketing", "service"}).Draw(t, "category"),
			max:      rapid.IntRange(0, 3).Draw(t, "max"), hours: rapid.IntRange(1, 96).Draw(t, "hours"),
		}
		caps = append(caps, c)
		yaml += fmt.Sprintf("      - {name: %s, channel: %q, category: %q, max: %d, within: %dh}\n", c.name, c.channel, c.category, c.max, c.hours)
	}
	return caps, yaml
}

// model is the oracle: it knows who is whom and everything that was ever emitted, and nothing of how the
// engine decides.
type model struct {
	t     *rapid.T
	w     *world
	caps  []capRule
	into  map[string]string // merged profiles
	in    map[string]bool   // members of the segment, as segmentation has it
	sends []*deliveryv1.Send
	last  map[string]*journeyv1.JourneyStep // by instance
	ids   map[string]bool
	// entered is when each passage began, by instance.
	entered map[string]int64
}

func (m *model) root(profile string) string {
	for m.into[profile] != "" {
		profile = m.into[profile]
	}
	return profile
}

// TestInvariants runs random histories of four profiles through the journeys, with merges in every
// interleaving, and checks what the package promises against everything that was emitted; then runs the
// same history again, over another number of partitions, and wants the same ids.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := drawOps(t)
		caps, policy := drawPolicy(t)
		first := runHistory(t, ops, caps, policy, 1)
		second := runHistory(t, ops, caps, policy, 5)
		require.Equal(t, first, second, "a replay decides the same")
	})
}

// runHistory gives every send and step as text, sorted.
func runHistory(t *rapid.T, ops []op, caps []capRule, policy string, partitions int32) []string {
	m := &model{
		t: t, w: newWorld(t, time.Date(2026, 10, 23, 9, 0, 0, 0, time.UTC), partitions), caps: caps,
		into: map[string]string{}, in: map[string]bool{}, last: map[string]*journeyv1.JourneyStep{}, ids: map[string]bool{}, entered: map[string]int64{},
	}
	m.w.define(policy + "---" + journeys)
	for _, o := range ops {
		m.apply(o)
		m.observe()
		m.oldestGoesOn()
		if o.kind == "buy" {
			m.nobodyLeft(m.root(o.profile))
		}
	}
	m.w.advance(30 * 24 * time.Hour)
	m.observe()
	m.everyWaitEnded()
	require.Empty(t, m.w.driver.DeadLetters())
	var out []string
	for _, topic := range []string{topics.Steps, topics.Sends} {
		for _, rec := range m.w.driver.Output(topic) {
			out = append(out, string(rec.Value))
		}
	}
	slices.Sort(out)
	return out
}

func (m *model) apply(o op) {
	who := m.root(o.profile)
	switch o.kind {
	case "visit":
		m.w.event(who, &eventv1.Event{Name: "Visit", MessageId: o.id, Traits: fmt.Appendf(nil, `{"email":"%s@x.example"}`, who)})
	case "click":
		m.w.event(who, &eventv1.Event{Name: "Click", MessageId: o.id})
	case "buy":
		m.w.event(who, &eventv1.Event{Name: "Bought", MessageId: o.id})
	case "consent":
		m.w.event(who, &eventv1.Event{Name: "Said", MessageId: o.id, Consent: &eventv1.Consent{Purposes: map[string]bool{"service": o.duration > 20*time.Minute}}})
	case "enter", "leave":
		if entered := o.kind == "enter"; m.in[who] != entered {
			m.in[who] = entered
			m.w.flip(who, "hesitant", entered, nil)
		}
	case "advance":
		m.w.advance(o.duration)
	case "merge", "halves":
		if src, dst := who, m.root(o.other); src != dst {
			m.merge(o, src, dst)
		}
	}
}

// merge hands src over to dst, and says what segmentation says then, in an order that the operation's
// duration picks.
func (m *model) merge(o op, src, dst string) {
	pieces := []func(){
		func() { m.w.announce(src, dst, o.id) },
		func() { m.into[src] = dst; m.w.mergeInto(src, dst, o.id) },
		func() {
			if m.in[src] && !m.in[dst] {
				m.in[dst] = true
				m.w.flip(dst, "hesitant", true, byMerge(o.id))
			}
		},
		func() {
			if m.in[src] {
				m.in[src] = false
				m.w.flip(src, "hesitant", false, byMerge(o.id))
			}
		},
	}
	// Both flips read what segmentation had before the merge.
	if !m.in[src] {
		pieces = pieces[:2]
	} else {
		was := m.in[dst]
		pieces[2] = func() {
			if m.in[dst] = true; !was {
				m.w.flip(dst, "hesitant", true, byMerge(o.id))
			}
		}
	}
	shift := int(o.duration/time.Minute) % len(pieces)
	for i := range pieces {
		pieces[(i+shift)%len(pieces)]()
		m.observe()
		if o.kind == "halves" {
			m.w.advance(time.Second)
			m.w.event(dst, &eventv1.Event{Name: "Visit", MessageId: fmt.Sprintf("%s-%d", o.id, i), Traits: fmt.Appendf(nil, `{"email":"%s@x.example"}`, dst)})
			m.observe()
		}
	}
}

func byMerge(id string) func(*segmentv1.MembershipChanged) {
	return func(c *segmentv1.MembershipChanged) {
		c.Cause, c.CauseId = segmentv1.Cause_CAUSE_MERGE, id
	}
}

// observe checks what was emitted since the last time.
func (m *model) observe() {
	for _, s := range m.w.steps() {
		m.step(s)
	}
	for _, s := range m.w.sends() {
		m.send(s)
	}
}

func (m *model) step(s *journeyv1.JourneyStep) {
	if s.GetAction() == journeyv1.StepAction_STEP_ACTION_REFUSED {
		return
	}
	before := m.last[s.GetInstanceId()]
	require.Equal(m.t, before.GetSequence()+1, s.GetSequence(), "steps of a passage have an order without gaps")
	require.NotEqual(m.t, journeyv1.StepAction_STEP_ACTION_EXITED, before.GetAction(), "a passage ends once")
	if s.GetAction() == journeyv1.StepAction_STEP_ACTION_ENTERED {
		require.Nil(m.t, before, "a passage begins once")
		m.entered[s.GetInstanceId()] = s.GetAtMs()
		for id, other := range m.last {
			same := other.GetJourney() == s.GetJourney() && m.root(other.GetProfileId()) == m.root(s.GetProfileId())
			require.False(m.t, same && other.GetAction() != journeyv1.StepAction_STEP_ACTION_EXITED, "entered %s while %s is under way", s.GetJourney(), id)
		}
	}
	if before.GetAction() == journeyv1.StepAction_STEP_ACTION_WAITING && s.GetAction() != journeyv1.StepAction_STEP_ACTION_EXITED {
		require.Equal(m.t, before.GetStep(), s.GetStep(), "a wait ends where it began")
		m.waited(before, s)
	}
	m.last[s.GetInstanceId()] = s
}

// waited checks how long a wait took, by the definitions above.
func (m *model) waited(from, to *journeyv1.JourneyStep) {
	took := time.Duration(to.GetAtMs()-from.GetAtMs()) * time.Millisecond
	passed := to.GetAction() == journeyv1.StepAction_STEP_ACTION_PASSED
	switch from.GetJourney() + "/" + from.GetStep() {
	case "once/pause":
		require.Equal(m.t, time.Hour, took)
	case "again/pause":
		require.Equal(m.t, 2*time.Hour, took)
	case "again/morning":
		require.Equal(m.t, "09:00:00", paris(m.t, to.GetAtMs()).Format("15:04:05"))
		require.LessOrEqual(m.t, took, 25*time.Hour)
	case "once/click":
		require.Equal(m.t, took < 3*time.Hour, passed)
		require.LessOrEqual(m.t, took, 3*time.Hour)
	case "flipped/left":
		require.Equal(m.t, took < 5*time.Hour, passed)
		require.LessOrEqual(m.t, took, 5*time.Hour)
	default:
		require.Equal(m.t, "quiet_hours", from.GetReason())
		require.Equal(m.t, "07:30:00", paris(m.t, to.GetAtMs()).Format("15:04:05"))
	}
}

func paris(t require.TestingT, ms int64) time.Time {
	loc, err := time.LoadLocation("Europe/Paris")
	require.NoError(t, err)
	return time.UnixMilli(ms).In(loc)
}

func (m *model) send(s *deliveryv1.Send) {
	require.False(m.t, m.ids[s.GetSendId()], "a send id is used once")
	m.ids[s.GetSendId()] = true
	if s.GetDecision() != deliveryv1.Decision_DECISION_SEND {
		require.NotEmpty(m.t, s.GetReason(), "what is not sent says why")
		return
	}
	require.NotEqual(m.t, "none", s.GetArm(), "the hold-out is never sent to")
	hour := paris(m.t, s.GetDecidedAtMs()).Format("15:04")
	require.True(m.t, hour >= "07:30" && hour < "21:00", "sent at %s", hour)
	m.sends = append(m.sends, s)
	for _, c := range m.caps {
		m.underCap(c, s)
	}
	if s.GetJourney() != "again" {
		for _, earlier := range m.sends[:len(m.sends)-1] {
			twice := earlier.GetJourney() == s.GetJourney() && earlier.GetStep() == s.GetStep() && m.root(earlier.GetProfileId()) == m.root(s.GetProfileId())
			require.False(m.t, twice, "%s/%s was sent twice to one person", s.GetJourney(), s.GetStep())
		}
	}
}

// underCap counts the sends of everyone who is this person now.
func (m *model) underCap(c capRule, s *deliveryv1.Send) {
	counts := func(s *deliveryv1.Send) bool {
		return (c.channel == "" || c.channel == s.GetChannel()) && (c.category == "" || c.category == s.GetCategory())
	}
	if !counts(s) {
		return
	}
	n := 0
	for _, other := range m.sends {
		if counts(other) && m.root(other.GetProfileId()) == m.root(s.GetProfileId()) && other.GetDecidedAtMs() > s.GetDecidedAtMs()-int64(c.hours)*3_600_000 {
			n++
		}
	}
	require.LessOrEqual(m.t, n, c.max, "cap %+v", c)
}

// oldestGoesOn: of all passages through a journey for once in a life that pieces of a person began, the
// oldest is under way until it ends by itself, whatever was merged in between and in whatever order.
func (m *model) oldestGoesOn() {
	type way struct{ person, journey string }
	oldest, over := map[way]string{}, map[way]bool{}
	for id, s := range m.last {
		w := way{m.root(s.GetProfileId()), s.GetJourney()}
		if have, ok := oldest[w]; !ok || m.entered[id] < m.entered[have] {
			oldest[w] = id
		}
		over[w] = over[w] || (s.GetAction() == journeyv1.StepAction_STEP_ACTION_EXITED && s.GetReason() != "merged")
	}
	for w, id := range oldest {
		if w.journey == "again" || over[w] {
			continue
		}
		n := 0
		for other, s := range m.last {
			if s.GetJourney() == w.journey && m.root(s.GetProfileId()) == w.person && s.GetAction() != journeyv1.StepAction_STEP_ACTION_EXITED {
				n++
				require.Equal(m.t, m.entered[id], m.entered[other], "passage %s of %s goes on, and not the older %s", other, w.journey, id)
			}
		}
		require.Equal(m.t, 1, n, "passages of %s through %s that are under way", w.person, w.journey)
	}
}

// nobodyLeft: after the goal no passage of the person is under way.
func (m *model) nobodyLeft(profile string) {
	for id, s := range m.last {
		if m.root(s.GetProfileId()) == profile {
			require.Equal(m.t, journeyv1.StepAction_STEP_ACTION_EXITED, s.GetAction(), "passage %s goes on after the goal", id)
		}
	}
}

// everyWaitEnded: a month after the last input only the loop of `again` is under way, in a wait.
func (m *model) everyWaitEnded() {
	for id, s := range m.last {
		if s.GetAction() != journeyv1.StepAction_STEP_ACTION_EXITED {
			require.Equal(m.t, "again", s.GetJourney(), "passage %s stands at %s", id, s.GetStep())
			require.Equal(m.t, journeyv1.StepAction_STEP_ACTION_WAITING, s.GetAction())
			require.Less(m.t, m.w.driver.Now().UnixMilli()-s.GetAtMs(), (36 * time.Hour).Milliseconds())
		}
	}
}
