// Package view folds the streams of a profile into what decision serves, and puts merged profiles
// together when they are read. It is pure.
//
// Each topic is in order for each profile, so the latest record of a thing is how it stands. Profiles that
// were merged keep what they were; reading follows `merged_from`, so that it does not matter which side of
// a merge was read first. TestOrderOfPartitionsDoesNotMatter would catch the loss of this.
package view

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/topics"
	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// Topics are the streams that are folded.
func Topics() []string {
	return []string{topics.ProfileLog, topics.Segments, topics.Scores, topics.Steps}
}

// State is the serving copy as the fold reads and writes it. A profile that it returns may be changed.
type State interface {
	// Profile is the entry of a profile, a new one if there is none.
	Profile(tenant, id string) (*decisionv1.ServingProfile, error)
	// Changed says that an entry was changed.
	Changed(tenant, id string, p *decisionv1.ServingProfile)
	// Identify says whose an identifier is, unless a later event said otherwise.
	Identify(tenant string, id *eventv1.Identifier, entry *decisionv1.IdentifierEntry) error
}

// ErrRecord marks the errors that a record is to blame for, not the serving copy.
var ErrRecord = errors.New("the record cannot be folded")

// message is a record of one of the streams.
type message interface {
	UnmarshalVT(raw []byte) error
	GetTenant() string
	GetProfileId() string
}

// decode reads a record and checks that it says whose it is.
func decode(what string, value []byte, into message) error {
	if err := into.UnmarshalVT(value); err != nil {
		return fmt.Errorf("%w: decoding %s: %w", ErrRecord, what, err)
	}
	if into.GetTenant() == "" || into.GetProfileId() == "" {
		return fmt.Errorf("%w: %s needs tenant and profile_id", ErrRecord, what)
	}
	return nil
}

// Apply folds one record. A record that cannot be folded is an ErrRecord and changes nothing; any other
// error is the state's.
func Apply(state State, topic string, value []byte) error {
	switch topic {
	case topics.ProfileLog:
		return applyLog(state, value)
	case topics.Segments:
		return applyMembership(state, value)
	case topics.Scores:
		return applyScore(state, value)
	case topics.Steps:
		return applyStep(state, value)
	default:
		return fmt.Errorf("%w: topic %s is none of ours", ErrRecord, topic)
	}
}

func applyLog(state State, value []byte) error {
	var rec profilev1.ProfileRecord
	if err := decode("a profile record", value, &rec); err != nil {
		return err
	}
	p, err := state.Profile(rec.GetTenant(), rec.GetProfileId())
	if err != nil {
		return err
	}
	switch {
	case rec.GetEvent() != nil:
		profile.Fold(p.Profile, rec.GetEvent())
		for _, id := range rec.GetEvent().GetNewIdentifiers() {
			entry := &decisionv1.IdentifierEntry{ProfileId: rec.GetProfileId(), AtMs: rec.GetEvent().GetEvent().GetTimestampMs()}
			if err := state.Identify(rec.GetTenant(), id, entry); err != nil {
				return err
			}
		}
	case rec.GetMergeAnnounced() != nil:
		if from := rec.GetMergeAnnounced().GetFromProfileId(); !slices.Contains(p.GetMergedFrom(), from) {
			p.MergedFrom = append(p.MergedFrom, from)
		}
	case rec.GetMergedInto() != nil:
		p.Profile.MergedInto = rec.GetMergedInto().GetIntoProfileId()
	}
	state.Changed(rec.GetTenant(), rec.GetProfileId(), p)
	return nil
}

func applyMembership(state State, value []byte) error {
	var m segmentv1.MembershipChanged
	if err := decode("a membership", value, &m); err != nil {
		return err
	}
	p, err := state.Profile(m.GetTenant(), m.GetProfileId())
	if err != nil {
		return err
	}
	if m.GetState() == segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED {
		put(&p.Memberships, m.GetSegment(), &decisionv1.Membership{Segment: m.GetSegment(), SinceMs: m.GetAtMs()})
	} else {
		delete(p.GetMemberships(), m.GetSegment())
	}
	state.Changed(m.GetTenant(), m.GetProfileId(), p)
	return nil
}

func applyScore(state State, value []byte) error {
	var s scorev1.ScoreChanged
	if err := decode("a score", value, &s); err != nil {
		return err
	}
	p, err := state.Profile(s.GetTenant(), s.GetProfileId())
	if err != nil {
		return err
	}
	if s.GetRemoved() {
		delete(p.GetScores(), s.GetScore())
	} else {
		put(&p.Scores, s.GetScore(), &decisionv1.ScoreValue{
			Score: s.GetScore(), Value: s.GetValue(), Label: s.GetLabel(), Components: s.GetComponents(), AtMs: s.GetAtMs(),
		})
	}
	state.Changed(s.GetTenant(), s.GetProfileId(), p)
	return nil
}

func applyStep(state State, value []byte) error {
	var j journeyv1.JourneyStep
	if err := decode("a journey step", value, &j); err != nil {
		return err
	}
	if j.GetAction() == journeyv1.StepAction_STEP_ACTION_REFUSED {
		return nil // nobody entered
	}
	p, err := state.Profile(j.GetTenant(), j.GetProfileId())
	if err != nil {
		return err
	}
	now := &decisionv1.JourneyState{
		Journey: j.GetJourney(), Version: j.GetVersion(), InstanceId: j.GetInstanceId(), Step: j.GetStep(), Status: "active", AtMs: j.GetAtMs(),
	}
	before := p.GetJourneys()[j.GetJourney()]
	if now.GetStep() == "" && before.GetInstanceId() == now.GetInstanceId() {
		now.Step = before.GetStep()
	}
	if j.GetAction() == journeyv1.StepAction_STEP_ACTION_EXITED {
		now.Status, now.Reason = "exited", j.GetReason()
	}
	put(&p.Journeys, j.GetJourney(), now)
	state.Changed(j.GetTenant(), j.GetProfileId(), p)
	return nil
}

func put[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}
