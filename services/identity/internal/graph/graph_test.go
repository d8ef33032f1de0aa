package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/identity/internal/graph"
	"github.com/sillage-cdp/sillage/services/identity/internal/memstate"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
	"github.com/sillage-cdp/sillage/services/identity/internal/profileid"
)

const tenant = "acme"

// parse reads `u1`, `e1`, `a1`, `c1`, `d1`: user_id, email, anonymous_id, crm and device.
func parse(short string) policy.Identifier {
	namespaces := map[byte]string{'u': "user_id", 'e': "email", 'a': "anonymous_id", 'c': "crm", 'd': "device"}
	return policy.Identifier{Namespace: namespaces[short[0]], Value: short}
}

func derived(short string) string {
	id := parse(short)
	return profileid.Derive(tenant, id.Namespace, id.Value)
}

// world plays the resolvers: it remembers which profile each anchor was last told.
type world struct {
	st       *memstate.State
	pol      *policy.Policy
	profiles map[policy.Identifier]string
	clock    int64
}

func newWorld(pol *policy.Policy) *world {
	return &world{st: memstate.New(), pol: pol, profiles: map[policy.Identifier]string{}}
}

// visit lets an anonymous anchor have an event by itself, as the resolver does without asking.
func (w *world) visit(anchor string) {
	if id := parse(anchor); w.profiles[id] == "" {
		w.profiles[id] = derived(anchor)
	}
}

// link sends the request of an event with these identifiers, the anchor first.
func (w *world) link(t require.TestingT, shorts string) graph.Decision {
	w.clock++
	return w.ask(t, fmt.Sprintf("m%d", w.clock), shorts)
}

func (w *world) ask(t require.TestingT, messageID, shorts string) graph.Decision {
	var ids []policy.Identifier
	for short := range strings.FieldsSeq(shorts) {
		ids = append(ids, parse(short))
	}
	d, err := graph.Link(w.st, w.pol, graph.Request{
		Tenant: tenant, Anchor: ids[0], AnchorProfile: w.profiles[ids[0]], Identifiers: ids, AtMs: w.clock,
		MessageID: messageID,
	})
	require.NoError(t, err)
	for _, a := range append(d.Notices, d.Answer) {
		w.profiles[a.Anchor] = a.ProfileID
	}
	return d
}

// of returns the profile of an identifier in the graph; empty if it has none.
func (w *world) of(short string) string {
	value, _ := w.st.Get("i/" + parse(short).String())
	return graph.Owner(value)
}

func crmPolicy() *policy.Policy {
	return policy.Compile(&definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{
		{Name: "user_id", Limit: 1, Known: true}, {Name: "crm", Limit: 1, Known: true}, {Name: "email", Limit: 2, Known: true},
		{Name: "anonymous_id", Limit: 3}, {Name: "device", Limit: 2},
	}})
}

