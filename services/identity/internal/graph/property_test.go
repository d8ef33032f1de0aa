package graph_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/identity/internal/graph"
	"github.com/sillage-cdp/sillage/services/identity/internal/memstate"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

func limits(n int32) *policy.Policy {
	return policy.Compile(&definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{
		{Name: "user_id", Limit: n, Known: true}, {Name: "crm", Limit: n, Known: true}, {Name: "email", Limit: n, Known: true},
		{Name: "anonymous_id", Limit: n}, {Name: "device", Limit: n},
	}})
}

// unionFind is the oracle: identifiers that one event carries are one person.
type unionFind map[string]string

func (u unionFind) find(x string) string {
	if u[x] == "" {
		u[x] = x
	}
	for u[x] != x {
		u[x] = u[u[x]]
		x = u[x]
	}
	return x
}

func (u unionFind) union(a, b string) { u[u.find(a)] = u.find(b) }

// people lists the groups of a relation, each sorted, sorted.
func people(of func(string) string, all []string) []string {
	groups := map[string][]string{}
	for _, id := range all {
		groups[of(id)] = append(groups[of(id)], id)
	}
	var list []string
	for _, group := range groups {
		sort.Strings(group)
		list = append(list, strings.Join(group, " "))
	}
	sort.Strings(list)
	return list
}

// anyIdentifier draws one of few identifiers, so that events meet.
func anyIdentifier() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kind := rapid.SampledFrom([]string{"u", "e", "a", "a", "c", "d"}).Draw(t, "kind")
		return fmt.Sprintf("%s%d", kind, rapid.IntRange(1, 6).Draw(t, "number"))
	})
}

// anyEvents draws events of one to four identifiers; `!` before one says that its anchor had an event alone before.
func anyEvents(most int) *rapid.Generator[[]string] {
	event := rapid.Custom(func(t *rapid.T) string {
		ids := rapid.SliceOfNDistinct(anyIdentifier(), 1, 4, rapid.ID).Draw(t, "identifiers")
		line := strings.Join(ids, " ")
		if ids[0][0] == 'a' && rapid.Bool().Draw(t, "visited") {
			return "!" + line
		}
		return line
	})
	return rapid.SliceOfN(event, 1, most)
}

func (w *world) play(t require.TestingT, line string) graph.Decision {
	line, visited := strings.CutPrefix(line, "!")
	if visited {
		w.visit(strings.Fields(line)[0])
	}
	return w.link(t, line)
}

// TestPeopleAreComponentsInAnyOrder: 100 sets of links, each in 10 random orders, against the oracle.
func TestPeopleAreComponentsInAnyOrder(t *testing.T) {
	pol := limits(1_000_000)
	rapid.Check(t, func(t *rapid.T) {
		events := anyEvents(40).Draw(t, "events")
		seed := rapid.Uint64().Draw(t, "seed")

		oracle, all := unionFind{}, map[string]bool{}
		for _, line := range events {
			ids := strings.Fields(strings.TrimPrefix(line, "!"))
			for _, id := range ids {
				all[id] = true
				oracle.union(ids[0], id)
			}
		}
		var ids []string
		for id := range all {
			ids = append(ids, id)
		}
		want := people(oracle.find, ids)

		random := rand.New(rand.NewPCG(seed, 1))
		for range 10 {
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			w := newWorld(pol)
			ended := map[string]bool{}
			for _, line := range events {
				d := w.play(t, line)
				require.Empty(t, d.Answer.Refused)
				require.Empty(t, d.Answer.EventProfileID)
				for _, m := range d.Merges {
					require.False(t, ended[m.From], "a profile ends twice")
					require.False(t, ended[m.Into], "a profile that ended survives")
					ended[m.From] = true
				}
			}
			require.Equal(t, want, people(w.of, ids), "order %v", events)
			checkGraph(t, w)
			for id, profile := range w.profiles {
				require.Equal(t, w.of(id.Value), profile, "the anchor %s was not told of its profile", id)
			}
		}
	})
}

