package view_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/topics"
	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
	"github.com/sillage-cdp/sillage/services/decision/internal/view"
)

// memory is a serving copy in maps.
type memory struct {
	profiles    map[string]*decisionv1.ServingProfile
	identifiers map[string]*decisionv1.IdentifierEntry
	err         error
}

func newMemory() *memory {
	return &memory{profiles: map[string]*decisionv1.ServingProfile{}, identifiers: map[string]*decisionv1.IdentifierEntry{}}
}

func (m *memory) Profile(tenant, id string) (*decisionv1.ServingProfile, error) {
	if p := m.profiles[tenant+"/"+id]; p != nil {
		return p.CloneVT(), m.err
	}
	return &decisionv1.ServingProfile{Profile: &profilev1.Profile{Tenant: tenant, ProfileId: id}}, m.err
}

func (m *memory) Changed(tenant, id string, p *decisionv1.ServingProfile) {
	m.profiles[tenant+"/"+id] = p
}

func (m *memory) Identify(_ string, id *eventv1.Identifier, entry *decisionv1.IdentifierEntry) error {
	m.identifiers[id.GetValue()] = entry
	return nil
}

func (m *memory) Get(tenant, id string) (*decisionv1.ServingProfile, bool, error) {
	p, found := m.profiles[tenant+"/"+id]
	return p.CloneVT(), found, m.err
}

// record is one record of one partition.
type record struct {
	topic string
	value []byte
}

type encoder interface{ MarshalVT() ([]byte, error) }

// history is what the stages would write: records by topic and partition, each in order.
type history struct {
	t      *rapid.T
	tenant string
	logs   map[string][]record
	ended  map[string]bool
	at     int64
}

func (h *history) write(topic, profileID string, m encoder) {
	raw, err := m.MarshalVT()
	require.NoError(h.t, err)
	partition := fmt.Sprintf("%s/%d", topic, profileID[1]%3)
	h.logs[partition] = append(h.logs[partition], record{topic, raw})
}

func (h *history) log(profileID string, rec *profilev1.ProfileRecord) {
	rec.Tenant, rec.ProfileId = h.tenant, profileID
	h.write(topics.ProfileLog, profileID, rec)
}

// step lets something happen to a profile.
func (h *history) step(ids []string) {
	h.at += int64(rapid.IntRange(0, 1).Draw(h.t, "later"))
	id := rapid.SampledFrom(ids).Draw(h.t, "profile")
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(h.t, "name")
	switch rapid.IntRange(0, 5).Draw(h.t, "what") {
	case 0, 1: // also late ones of a profile that has ended
		h.log(id, &profilev1.ProfileRecord{Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
			Event: &eventv1.Event{
				Tenant: h.tenant, Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, TimestampMs: h.at,
				Traits: fmt.Appendf(nil, `{"%s":%d}`, name, h.at),
			},
			NewIdentifiers: []*eventv1.Identifier{{Namespace: "email", Value: name}},
		}}})
	case 2:
		into := rapid.SampledFrom(ids).Draw(h.t, "into")
		if h.ended[id] || h.ended[into] || id == into {
			return
		}
		h.ended[id] = true
		h.log(into, &profilev1.ProfileRecord{Body: &profilev1.ProfileRecord_MergeAnnounced{MergeAnnounced: &profilev1.MergeAnnounced{FromProfileId: id}}})
		h.log(id, &profilev1.ProfileRecord{Body: &profilev1.ProfileRecord_MergedInto{MergedInto: &profilev1.MergedInto{IntoProfileId: into}}})
	case 3:
		state := segmentv1.MembershipState(rapid.IntRange(1, 2).Draw(h.t, "state"))
		h.write(topics.Segments, id, &segmentv1.MembershipChanged{Tenant: h.tenant, ProfileId: id, Segment: name, State: state, AtMs: h.at})
	case 4:
		h.write(topics.Scores, id, &scorev1.ScoreChanged{Tenant: h.tenant, ProfileId: id, Score: name, Value: float64(h.at), Removed: rapid.Bool().Draw(h.t, "removed")})
	default:
		h.write(topics.Steps, id, &journeyv1.JourneyStep{
			Tenant: h.tenant, ProfileId: id, Journey: name, InstanceId: name, Step: rapid.SampledFrom([]string{"", "mail", "wait"}).Draw(h.t, "step"),
			Action: journeyv1.StepAction(rapid.IntRange(1, 4).Draw(h.t, "action")), AtMs: h.at,
		})
	}
}

// interleave reads the partitions in a drawn order that keeps each one's own.
func (h *history) interleave(label string, apply func(record)) {
	left := map[string][]record{}
	var names []string
	for _, topic := range view.Topics() {
		for n := range 3 {
			if name := fmt.Sprintf("%s/%d", topic, n); len(h.logs[name]) > 0 {
				left[name], names = h.logs[name], append(names, name)
			}
		}
	}
	for len(names) > 0 {
		i := rapid.IntRange(0, len(names)-1).Draw(h.t, label)
		rest := left[names[i]]
		apply(rest[0])
		if left[names[i]] = rest[1:]; len(rest) == 1 {
			names = append(names[:i], names[i+1:]...)
		}
	}
}