func TestPolicyCases(t *testing.T) {
	cases := []struct {
		name string
		// steps are requests in order; `!a1` is an event of a1 that needs no asking.
		steps []string
		// people are identifiers that belong together, each line one profile.
		people []string
		// last are the reasons of the last step's entries, and whether it merged.
		entries []string
		merges  int
		// event is an identifier of the profile to which the last event went, if not the anchor's.
		event string
	}{
		{"a new visitor logs in at once", []string{"a1 u1"}, []string{"a1 u1"}, []string{"linked u1 event", "linked a1 event"}, 0, ""},
		{"a visitor logs in: the history is the person's", []string{"!a1", "a1 u1"}, []string{"a1 u1"}, []string{"linked a1 derived", "linked u1 event"}, 0, ""},
		{"a second browser of a known person", []string{"!a1", "a1 u1", "!a2", "a2 u1"}, []string{"a1 a2 u1"},
			[]string{"linked a2 derived", "linked a2 merge", "merged  event"}, 1, ""},
		{"a user id by itself", []string{"u1"}, []string{"u1"}, []string{"linked u1 event"}, 0, ""},
		{"a user id by itself, known already", []string{"a1 u1", "u1"}, []string{"a1 u1"}, nil, 0, ""},
		{"e-mail joins user id", []string{"u1", "e1", "u1 e1"}, []string{"u1 e1"}, []string{"linked e1 merge", "merged  event"}, 1, ""},
		{"shared device: the second person starts a profile", []string{"!a1", "a1 u1", "a1 u2"}, []string{"u1", "a1 u2"},
			[]string{"linked u2 event", "linked a1 shared_device"}, 0, ""},
		{"shared device: the second person is known already", []string{"!a2", "a2 u2", "!a1", "a1 u1", "a1 u2"}, []string{"u1", "a1 a2 u2"},
			[]string{"linked a1 shared_device"}, 0, ""},
		{"shared device: and back again", []string{"a1 u1", "a1 u2", "a1 u1"}, []string{"a1 u1", "u2"}, []string{"linked a1 shared_device"}, 0, ""},
		{"an e-mail of another person is demoted", []string{"a1 u1 e1", "a2 u2 e1"}, []string{"a1 u1 e1", "a2 u2"},
			[]string{"linked u2 event", "linked a2 event", "refused e1 limit:user_id"}, 0, ""},
		{"two people are never merged by an alias", []string{"u1", "u2", "u1 u2"}, []string{"u1", "u2"}, []string{"refused u2 limit:user_id"}, 0, ""},
		{"alias of a visitor that was never heard of", []string{"u1 a9"}, []string{"u1 a9"},
			[]string{"linked a9 derived", "linked u1 event"}, 0, ""},
		{"the third e-mail is one too many", []string{"u1 e1", "u1 e2", "u1 e3"}, []string{"u1 e1 e2"}, []string{"refused e3 limit:email"}, 0, ""},
		{"the fourth browser stays by itself, its event is the person's", []string{"a1 u1", "a2 u1", "a3 u1", "!a4", "a4 u1"},
			[]string{"u1 a1 a2 a3", "a4"}, []string{"linked a4 derived", "refused a4 limit:anonymous_id"}, 0, "u1"},
		{"the same, never seen before", []string{"a1 u1", "a2 u1", "a3 u1", "a4 u1"},
			[]string{"u1 a1 a2 a3", "a4"}, []string{"refused a4 limit:anonymous_id", "linked a4 derived"}, 0, "u1"},
		{"two visitors on one device become one", []string{"!a1", "!a2", "a1 d1", "a2 d1"}, []string{"a1 a2 d1"},
			[]string{"linked a2 derived", "linked a2 merge", "merged  event"}, 1, ""},
		{"a device between two people belongs to the last who logged in", []string{"a1 u1 d1", "a2 u2 d1"}, []string{"a1 u1", "a2 u2 d1"},
			[]string{"linked u2 event", "linked a2 event", "linked d1 shared_device"}, 0, ""},
		{"a device cannot join two people when nobody logs in", []string{"a1 u1", "d1 u2", "a1 d1"}, []string{"a1 u1", "d1 u2"},
			[]string{"refused d1 limit:user_id"}, 0, ""},
		{"an identifier that stands in nobody's way is not demoted with the one that does", []string{"a1 u1 e1", "a2 u2 c2 e1"},
			[]string{"a1 u1 e1", "a2 u2 c2"}, []string{"linked u2 event", "linked c2 event", "linked a2 event", "refused e1 limit:user_id"}, 0, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(crmPolicy())
			var last graph.Decision
			for _, step := range c.steps {
				if anchor, ok := strings.CutPrefix(step, "!"); ok {
					w.visit(anchor)
				} else {
					last = w.link(t, step)
				}
			}
			seen := map[string]string{}
			for _, person := range c.people {
				members := strings.Fields(person)
				profile := w.of(members[0])
				require.NotEmpty(t, profile)
				require.Empty(t, seen[profile], "%s and %s are one profile", person, seen[profile])
				seen[profile] = person
				for _, member := range members {
					require.Equal(t, profile, w.of(member), "%s is not with %s", member, members[0])
				}
			}
			var entries []string
			for _, e := range last.Entries {
				entries = append(entries, fmt.Sprintf("%s %s %s", map[graph.Action]string{1: "linked", 2: "merged", 3: "refused"}[e.Action], e.Identifier.Value, e.Reason))
			}
			require.Equal(t, c.entries, entries)
			require.Len(t, last.Merges, c.merges)
			if c.event == "" {
				require.Empty(t, last.Answer.EventProfileID)
			} else {
				require.Equal(t, w.of(c.event), last.Answer.EventProfileID)
			}
			require.Equal(t, w.of(last.Answer.Anchor.Value), last.Answer.ProfileID)
			checkGraph(t, w)
		})
	}
}

func TestSurvivor(t *testing.T) {
	t.Run("known beats anonymous though it is newer", func(t *testing.T) {
		w := newWorld(crmPolicy())
		w.visit("a1")
		w.link(t, "a1 d1")
		w.link(t, "u1")
		d := w.link(t, "a1 u1")
		require.Equal(t, []graph.Merge{{From: derived("a1"), Into: derived("u1"), ID: derived("a1") + "." + derived("u1")}}, d.Merges)
	})
	t.Run("older beats newer", func(t *testing.T) {
		for _, order := range [][2]string{{"u1", "e1"}, {"e1", "u1"}} {
			w := newWorld(crmPolicy())
			w.link(t, order[0])
			w.link(t, order[1])
			d := w.link(t, "u1 e1")
			require.Len(t, d.Merges, 1)
			require.Equal(t, derived(order[0]), d.Merges[0].Into)
		}
	})
}

func TestMergeTellsEveryAnchorConcerned(t *testing.T) {
	w := newWorld(crmPolicy())
	w.link(t, "a1 e1")
	w.link(t, "a2 e1")
	w.link(t, "u1")
	d := w.link(t, "u1 e1")
	require.Equal(t, derived("e1"), d.Answer.ProfileID, "the older of two known profiles survives")
	require.Empty(t, d.Notices, "only the anchor that asked changes")

	w.link(t, "a3 c1")
	d = w.link(t, "a3 u1 c1")
	require.Len(t, d.Merges, 1)
	told := map[string]string{}
	for _, n := range d.Notices {
		told[n.Anchor.Value] = n.ProfileID
	}
	require.Equal(t, map[string]string{"c1": derived("e1")}, told)
	require.Equal(t, derived("e1"), d.Answer.ProfileID)
}

