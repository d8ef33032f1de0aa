package engine

import (
	"slices"

	"github.com/sillage-cdp/sillage/pkg/profile"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/person"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
)

// patience is for how long a flip caused by a merge waits for that merge.
const patience = 2 * settle

// MergeAnnounced notes that the state of another profile is on its way.
func (t *Turn) MergeAnnounced(m *profilev1.MergeAnnounced) {
	note := t.noteOf(m.GetFromProfileId())
	note.MergeId = m.GetMergeId()
	t.person.MergesChanged()
	t.release()
}

// noteOf is the note of the merge of a profile into this one, begun if need be.
func (t *Turn) noteOf(from string) *journeyv1.MergeNote {
	notes := t.person.Merges()
	for _, n := range notes.GetMerges() {
		if n.GetFromProfileId() == from {
			return n
		}
	}
	note := &journeyv1.MergeNote{FromProfileId: from}
	notes.Merges = append(notes.Merges, note)
	return note
}

// merged says whether a merge was carried out here.
func (t *Turn) merged(mergeID string) bool {
	return slices.ContainsFunc(t.person.Merges().GetMerges(), func(n *journeyv1.MergeNote) bool {
		return n.GetDone() && n.GetMergeId() == mergeID
	})
}

// postpone keeps a flip until its merge is done.
func (t *Turn) postpone(m *segmentv1.MembershipChanged) {
	encoded, err := m.MarshalVT()
	if err != nil {
		return
	}
	notes := t.person.Merges()
	notes.Flips = append(notes.Flips, encoded)
	t.person.MergesChanged()
	t.Timers = append(t.Timers, TimerChange{Due: t.now.Add(patience)})
}

// supersede forgets postponed flips of a segment of which a later one has come.
func (t *Turn) supersede(segment string) {
	t.releaseWhere(func(m *segmentv1.MembershipChanged) bool { return m.GetSegment() == segment }, func(*segmentv1.MembershipChanged) {})
}

// release handles the postponed flips whose merge is done.
func (t *Turn) release() {
	t.releaseWhere(func(m *segmentv1.MembershipChanged) bool { return t.merged(m.GetCauseId()) }, t.flip)
}

// Settle handles the end of the wait for merges: the flips that still wait change memberships and move
// nobody, for a merge that is not seen must not send anything.
func (t *Turn) Settle() {
	t.releaseWhere(func(*segmentv1.MembershipChanged) bool { return true }, t.applyMembership)
}

func (t *Turn) releaseWhere(due func(*segmentv1.MembershipChanged) bool, handle func(*segmentv1.MembershipChanged)) {
	notes := t.person.Merges()
	if len(notes.GetFlips()) == 0 {
		return
	}
	waiting := notes.Flips
	notes.Flips = nil
	for _, encoded := range waiting {
		var m segmentv1.MembershipChanged
		if err := m.UnmarshalVT(encoded); err != nil {
			continue
		}
		if !due(&m) {
			notes.Flips = append(notes.Flips, encoded)
			continue
		}
		handle(&m)
	}
	t.person.MergesChanged()
}

// Merge takes over the state of a profile that ended, as if the two had been one person from the start:
// of two passages through the same journey the older one goes on, and one that the other profile's past
// passage would have refused ends with the reason `merged`.
func (t *Turn) Merge(src *person.Person) {
	dst := t.person
	profile.Merge(dst.Profile(), src.Profile())
	dst.ProfileChanged()
	pressure.Merge(t.tenant.Caps, dst.Ledger(), src.Ledger(), t.now)
	dst.LedgerChanged()
	t.inherit(src)
	t.mergePassages(src)
	t.mergeHistories(src)
	t.mergeNotes(src)
	t.release()
}

// mergeNotes notes that the state of src was taken over, and with it that of the profiles which src itself
// had taken over. Those announced to src and still on their way come here now: under which names their
// merges go, only src was told.
func (t *Turn) mergeNotes(src *person.Person) {
	for _, theirs := range src.Merges().GetMerges() {
		note := t.noteOf(theirs.GetFromProfileId())
		if note.GetMergeId() == "" {
			note.MergeId = theirs.GetMergeId()
		}
		note.Done = note.GetDone() || theirs.GetDone()
	}
	t.noteOf(src.ID).Done = true
	t.person.MergesChanged()
}

