package person_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/person"
)

// store is a key's state, which notes what is read and written.
type store struct {
	entries map[string][]byte
	log     []string
}

func (s *store) Get(name string) ([]byte, bool) {
	s.log = append(s.log, "get "+name)
	v, ok := s.entries[name]
	return v, ok
}

func (s *store) Put(name string, value []byte) {
	s.log = append(s.log, "put "+name)
	s.entries[name] = slices.Clone(value)
}

func (s *store) Delete(name string) {
	s.log = append(s.log, "delete "+name)
	delete(s.entries, name)
}

func instance(journey string, entered int64) *journeyv1.Instance {
	return &journeyv1.Instance{Journey: journey, InstanceId: journey, EnteredMs: entered, DefinitionHash: []byte("0123456789abcdef")}
}

// TestLazyAndExact: what is saved comes back, each part is read once, only what changed is written, and
// what became empty is deleted.
func TestLazyAndExact(t *testing.T) {
	s := &store{entries: map[string][]byte{}}
	p := person.Open("bank", "ada", s)
	p.AddInstance(instance("later", 2))
	p.AddInstance(instance("first", 1))
	p.KeepFrozen([]byte("0123456789abcdef"), []byte("frozen"))
	p.PutScore("heat", 1.5)
	p.PutMembership(&journeyv1.Membership{Segment: "vip", SinceMs: 7})
	p.EnsureHistory("first", func(string) bool { return false }).Entries = 1
	require.NoError(t, p.Save())

	s.log = nil
	p = person.Open("bank", "ada", s)
	require.False(t, person.Open("bank", "bob", &store{entries: map[string][]byte{}}).AnyRunning())
	require.Equal(t, []string{"first", "later"}, []string{p.Running()[0].GetJourney(), p.Running()[1].GetJourney()})
	require.True(t, p.HasScore("heat"))
	require.Equal(t, int64(7), p.Membership("vip").GetSinceMs())
	require.Nil(t, p.Membership("other"))
	require.Equal(t, int64(1), p.History("first").GetEntries())
	require.NoError(t, p.Save())
	slices.Sort(s.log)
	require.Equal(t, []string{"get c", "get h", "get r", "get s"}, s.log)

	for _, inst := range p.Running() {
		p.RemoveInstance(inst)
		_, kept := s.entries["d/"+fmt.Sprintf("%x", "0123456789abcdef")]
		require.Equal(t, p.AnyRunning(), kept, "the frozen definition stays as long as a passage follows it")
	}
	p.DropScore("heat")
	p.DropMembership("vip")
	require.NoError(t, p.Save())
	require.Equal(t, []string{"h"}, slices.Sorted(maps.Keys(s.entries)))
}

func TestCorruptStateIsAnError(t *testing.T) {
	s := &store{entries: map[string][]byte{"r": {0xff}}}
	p := person.Open("bank", "ada", s)
	require.False(t, p.AnyRunning())
	require.ErrorContains(t, p.Err(), `decoding state "r"`)
	p.PutScore("heat", 1)
	require.Error(t, p.Save())
	require.Len(t, s.entries, 1, "nothing is written over state that cannot be read")
}

// TestBounds: whatever comes, each part stays within its bound, and the right things are forgotten.
func TestBounds(t *testing.T) {
	p := person.Open("bank", "ada", &store{entries: map[string][]byte{}})
	gone := func(journey string) bool { return journey == "j7" }
	for i := range person.MaxHistories + 1 {
		p.EnsureHistory(fmt.Sprintf("j%d", i), gone).LastExitedMs = int64(1000 + i)
	}
	require.Nil(t, p.History("j7"), "a journey that is gone is forgotten first")
	require.NotNil(t, p.History("j0"))
	p.EnsureHistory("one more", gone)
	require.Nil(t, p.History("j0"), "then the one left longest ago")
	require.Len(t, p.Histories().GetJourneys(), person.MaxHistories)

	for i := range person.MaxMemberships + 5 {
		p.PutMembership(&journeyv1.Membership{Segment: fmt.Sprintf("s%d", i)})
	}
	for i := range person.MaxScores + 5 {
		p.PutScore(fmt.Sprintf("s%d", i), 1)
	}
	for i := range person.MaxMerges + 5 {
		notes := p.Merges()
		notes.Merges = append(notes.Merges, &journeyv1.MergeNote{MergeId: fmt.Sprint(i)})
		notes.Flips = append(notes.Flips, []byte("flip"))
		p.MergesChanged()
	}
	require.Len(t, p.Memberships(), person.MaxMemberships)
	require.Len(t, p.Scores(), person.MaxScores)
	require.Len(t, p.Merges().GetMerges(), person.MaxMerges)
	require.Equal(t, "5", p.Merges().GetMerges()[0].GetMergeId())
	require.LessOrEqual(t, len(p.Merges().GetFlips()), person.MaxPostponed)
}
