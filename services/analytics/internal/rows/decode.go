package rows

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	identityv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/identity/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// decoders are the topics that have tables.
var decoders = map[string]func(*Set, Record) error{
	topics.Events:     (*Set).accepted,
	topics.ProfileLog: (*Set).profileLog,
	topics.Links:      (*Set).link,
	topics.Segments:   (*Set).membership,
	topics.Scores:     (*Set).score,
	topics.Steps:      (*Set).journeyStep,
	topics.Sends:      (*Set).send,
	topics.Outcomes:   (*Set).outcome,
	topics.Ledger:     (*Set).fate,
	topics.Violations: (*Set).violation,
}

// Topics lists the topics that have tables.
func Topics() []string {
	names := make([]string, 0, len(decoders))
	for name := range decoders {
		names = append(names, name)
	}
	return names
}

type message interface{ UnmarshalVT(raw []byte) error }

func decode(m message, rec Record) error {
	if err := m.UnmarshalVT(rec.Value); err != nil {
		return fmt.Errorf("decoding the record: %w", err)
	}
	return nil
}

// accepted counts an event that came through the door.
func (s *Set) accepted(rec Record) error {
	tenant, source, receivedAtMs, err := door(rec.Value)
	if err != nil {
		return fmt.Errorf("decoding the record: %w", err)
	}
	s.count(tenant, source, receivedAtMs, "accepted", "")
	return nil
}

// fate counts an event that came in and was not stored. One refused at the door never was in the event
// topic: it is counted as accepted here.
func (s *Set) fate(rec Record) error {
	var e ledgerv1.LedgerEntry
	if err := decode(&e, rec); err != nil {
		return err
	}
	if !e.GetAfterDoor() {
		s.count(e.GetTenant(), e.GetSource(), e.GetReceivedAtMs(), "accepted", "")
	}
	s.count(e.GetTenant(), e.GetSource(), e.GetReceivedAtMs(), word(e.GetFate().String(), "FATE_"), e.GetReason())
	return nil
}

func (s *Set) profileLog(rec Record) error {
	var p profilev1.ProfileRecord
	if err := decode(&p, rec); err != nil {
		return err
	}
	resolved := p.GetEvent()
	if resolved == nil {
		return nil // merges stand in identity_links
	}
	ev := resolved.GetEvent()
	s.event(rec, p.GetProfileId(), ev)
	s.count(ev.GetTenant(), ev.GetSource(), ev.GetReceivedAtMs(), "stored", "")
	return nil
}

var eventColumns = []string{
	"tenant", "source", "message_id", "type", "name", "profile_id", "anonymous_id", "user_id", "previous_id", "group_id",
	"timestamp", "original_timestamp", "received_at", "properties", "traits", "context", "category",
	"page_url", "page_path", "page_referrer", "page_title",
	"campaign_name", "campaign_source", "campaign_medium", "campaign_term", "campaign_content",
	"value", "currency", "historical", "internal",
	"channel", "click_id", "click_id_type", "device", "browser", "browser_version", "os", "os_version", "country", "region", "city", "bot",
	"log_partition", "log_offset",
}

func (s *Set) event(rec Record, profileID string, ev *eventv1.Event) {
	page, campaign, client, place := ev.GetPage(), ev.GetCampaign(), ev.GetClient(), ev.GetGeo()
	s.add("events", eventColumns,
		ev.GetTenant(), ev.GetSource(), ev.GetMessageId(), word(ev.GetType().String(), "EVENT_TYPE_"), ev.GetName(), profileID,
		ev.GetAnonymousId(), ev.GetUserId(), ev.GetPreviousId(), ev.GetGroupId(),
		at(ev.GetTimestampMs()), at(ev.GetOriginalTimestampMs()), at(ev.GetReceivedAtMs()),
		object(ev.GetProperties()), object(ev.GetTraits()), object(ev.GetContext()), ev.GetCategory(),
		page.GetUrl(), page.GetPath(), page.GetReferrer(), page.GetTitle(),
		campaign.GetName(), campaign.GetSource(), campaign.GetMedium(), campaign.GetTerm(), campaign.GetContent(),
		decimal.New(ev.GetValueMicros(), -6), ev.GetCurrency(), ev.GetHistorical(), ev.GetInternal(),
		ev.GetChannel(), campaign.GetClickId(), campaign.GetClickIdType(), client.GetDevice(), client.GetBrowser(), client.GetBrowserVersion(),
		client.GetOs(), client.GetOsVersion(), place.GetCountry(), place.GetRegion(), place.GetCity(), ev.GetBot(),
		uint32(rec.Partition), uint64(rec.Offset))
}

// object is a JSON object as text.
func object(raw []byte) string {
	if len(raw) == 0 {
		return "{}"
	}
	return string(raw)
}

var linkColumns = []string{
	"tenant", "profile_id", "action", "namespace", "identifier", "into_profile_id", "message_id", "source", "reason",
	"timestamp", "log_partition", "log_offset",
}

func (s *Set) link(rec Record) error {
	var l identityv1.IdentityLink
	if err := decode(&l, rec); err != nil {
		return err
	}
	s.add("identity_links", linkColumns,
		l.GetTenant(), l.GetProfileId(), word(l.GetAction().String(), "LINK_ACTION_"), l.GetIdentifier().GetNamespace(), l.GetIdentifier().GetValue(),
		l.GetIntoProfileId(), l.GetMessageId(), l.GetSource(), l.GetReason(), at(l.GetAtMs()), uint32(rec.Partition), uint64(rec.Offset))
	return nil
}