func TestAskingTwiceChangesNothing(t *testing.T) {
	w := newWorld(crmPolicy())
	w.visit("a1")
	first := w.ask(t, "q", "a1 u1 e1")
	again := w.ask(t, "q", "a1 u1 e1")
	require.Equal(t, first.Answer, again.Answer)
	require.Empty(t, again.Merges)
	require.Empty(t, again.Entries)
}

// An answer that is late is asked for again; what others did meanwhile must stand.
func TestAskingAgainUndoesNothing(t *testing.T) {
	t.Run("a device that changed hands meanwhile", func(t *testing.T) {
		w := newWorld(crmPolicy())
		w.ask(t, "q", "a1 u1 d1")
		w.link(t, "a2 u2 d1")
		again := w.ask(t, "q", "a1 u1 d1")
		require.Empty(t, again.Entries)
		require.Equal(t, []policy.Identifier{parse("u1")}, again.Answer.Linked)
		require.Equal(t, []policy.Identifier{parse("d1")}, again.Answer.Refused)
		require.Equal(t, w.of("u2"), w.of("d1"))
	})
	t.Run("an anchor that was merged meanwhile", func(t *testing.T) {
		w := newWorld(crmPolicy())
		w.ask(t, "q", "a1 d1")
		w.link(t, "a2 u2 d1")
		again := w.ask(t, "q", "a1 d1")
		require.Empty(t, again.Entries)
		require.Equal(t, w.of("u2"), again.Answer.ProfileID)
	})
	t.Run("an anchor at its limit", func(t *testing.T) {
		w := newWorld(crmPolicy())
		for _, step := range []string{"a1 u1", "a2 u1", "a3 u1"} {
			w.link(t, step)
		}
		first := w.ask(t, "q", "a4 u1 e1")
		require.Equal(t, first.Answer, w.ask(t, "q", "a4 u1 e1").Answer)
		require.NotEmpty(t, first.Answer.EventProfileID)
	})
}

func TestLoweredLimitPartsNobody(t *testing.T) {
	w := newWorld(crmPolicy())
	w.link(t, "u1 e1")
	w.link(t, "u1 e2")
	w.pol = policy.Compile(&definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{{Name: "user_id", Limit: 1, Known: true}, {Name: "email", Limit: 1, Known: true}}})
	d := w.link(t, "u1 e1")
	require.Empty(t, d.Answer.Refused)
	d = w.link(t, "a1 e2")
	require.Equal(t, w.of("u1"), d.Answer.ProfileID)
}

func TestRequestWithoutItsAnchor(t *testing.T) {
	_, err := graph.Link(memstate.New(), crmPolicy(), graph.Request{Tenant: tenant, Anchor: parse("a1"), Identifiers: []policy.Identifier{parse("u1")}})
	require.ErrorIs(t, err, graph.ErrNoAnchor)
}

func TestCorruptStateIsAnError(t *testing.T) {
	w := newWorld(crmPolicy())
	w.link(t, "u1")
	w.st.Put("p/"+w.of("u1"), []byte{9, 9, 9})
	_, err := graph.Link(w.st, w.pol, graph.Request{Tenant: tenant, Anchor: parse("u1"), Identifiers: []policy.Identifier{parse("u1")}})
	require.ErrorContains(t, err, "decoding a profile")
}

// checkGraph checks that the three kinds of entries agree and that no profile is above a limit.
func checkGraph(t require.TestingT, w *world) {
	members := map[string]map[string]int{}
	identifiers := 0
	w.st.Range("i/", func(name string, value []byte) bool {
		identifiers++
		id, ok := policy.Parse(strings.TrimPrefix(name, "i/"))
		require.True(t, ok)
		owner := graph.Owner(value)
		_, ok = w.st.Get("m/" + owner + "/" + id.String())
		require.True(t, ok, "%s is not a member of its profile", name)
		if members[owner] == nil {
			members[owner] = map[string]int{}
		}
		members[owner][id.Namespace]++
		return true
	})
	require.Equal(t, identifiers, w.st.Count("m/"), "a member that is not an identifier")
	w.st.Range("p/", func(name string, value []byte) bool {
		id := strings.TrimPrefix(name, "p/")
		counts, known, into, err := graph.DecodeProfile(id, value)
		require.NoError(t, err)
		if into != "" {
			require.Empty(t, counts)
			require.Empty(t, members[id], "a merged profile has members")
			return true
		}
		want := members[id]
		if want == nil {
			want = map[string]int{}
		}
		require.Equal(t, want, counts)
		for namespace, n := range counts {
			require.LessOrEqual(t, n, w.pol.Rule(namespace).Limit, "%s has %d of %s", id, n, namespace)
			require.True(t, known || !w.pol.Rule(namespace).Known)
		}
		delete(members, id)
		return true
	})
	require.Empty(t, members, "profiles that are not written")
}