// TestLimitsHold: whatever comes, no profile is above a limit, nobody is forgotten, every anchor is told,
// and known persons never part from what they had but by a device that changes hands.
func TestLimitsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(limits(rapid.Int32Range(1, 3).Draw(t, "limit")))
		for _, line := range anyEvents(40).Draw(t, "events") {
			before := maps(w)
			d := w.play(t, line)
			checkGraph(t, w)
			carried := strings.Fields(strings.TrimPrefix(line, "!"))
			require.NotEmpty(t, w.of(carried[0]))
			require.Equal(t, w.of(carried[0]), d.Answer.ProfileID)

			into := map[string]string{}
			for _, m := range d.Merges {
				into[m.From] = m.Into
			}
			for id, profile := range before {
				if next, merged := into[profile]; merged {
					profile = next
				}
				if now := w.of(id); now != profile {
					require.True(t, slices.Contains(carried, id), "%s moved though the event did not carry it", id)
					require.False(t, w.pol.Rule(parse(id).Namespace).Known, "%s, a known identifier, changed hands", id)
				}
			}
			for id, profile := range w.profiles {
				require.Equal(t, w.of(id.Value), profile, "the anchor %s was not told of its profile", id)
			}
			for _, id := range d.Answer.Linked {
				if d.Answer.EventProfileID == "" {
					require.Equal(t, d.Answer.ProfileID, w.of(id.Value))
				} else {
					require.Equal(t, d.Answer.EventProfileID, w.of(id.Value))
				}
			}
		}
	})
}

func maps(w *world) map[string]string {
	all := map[string]string{}
	w.st.Range("i/", func(name string, value []byte) bool {
		id, _ := policy.Parse(strings.TrimPrefix(name, "i/"))
		all[id.Value] = graph.Owner(value)
		return true
	})
	return all
}

// FuzzProfile: the entry of a profile is written again as it was read, and anything else is an error.
func FuzzProfile(f *testing.F) {
	w := newWorld(limits(3))
	w.link(f, "a1 u1 e1")
	w.link(f, "a2 u1")
	w.st.Range("p/", func(_ string, value []byte) bool { f.Add(value); return true })
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := graph.Recode(b)
		if err != nil {
			return
		}
		third, err := graph.Recode(again)
		require.NoError(t, err)
		require.Equal(t, again, third)
	})
}

// BenchmarkLink links a new visitor of one of 100,000 known persons, against a union-find over a map
// that takes the same links (P7: at least a tenth of its rate, of the state's cost net).
func BenchmarkLink(b *testing.B) {
	const persons = 100_000
	pol := policy.Compile(nil)
	b.Run("graph", func(b *testing.B) {
		w := &world{st: memstate.New(), pol: pol, profiles: map[policy.Identifier]string{}}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			anchor := policy.Identifier{Namespace: "anonymous_id", Value: fmt.Sprintf("a%d", i)}
			user := policy.Identifier{Namespace: "user_id", Value: fmt.Sprintf("u%d", i%persons)}
			if _, err := graph.Link(w.st, w.pol, graph.Request{
				Tenant: tenant, Anchor: anchor, Identifiers: []policy.Identifier{anchor, user}, AtMs: int64(i),
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("merge", func(b *testing.B) {
		w := &world{st: memstate.New(), pol: pol, profiles: map[policy.Identifier]string{}}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			anchor := policy.Identifier{Namespace: "anonymous_id", Value: fmt.Sprintf("a%d", i)}
			user := policy.Identifier{Namespace: "user_id", Value: fmt.Sprintf("u%d", i%persons)}
			if _, err := graph.Link(w.st, w.pol, graph.Request{
				Tenant: tenant, Anchor: anchor, AnchorProfile: "p", Identifiers: []policy.Identifier{anchor, user}, AtMs: int64(i),
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("union-find", func(b *testing.B) {
		u := unionFind{}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			u.union(fmt.Sprintf("anonymous_id:a%d", i), fmt.Sprintf("user_id:u%d", i%persons))
		}
	})
}
