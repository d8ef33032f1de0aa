package topology_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	identityv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/identity/v1"
)

func newDriver(t require.TestingT, limit int32) *stream.Driver {
	r, g := topologies(t, limits(limit))
	d, err := stream.NewDriver(stream.DriverConfig{Start: start, Partitions: 1}, r, g)
	require.NoError(t, err)
	return d
}

func TestAnonymousHistoryFollowsTheLogin(t *testing.T) {
	d := newDriver(t, 1000)
	for i, ids := range []string{"a1", "u1", "a1 u1", "a2", "a2 u1", "a1", "a2", "u1"} {
		send(t, d, newEvent(fmt.Sprintf("m%d", i), ids, start))
	}
	noDeadLetters(t, d)
	o := readOutcome(t, d.Output(topics.ProfileLog), d.Output(topics.Ledger), d.Output(topics.Links))
	require.Len(t, o.order, 8)
	person := o.final(o.profile["m1"])
	for id, profile := range o.profile {
		require.Equal(t, person, o.final(profile), id)
	}
	for _, late := range []string{"m5", "m6", "m7"} {
		require.Equal(t, person, o.profile[late], "%s does not need forwarding", late)
	}
	require.Len(t, o.into, 2)
}

func TestMergeIsAnnouncedBeforeWhatItCaused(t *testing.T) {
	d := newDriver(t, 1000)
	for i, ids := range []string{"a1", "u1", "a1 u1 e1", "e2", "a1 e2"} {
		send(t, d, newEvent(fmt.Sprintf("m%d", i), ids, start))
	}
	o := readOutcome(t, d.Output(topics.ProfileLog), nil, d.Output(topics.Links))
	require.Len(t, o.into, 2)
	checkAnnouncements(t, o)
}

// checkAnnouncements: the event that caused a merge stands behind the merge's announcement.
func checkAnnouncements(t require.TestingT, o *outcome) {
	for from, into := range o.into {
		cause := o.causes[from]
		require.NotEmpty(t, cause, "the ledger names no cause")
		require.Contains(t, o.at, cause)
		require.Less(t, o.announcedAt[from+">"+into], o.at[cause])
	}
}

func TestDuplicatesGoToTheLedger(t *testing.T) {
	d := newDriver(t, 1)
	send(t, d, newEvent("m1", "a1", start))
	send(t, d, newEvent("m1", "a1", start))
	require.NoError(t, d.Advance(start.Add(8*24*time.Hour)))
	send(t, d, newEvent("m1", "a1", start))
	o := readOutcome(t, d.Drain(topics.ProfileLog)[:1], d.Output(topics.Ledger), nil)
	require.Equal(t, map[string]int{"m1": 1}, o.duplicates)
	require.Empty(t, d.Drain(topics.ProfileLog))
	require.Equal(t, []string{"m1"}, o.order)
}

func TestInternalEventsReachTheirProfile(t *testing.T) {
	d := newDriver(t, 1)
	event := newEvent("outcome-1", "p1", start)
	event.Internal = true
	send(t, d, event)
	send(t, d, event)
	o := readOutcome(t, d.Output(topics.ProfileLog), d.Output(topics.Ledger), nil)
	require.Equal(t, map[string]string{"outcome-1": "p1"}, o.profile)
	require.Equal(t, 1, o.duplicates["outcome-1"])
	require.Empty(t, d.Output(topics.Requests))
}

func TestBadRecordsAreDeadLetters(t *testing.T) {
	d := newDriver(t, 1)
	require.NoError(t, d.Send(topics.Events, []byte("acme/anonymous_id:a1"), []byte{0xff}))
	require.NoError(t, d.Send(topics.Assignments, []byte("acme/anonymous_id:a1"), []byte{0xff}))
	require.NoError(t, d.Send(topics.Assignments, []byte("acme/anonymous_id:a1"), nil))
	require.NoError(t, d.Send(topics.Requests, []byte("acme"), []byte{0xff}))
	require.NoError(t, d.Send(topics.Requests, []byte("acme"), nil))
	stolen, err := (&identityv1.LinkRequest{Tenant: "other"}).MarshalVT()
	require.NoError(t, err)
	require.NoError(t, d.Send(topics.Requests, []byte("acme"), stolen))
	require.Len(t, d.DeadLetters(), 6)
	send(t, d, newEvent("m1", "a1 u1", start))
	require.Len(t, d.Output(topics.ProfileLog), 1, "the next record of the key is handled")
}

// TestTenantsAreSilos: the same identifiers in two tenants are two people.
func TestTenantsAreSilos(t *testing.T) {
	d := newDriver(t, 1000)
	for _, name := range []string{"acme", "other"} {
		event := newEvent("m1", "a1 u1", start)
		event.Tenant = name
		send(t, d, event)
	}
	log := d.Output(topics.ProfileLog)
	require.Len(t, log, 2)
	require.True(t, strings.HasPrefix(string(log[0].Key), "acme/") && strings.HasPrefix(string(log[1].Key), "other/"))
	require.NotEqual(t, strings.TrimPrefix(string(log[0].Key), "acme/"), strings.TrimPrefix(string(log[1].Key), "other/"))
	require.Empty(t, d.Output(topics.Ledger), "a message id of another tenant is no duplicate")
}