var membershipColumns = []string{
	"tenant", "profile_id", "segment", "version", "state", "timestamp", "cause", "cause_id", "historical", "log_partition", "log_offset",
}

func (s *Set) membership(rec Record) error {
	var m segmentv1.MembershipChanged
	if err := decode(&m, rec); err != nil {
		return err
	}
	s.add("memberships", membershipColumns,
		m.GetTenant(), m.GetProfileId(), m.GetSegment(), m.GetVersion(), word(m.GetState().String(), "MEMBERSHIP_STATE_"), at(m.GetAtMs()),
		word(m.GetCause().String(), "CAUSE_"), m.GetCauseId(), m.GetHistorical(), uint32(rec.Partition), uint64(rec.Offset))
	return nil
}

var scoreColumns = []string{
	"tenant", "profile_id", "score", "version", "value", "label", "components", "timestamp", "cause", "cause_id",
	"historical", "removed", "log_partition", "log_offset",
}

func (s *Set) score(rec Record) error {
	var c scorev1.ScoreChanged
	if err := decode(&c, rec); err != nil {
		return err
	}
	components := c.GetComponents()
	if components == nil {
		components = map[string]float64{}
	}
	s.add("scores", scoreColumns,
		c.GetTenant(), c.GetProfileId(), c.GetScore(), c.GetVersion(), c.GetValue(), c.GetLabel(), components, at(c.GetAtMs()),
		word(c.GetCause().String(), "CAUSE_"), c.GetCauseId(), c.GetHistorical(), c.GetRemoved(), uint32(rec.Partition), uint64(rec.Offset))
	return nil
}

var stepColumns = []string{
	"tenant", "profile_id", "journey", "version", "instance_id", "step", "action", "branch", "reason", "sequence",
	"timestamp", "log_partition", "log_offset",
}

func (s *Set) journeyStep(rec Record) error {
	var j journeyv1.JourneyStep
	if err := decode(&j, rec); err != nil {
		return err
	}
	s.add("journey_steps", stepColumns,
		j.GetTenant(), j.GetProfileId(), j.GetJourney(), j.GetVersion(), j.GetInstanceId(), j.GetStep(), word(j.GetAction().String(), "STEP_ACTION_"),
		j.GetBranch(), j.GetReason(), j.GetSequence(), at(j.GetAtMs()), uint32(rec.Partition), uint64(rec.Offset))
	return nil
}

var sendColumns = []string{
	"tenant", "send_id", "profile_id", "journey", "version", "instance_id", "step", "channel", "template", "category",
	"transactional", "decision", "reason", "arm", "timestamp", "log_partition", "log_offset",
}

func (s *Set) send(rec Record) error {
	var d deliveryv1.Send
	if err := decode(&d, rec); err != nil {
		return err
	}
	s.add("sends", sendColumns,
		d.GetTenant(), d.GetSendId(), d.GetProfileId(), d.GetJourney(), d.GetVersion(), d.GetInstanceId(), d.GetStep(), d.GetChannel(), d.GetTemplate(),
		d.GetCategory(), d.GetTransactional(), word(d.GetDecision().String(), "DECISION_"), d.GetReason(), d.GetArm(), at(d.GetDecidedAtMs()),
		uint32(rec.Partition), uint64(rec.Offset))
	return nil
}

var outcomeColumns = []string{
	"tenant", "outcome_id", "send_id", "profile_id", "channel", "type", "reason", "url", "machine", "attempts", "journey",
	"step", "template", "timestamp", "log_partition", "log_offset",
}

func (s *Set) outcome(rec Record) error {
	var o deliveryv1.Outcome
	if err := decode(&o, rec); err != nil {
		return err
	}
	s.add("outcomes", outcomeColumns,
		o.GetTenant(), o.GetOutcomeId(), o.GetSendId(), o.GetProfileId(), o.GetChannel(), word(o.GetType().String(), "OUTCOME_TYPE_"), o.GetReason(),
		o.GetUrl(), o.GetMachine(), o.GetAttempts(), o.GetJourney(), o.GetStep(), o.GetTemplate(), at(o.GetAtMs()), uint32(rec.Partition), uint64(rec.Offset))
	return nil
}

var violationColumns = []string{
	"tenant", "source", "plan", "version", "type", "name", "message_id", "received_at", "code", "action",
	"paths", "keywords", "expected", "found", "sample", "log_partition", "log_offset",
}

func (s *Set) violation(rec Record) error {
	var v planv1.PlanViolation
	if err := decode(&v, rec); err != nil {
		return err
	}
	n := len(v.GetIssues())
	paths, keywords, expected, found := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, issue := range v.GetIssues() {
		paths[i], keywords[i], expected[i], found[i] = issue.GetPath(), issue.GetKeyword(), issue.GetExpected(), issue.GetFound()
	}
	s.add("plan_violations", violationColumns,
		v.GetTenant(), v.GetSource(), v.GetPlan(), v.GetPlanVersion(), word(v.GetType().String(), "EVENT_TYPE_"), v.GetName(), v.GetMessageId(),
		at(v.GetReceivedAtMs()), v.GetCode(), word(v.GetAction().String(), "ACTION_"), paths, keywords, expected, found,
		object(v.GetSample()), uint32(rec.Partition), uint64(rec.Offset))
	return nil
}