// TestOrderOfPartitionsDoesNotMatter folds a random history with merges twice, in two orders: every profile and every identifier gives the same answer.
func TestOrderOfPartitionsDoesNotMatter(t *testing.T) {
	s, err := store.Open(t.TempDir(), 1<<20)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	ids := []string{"p0", "p1", "p2", "p3", "p4", "p5"}
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		h := &history{t: t, tenant: fmt.Sprintf("t%d", runs), logs: map[string][]record{}, ended: map[string]bool{}}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			h.step(ids)
		}
		read := func(label string) []string {
			copied := newMemory()
			batch := s.NewBatch()
			h.interleave(label, func(r record) {
				require.NoError(t, view.Apply(batch, r.topic, r.value))
				require.NoError(t, view.Apply(copied, r.topic, r.value))
			})
			var answers []string
			for _, id := range ids {
				resp, found, err := view.Read(copied, h.tenant, id)
				require.NoError(t, err)
				answers = append(answers, fmt.Sprint(found, resp))
			}
			for _, name := range []string{"a", "b"} {
				answers = append(answers, fmt.Sprint(entry(t, batch, h.tenant, name)))
			}
			return answers
		}
		first := read("first")
		require.Equal(t, first, read("second"))
	})
}

// entry asks a batch whose an identifier is.
func entry(t *rapid.T, batch *store.Batch, tenant, email string) string {
	id := &eventv1.Identifier{Namespace: "email", Value: email}
	got, err := batch.Owner(tenant, id)
	require.NoError(t, err)
	return got.GetProfileId()
}

func merge(t *testing.T, m *memory, from, into string) {
	t.Helper()
	for _, rec := range []*profilev1.ProfileRecord{
		{Tenant: "demo", ProfileId: into, Body: &profilev1.ProfileRecord_MergeAnnounced{MergeAnnounced: &profilev1.MergeAnnounced{FromProfileId: from}}},
		{Tenant: "demo", ProfileId: from, Body: &profilev1.ProfileRecord_MergedInto{MergedInto: &profilev1.MergedInto{IntoProfileId: into}}},
	} {
		raw, err := rec.MarshalVT()
		require.NoError(t, err)
		require.NoError(t, view.Apply(m, topics.ProfileLog, raw))
	}
}

func event(t testing.TB, tenant, id, traits string) []byte {
	t.Helper()
	raw, err := (&profilev1.ProfileRecord{Tenant: tenant, ProfileId: id, Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
		Event: &eventv1.Event{Tenant: tenant, Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, TimestampMs: 1, Traits: []byte(traits)},
	}}}).MarshalVT()
	require.NoError(t, err)
	return raw
}

func TestAChainOfMergesEndsInItsSurvivor(t *testing.T) {
	m := newMemory()
	const length = 50
	for i := range length {
		require.NoError(t, view.Apply(m, topics.ProfileLog, event(t, "demo", fmt.Sprintf("p%d", i), fmt.Sprintf(`{"t%d":1}`, i))))
	}
	for i := range length - 1 {
		merge(t, m, fmt.Sprintf("p%d", i), fmt.Sprintf("p%d", i+1))
	}
	for _, id := range []string{"p0", "p25", "p49"} {
		resp, found, err := view.Read(m, "demo", id)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, "p49", resp.GetProfileId())
		require.EqualValues(t, length, resp.GetEvents())
		require.Len(t, resp.GetAbsorbed(), length-1)
	}
}

func TestMergesInACircleAreAnErrorAndNoHang(t *testing.T) {
	m := newMemory()
	merge(t, m, "a", "b")
	merge(t, m, "b", "a")
	_, _, err := view.Read(m, "demo", "a")
	require.ErrorContains(t, err, "merges lead on")
}

func TestAMergeWhoseSurvivorIsNotReadYetHidesNothing(t *testing.T) {
	m := newMemory()
	require.NoError(t, view.Apply(m, topics.ProfileLog, event(t, "demo", "a", `{"city":"Lyon"}`)))
	merge(t, m, "a", "b")
	delete(m.profiles, "demo/b")
	resp, found, err := view.Read(m, "demo", "a")
	require.NoError(t, err)
	require.True(t, found)
	require.JSONEq(t, `{"city":"Lyon"}`, string(resp.GetTraits()))
}

func TestWhoIsToBlameIsTold(t *testing.T) {
	m := newMemory()
	for _, topic := range view.Topics() {
		require.ErrorIs(t, view.Apply(m, topic, []byte{0xff}), view.ErrRecord)
		require.ErrorIs(t, view.Apply(m, topic, nil), view.ErrRecord, "whose is it?")
	}
	m.err = errors.New("the disk is gone")
	err := view.Apply(m, topics.ProfileLog, event(t, "demo", "a", `{}`))
	require.ErrorIs(t, err, m.err)
	require.NotErrorIs(t, err, view.ErrRecord)
}

// FuzzApply folds bytes from anywhere: no panic, and what is refused changes nothing.
func FuzzApply(f *testing.F) {
	f.Add(0, event(f, "demo", "a", `{"x":1}`))
	f.Add(1, []byte{0xff})
	f.Fuzz(func(t *testing.T, n int, value []byte) {
		m := newMemory()
		if err := view.Apply(m, view.Topics()[uint(n)%uint(len(view.Topics()))], value); err != nil {
			require.ErrorIs(t, err, view.ErrRecord)
			require.Empty(t, m.profiles)
			return
		}
		for key, p := range m.profiles {
			_, _, err := view.Read(m, p.GetProfile().GetTenant(), p.GetProfile().GetProfileId())
			if err != nil {
				require.ErrorContains(t, err, "merges lead on", key)
			}
		}
	})
}