// sent is what was sent, for the oracle.
type sent struct {
	identifiers map[string][]string // by message id
	byAnchor    map[string][]string // message ids in the order of arrival
	duplicates  map[string]int
}

// run sends random events with duplicates through lagging stages.
func run(t *rapid.T, l *lagging) sent {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	s := sent{identifiers: map[string][]string{}, byAnchor: map[string][]string{}, duplicates: map[string]int{}}
	for i, ids := range rapid.SliceOfN(anyEvent(), 1, 60).Draw(t, "events") {
		id := fmt.Sprintf("m%d", i)
		anchor := strings.Fields(ids)[0]
		s.identifiers[id] = strings.Fields(ids)
		s.byAnchor[anchor] = append(s.byAnchor[anchor], id)
		l.event(newEvent(id, ids, l.now))
		for random.IntN(8) == 0 {
			again := s.byAnchor[anchor][random.IntN(len(s.byAnchor[anchor]))]
			l.event(newEvent(again, strings.Join(s.identifiers[again], " "), l.now))
			s.duplicates[again]++
		}
		for range random.IntN(4) {
			l.step(random)
		}
	}
	l.settle(random)
	require.Empty(t, l.resolver.DeadLetters())
	require.Empty(t, l.graph.DeadLetters())
	return s
}

func (l *lagging) outcome() *outcome {
	return readOutcome(l.t, l.log, l.resolver.Output(topics.Ledger), l.graph.Output(topics.Links))
}

// checkOnce: every event once, each anchor's in order, every duplicate counted.
func checkOnce(t require.TestingT, s sent, o *outcome) {
	require.Len(t, o.order, len(s.identifiers))
	byAnchor := map[string][]string{}
	for _, id := range o.order {
		byAnchor[o.anchor[id]] = append(byAnchor[o.anchor[id]], id)
	}
	require.Equal(t, s.byAnchor, byAnchor)
	require.Equal(t, s.duplicates, o.duplicates)
	checkAnnouncements(t, o)
}

type unionFind map[string]string

func (u unionFind) find(x string) string {
	if u[x] == "" {
		u[x] = x
	}
	for u[x] != x {
		x = u[x]
	}
	return x
}

// TestPeopleAreComponentsThroughLag: with limits off, two events belong to one person exactly if the
// links connect them, whatever waits for whom, and the ledger of links tells the same story.
func TestPeopleAreComponentsThroughLag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLagging(t, limits(1_000_000))
		s := run(t, l)
		o := l.outcome()
		checkOnce(t, s, o)

		oracle := unionFind{}
		for _, ids := range s.identifiers {
			for _, id := range ids {
				oracle[oracle.find(ids[0])] = oracle.find(id)
			}
		}
		component, person := map[string]string{}, map[string]string{}
		for id, ids := range s.identifiers {
			profile, root := o.final(o.profile[id]), oracle.find(ids[0])
			if have, ok := component[profile]; ok {
				require.Equal(t, have, root, "%s: two people in one profile", id)
			}
			if have, ok := person[root]; ok {
				require.Equal(t, have, profile, "%s: one person in two profiles", id)
			}
			component[profile], person[root] = root, profile
			for _, identifier := range ids {
				if owner, ok := o.owner[identifier]; ok {
					require.Equal(t, profile, owner, "the ledger's owner of %s", identifier)
				}
			}
		}
	})
}

// TestLimitsThroughLag: with limits on, no person has two user ids, every event that names a user is that
// user's, and nothing is lost, doubled or out of order.
func TestLimitsThroughLag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int32Range(1, 2).Draw(t, "limit")
		l := newLagging(t, limits(limit))
		s := run(t, l)
		o := l.outcome()
		checkOnce(t, s, o)

		count := map[string]int32{}
		for id, owner := range o.owner {
			require.Equal(t, owner, o.final(owner), "%s belongs to a profile that ended", id)
			count[owner+id[:1]]++
			require.LessOrEqual(t, count[owner+id[:1]], limit, "%s has too many of %s", owner, id[:1])
		}
		for id, ids := range s.identifiers {
			for _, identifier := range ids {
				if identifier[0] == 'u' {
					require.Equal(t, o.owner[identifier], o.final(o.profile[id]), "%s names %s", id, identifier)
				}
			}
		}
		for id, fresh := range o.fresh {
			for _, identifier := range fresh {
				if v := identifier.GetValue(); v[0] == 'u' || v[0] == 'e' {
					require.Equal(t, o.owner[v], o.final(o.profile[id]), "%s tells a profile of %s, which is not its own", id, v)
				}
			}
		}
	})
}
