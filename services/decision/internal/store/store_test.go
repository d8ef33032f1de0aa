package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
)

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, 1<<20)
	require.NoError(t, err)
	return s
}

func TestABatchIsThereWholeAfterReopening(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	batch := s.NewBatch()
	p, err := batch.Profile("demo", "p1")
	require.NoError(t, err)
	p.Profile.Events = 3
	batch.Changed("demo", "p1", p)
	_, err = batch.Profile("demo", "p2") // looked at and not changed
	require.NoError(t, err)
	email := &eventv1.Identifier{Namespace: "email", Value: "a"}
	require.NoError(t, batch.Identify("demo", email, &decisionv1.IdentifierEntry{ProfileId: "p1", AtMs: 5}))
	batch.Read("t", 2, 7)

	offset, err := s.Offset("t", 2)
	require.NoError(t, err)
	require.Zero(t, offset, "nothing before the commit")
	require.NoError(t, batch.Commit())
	require.NoError(t, s.Close())

	s = open(t, dir)
	defer func() { require.NoError(t, s.Close()) }()
	got, found, err := s.Get("demo", "p1")
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 3, got.GetProfile().GetEvents())
	_, found, err = s.Get("demo", "p2")
	require.NoError(t, err)
	require.False(t, found)
	offset, err = s.Offset("t", 2)
	require.NoError(t, err)
	require.EqualValues(t, 7, offset)
	entry, found, err := s.Lookup("demo", email)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "p1", entry.GetProfileId())
}

func TestTheLaterClaimToAnIdentifierCounts(t *testing.T) {
	s := open(t, t.TempDir())
	defer func() { require.NoError(t, s.Close()) }()
	id := &eventv1.Identifier{Namespace: "user_id", Value: "u"}
	claim := func(profile string, at int64) {
		batch := s.NewBatch() // each reads what the one before wrote
		require.NoError(t, batch.Identify("demo", id, &decisionv1.IdentifierEntry{ProfileId: profile, AtMs: at}))
		require.NoError(t, batch.Commit())
	}
	claim("b", 10)
	claim("c", 5)
	claim("a", 10)
	entry, _, err := s.Lookup("demo", id)
	require.NoError(t, err)
	require.Equal(t, "b", entry.GetProfileId())
}

func TestNoTwoNamesMeet(t *testing.T) {
	s := open(t, t.TempDir())
	defer func() { require.NoError(t, s.Close()) }()
	batch := s.NewBatch()
	require.NoError(t, batch.Identify("demo", &eventv1.Identifier{Namespace: "a:b", Value: "c"}, &decisionv1.IdentifierEntry{ProfileId: "p"}))
	require.NoError(t, batch.Commit())
	for _, other := range []*eventv1.Identifier{{Namespace: "a", Value: "b:c"}, {Namespace: "a:b:", Value: "c"}, {Namespace: "a:b"}} {
		_, found, err := s.Lookup("demo", other)
		require.NoError(t, err)
		require.False(t, found, "%v", other)
	}
	_, found, err := s.Lookup("demo2", &eventv1.Identifier{Namespace: "a:b", Value: "c"})
	require.NoError(t, err)
	require.False(t, found)
}
