package engine

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sillage-cdp/sillage/pkg/profile"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
)

// maxProfile is the largest profile, in bytes, that a send can carry: with the trigger and its own fields
// it stays below what the stream runtime accepts as one record (900 KiB).
const maxProfile = 768 << 10

// verdict is what is decided on a send: wait until a time, or a decision with its reason.
type verdict struct {
	until    time.Time
	decision deliveryv1.Decision
	reason   string
}

// send decides on the message of a step. It gives the step to go on to, or says that the passage stays
// until the quiet hours are over; everything is then checked anew.
func (t *Turn) send(inst *journeyv1.Instance, step *journey.Step) (next int, stays bool) {
	v := t.judge(inst, &step.Message)
	if !v.until.IsZero() {
		t.rest(inst, step, v.until, v.reason)
		return 0, true
	}
	id := derive("send", inst.GetInstanceId(), step.ID, strconv.FormatInt(visits(inst, step.ID), 10))
	t.Sends = append(t.Sends, t.message(inst, step, id, v))
	switch v.decision {
	case deliveryv1.Decision_DECISION_HELD:
		t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_HELD, Branch: branchOtherwise, Reason: v.reason})
		return step.Otherwise, false
	case deliveryv1.Decision_DECISION_SEND:
		t.count(step, id)
	default: // a hold-out goes on like those it is compared with, and counts for nothing
	}
	t.record(inst, &journeyv1.JourneyStep{Step: step.ID, Action: journeyv1.StepAction_STEP_ACTION_SENT, Reason: v.reason})
	return step.Next, false
}

// judge checks, in this order: that channel and template exist and the person can be reached; then,
// unless the message is transactional, consent, quiet hours and caps; and last the hold-out, so that the
// hold-out is compared with people who would have been written to in the same way.
func (t *Turn) judge(inst *journeyv1.Instance, m *journey.Message) verdict {
	reach, exists := t.tenant.Channels[m.Channel]
	switch {
	case !exists:
		return held(ReasonNoChannel)
	case !t.tenant.Templates[m.Template]:
		return held(ReasonNoTemplate)
	case !reachable(t.person.Profile(), reach):
		return held(ReasonUnreachable)
	case t.person.Profile().SizeVT() > maxProfile:
		return held(ReasonProfileTooLarge)
	}
	if !m.Transactional {
		if v, decided := t.restrain(m); decided {
			return v
		}
	}
	if inst.GetHoldout() {
		return verdict{decision: deliveryv1.Decision_DECISION_HOLDOUT, reason: ReasonHoldout}
	}
	return verdict{decision: deliveryv1.Decision_DECISION_SEND}
}

// restrain applies what protects a person from messages that no contract asks for.
func (t *Turn) restrain(m *journey.Message) (verdict, bool) {
	p := t.person.Profile()
	switch granted, known := profile.ConsentFor(p, m.Channel, m.Category); {
	case known && !granted:
		return held("consent:" + refusedPurpose(p, m)), true
	case !known && t.tenant.Consent[m.Category]:
		return held("no_consent:" + m.Category), true
	}
	if end, within := t.tenant.Quiet.End(t.now, t.location()); within {
		if t.tenant.QuietHold {
			return held(ReasonQuietHours), true
		}
		return verdict{until: end, reason: ReasonQuietHours}, true
	}
	if reason := pressure.Check(t.tenant.Caps, t.person.Ledger(), m.Channel, m.Category, t.now); reason != "" {
		return held(reason), true
	}
	return verdict{}, false
}

func held(reason string) verdict {
	return verdict{decision: deliveryv1.Decision_DECISION_HELD, reason: reason}
}

// refusedPurpose names the consent that was refused: the channel's subscription, else the category.
func refusedPurpose(p *profilev1.Profile, m *journey.Message) string {
	channel := "channel:" + m.Channel
	if c, stated := p.GetConsents()[channel]; stated && !c.GetGranted() {
		return channel
	}
	return m.Category
}

func reachable(p *profilev1.Profile, reach Reach) bool {
	if reach != ReachEmail {
		return len(p.GetIdentifiers()) > 0
	}
	for _, id := range p.GetIdentifiers() {
		if id.GetNamespace() == "email" && id.GetValue() != "" {
			return true
		}
	}
	address := gjson.ParseBytes(p.GetTraits()["email"].GetJson())
	return address.Type == gjson.String && address.Str != ""
}

// count notes a send in the pressure ledger, unless it is exempt.
func (t *Turn) count(step *journey.Step, sendID string) {
	if step.Message.Transactional {
		return
	}
	entry := &journeyv1.PressureEntry{AtMs: t.nowMs(), Channel: step.Message.Channel, Category: step.Message.Category, Send: fingerprint(sendID)}
	pressure.Add(t.tenant.Caps, t.person.Ledger(), entry, t.now)
	t.person.LedgerChanged()
}

// fingerprint is the first 64 bits of a derived id.
func fingerprint(id string) uint64 {
	var n uint64
	raw, _ := hex.DecodeString(id[:16])
	for _, b := range raw {
		n = n<<8 | uint64(b)
	}
	return n
}

// message is the record of a send. Only one that is to be delivered carries personal data.
func (t *Turn) message(inst *journeyv1.Instance, step *journey.Step, id string, v verdict) *deliveryv1.Send {
	m := &step.Message
	send := &deliveryv1.Send{
		SendId: id, Tenant: t.person.Tenant, ProfileId: t.person.ID,
		Journey: inst.GetJourney(), Version: inst.GetVersion(), InstanceId: inst.GetInstanceId(), Step: step.ID,
		Channel: m.Channel, Template: m.Template, Category: m.Category, Transactional: m.Transactional,
		Decision: v.decision, Reason: v.reason, Arm: inst.GetArm(), DecidedAtMs: t.nowMs(),
	}
	if v.decision == deliveryv1.Decision_DECISION_SEND {
		p := t.person.Profile()
		send.Identifiers, send.Traits, send.Trigger = p.GetIdentifiers(), profile.TraitsJSON(p), inst.GetTrigger()
	}
	return send
}