// inherit takes over memberships and scores that the survivor does not have.
func (t *Turn) inherit(src *person.Person) {
	for _, m := range src.Memberships() {
		if t.person.Membership(m.GetSegment()) == nil {
			t.person.PutMembership(&journeyv1.Membership{Segment: m.GetSegment(), SinceMs: m.GetSinceMs(), InheritedMs: t.nowMs()})
		}
	}
	for _, s := range src.Scores() {
		if !t.person.HasScore(s.GetScore()) {
			t.person.PutScore(s.GetScore(), s.GetValue())
		}
	}
}

// mergePassages runs before the histories are joined: each side's passages are judged by the other's past.
func (t *Turn) mergePassages(src *person.Person) {
	for _, inst := range t.person.Running() {
		if t.wasPassed(t.person, inst, src.History(inst.GetJourney())) {
			t.endForMerge(inst)
		}
	}
	for _, inst := range src.Running() {
		t.moveIn(src, inst)
	}
}

// wasPassed says whether a passage would have been refused had the other side's last one, now over, been
// this person's: it overlapped with it, or the journey may not be entered again so soon.
func (t *Turn) wasPassed(side *person.Person, inst *journeyv1.Instance, other *journeyv1.JourneyHistory) bool {
	if other.GetLastExitedMs() == 0 {
		return false
	}
	g := t.graphOf(side, inst)
	return g == nil || !mayReenter(g, other.GetLastExitedMs(), inst.GetEnteredMs())
}

// endForMerge ends the survivor's own passage without a trace in its history, by which the passages of
// the other side are judged next.
func (t *Turn) endForMerge(inst *journeyv1.Instance) {
	t.record(inst, &journeyv1.JourneyStep{Action: journeyv1.StepAction_STEP_ACTION_EXITED, Reason: ReasonMerged})
	t.person.RemoveInstance(inst)
	t.cancelTimer(inst.GetJourney())
}

// moveIn takes over a running passage of the profile that ended, or ends it.
func (t *Turn) moveIn(src *person.Person, inst *journeyv1.Instance) {
	other := t.person.Instance(inst.GetJourney())
	passed := t.wasPassed(src, inst, t.person.History(inst.GetJourney()))
	if passed || (other == nil && t.person.Full()) || (other != nil && person.Older(other, inst) < 0) {
		t.record(inst, &journeyv1.JourneyStep{Action: journeyv1.StepAction_STEP_ACTION_EXITED, Reason: ReasonMerged})
		return
	}
	if other != nil {
		t.endForMerge(other)
	}
	t.person.AddInstance(inst)
	if frozen, kept := src.Frozen(inst.GetDefinitionHash()); kept {
		t.person.KeepFrozen(inst.GetDefinitionHash(), frozen)
	}
	t.setTimer(inst)
}

// mergeHistories joins what is remembered of past passages. The older first entry decides by which profile
// id splits hash.
//
// A passage that the merge ended is no past: had the two been one person from the start, it would not have
// been. Its end counts only if the journey is left without passage and past, which bounds re-entry then.
func (t *Turn) mergeHistories(src *person.Person) {
	for _, theirs := range src.Histories().GetJourneys() {
		ours := t.person.EnsureHistory(theirs.GetJourney(), t.tenant.gone)
		if ours.GetEntries() == 0 || (theirs.GetEntries() > 0 && theirs.GetFirstEnteredMs() < ours.GetFirstEnteredMs()) {
			ours.FirstEnteredMs, ours.SplitProfile = theirs.GetFirstEnteredMs(), theirs.GetSplitProfile()
		}
		ours.LastExitedMs = max(ours.GetLastExitedMs(), theirs.GetLastExitedMs())
		ours.Entries += theirs.GetEntries()
	}
	for _, s := range t.Steps {
		if s.GetAction() != journeyv1.StepAction_STEP_ACTION_EXITED || t.person.Instance(s.GetJourney()) != nil {
			continue
		}
		if past := t.person.EnsureHistory(s.GetJourney(), t.tenant.gone); past.GetLastExitedMs() == 0 {
			past.LastExitedMs = t.nowMs()
		}
	}
}
