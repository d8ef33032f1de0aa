package scenarios

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// stored holds the ledger against what was sent: each event once, and nothing unaccounted for.
func (m *mergesRun) stored() {
	want := map[string]int{}
	for _, p := range m.crowd.people {
		want[p.tenant] += len(p.deeds)
	}
	for tenant, n := range want {
		m.wait("each event is stored once by "+tenant, func(a *assert.CollectT) {
			fates := map[string]int{}
			for _, row := range stack.Query[countRow](a, m.Stack, fmt.Sprintf(`SELECT toString(fate) AS name, toInt32(sum(events)) AS n
				FROM ledger WHERE tenant = '%s' AND source = 'site' GROUP BY name`, tenant)) {
				fates[row.Name] = row.N
			}
			// What was taken and not answered before a kill is sent again: more may be accepted, and is dropped.
			require.Equal(a, n, fates["stored"], "%v", fates)
			require.GreaterOrEqual(a, fates["deduplicated"], m.repeated[tenant], "%v", fates)
			require.Equal(a, fates["accepted"], fates["stored"]+fates["deduplicated"], "%v", fates)
		})
	}
}

// profiles holds decision against the people and returns the profile of each.
func (m *mergesRun) profiles(a *assert.CollectT, later bool) map[*someone]string {
	home, owner := map[*someone]string{}, map[string]*someone{}
	found := m.lookUp(a)
	for _, p := range m.crowd.people {
		profile := found[p.tenant+p.ids[0]]
		for _, id := range p.ids {
			require.NotNil(a, found[p.tenant+id], "nobody is %s", id)
			require.Equal(a, profile.GetProfileId(), found[p.tenant+id].GetProfileId(), "%s is two: %s and %s", p.name, p.ids[0], id)
		}
		if other := owner[profile.GetProfileId()]; other != nil {
			require.Fail(a, "two people are one", "%s and %s", other.name, p.name)
		}
		home[p], owner[profile.GetProfileId()] = profile.GetProfileId(), p
		m.known(a, p, profile, later)
	}
	return home
}

// known holds what decision knows of a person against what the person did.
func (m *mergesRun) known(a *assert.CollectT, p *someone, profile *decisionv1.GetProfileResponse, later bool) {
	var ids []string
	for _, id := range profile.GetIdentifiers() {
		ids = append(ids, id.GetNamespace()+":"+id.GetValue())
	}
	slices.Sort(ids)
	require.Equal(a, p.ids, ids)
	require.EqualValues(a, len(p.deeds), profile.GetEvents(), "events of %s", p.name)
	traits := map[string]any{}
	require.NoError(a, json.Unmarshal(profile.GetTraits(), &traits))
	require.Equal(a, p.traits(), traits, "traits of %s", p.name)
	in := []string{}
	for _, s := range profile.GetMemberships() {
		in = append(in, s.GetSegment())
		if started, _ := p.started(); s.GetSegment() == "abandoned" {
			require.Equal(a, started.Add(waits).UnixMilli(), s.GetSinceMs(), "%s is in the segment since the wrong time", p.name)
		}
	}
	require.Equal(a, p.segments(later), in, "segments of %s", p.name)
	scores := profile.GetScores()
	if p.count("Product Viewed") == 0 {
		require.Empty(a, scores)
		return
	}
	require.Len(a, scores, 1, "scores of %s", p.name)
	require.InDelta(a, p.heat(time.UnixMilli(scores[0].GetAtMs())), scores[0].GetValue(), 1e-6, "score of %s", p.name)
	require.Equal(a, p.count("Product Viewed"), p.viewedBy(time.UnixMilli(scores[0].GetAtMs())), "the score of %s is old", p.name)
}

// lookUp asks decision for the profile behind every identifier.
func (m *mergesRun) lookUp(a *assert.CollectT) map[string]*decisionv1.GetProfileResponse {
	var mu sync.Mutex // guards found
	found := map[string]*decisionv1.GetProfileResponse{}
	var group errgroup.Group
	group.SetLimit(16)
	for _, p := range m.crowd.people {
		for _, id := range p.ids {
			group.Go(func() error {
				namespace, value, _ := strings.Cut(id, ":")
				profile, err := m.FindProfile(p.tenant, namespace, value)
				mu.Lock()
				defer mu.Unlock()
				found[p.tenant+id] = profile
				return err
			})
		}
	}
	require.NoError(a, group.Wait())
	return found
}

// persons says whose each profile in ClickHouse is, those that were merged away included. It follows the
// merges of identity_links itself: a profile ends once, and all of a person's end in one, which is decision's.
func (m *mergesRun) persons(t require.TestingT) map[string]*someone {
	into := map[string]string{}
	for _, row := range stack.Query[struct{ From, Into string }](t, m.Stack,
		`SELECT profile_id AS From, into_profile_id AS Into FROM identity_links WHERE tenant IN ('day', 'night') AND action = 'merged'`) {
		require.NotContains(t, into, row.From, "a profile ends twice")
		into[row.From] = row.Into
	}
	sender := map[string]*someone{}
	for _, p := range m.crowd.people {
		for _, d := range p.deeds {
			sender[d.event["messageId"].(string)] = p
		}
	}
	rows := stack.Query[struct{ Message, Profile string }](t, m.Stack,
		`SELECT message_id AS Message, profile_id AS Profile FROM events WHERE tenant IN ('day', 'night') AND NOT internal`)
	require.Len(t, rows, len(sender), "each event is a row, once")
	owner, chain := map[string]*someone{}, 0
	for _, row := range rows {
		p := sender[row.Message]
		require.NotNil(t, p, "nobody sent %s", row.Message)
		delete(sender, row.Message)
		profile := row.Profile
		for hops := 0; ; hops++ {
			require.Less(t, hops, len(into)+1, "merges go round")
			if owner[profile] != nil {
				require.Equal(t, owner[profile].name, p.name, "two people share a profile")
			}
			owner[profile] = p
			next, ended := into[profile]
			if !ended {
				break
			}
			profile, chain = next, max(chain, hops+1)
		}
		require.Equal(t, m.home[p], profile, "decision and ClickHouse differ on %s", p.name)
	}
	require.Empty(t, sender, "events that are no rows")
	m.row.Injected["merges"], m.row.Measured["longest chain"] = len(into), float64(chain)
	return owner
}

// passage is one way of somebody through a journey, as its steps tell.
type passage struct {
	id      string
	journey string
	entered int64
	steps   []step
}

// step is a row of journey_steps.
type step struct {
	Profile  string
	Journey  string
	Instance string
	Step     string
	Action   string
	Reason   string
	Sequence int
	At       int64 `json:",string"`
}

// exit is why it ended; empty if it has not.
func (p *passage) exit() string {
	if n := len(p.steps); n > 0 && p.steps[n-1].Action == "exited" {
		return p.steps[n-1].Reason
	}
	return ""
}

// passagesOf are all passages of the people, by journey, the oldest first.
func (m *mergesRun) passagesOf(a *assert.CollectT) map[*someone]map[string][]*passage {
	owner := m.persons(a)
	all := map[string]*passage{}
	found := map[*someone]map[string][]*passage{}
	for _, s := range stack.Query[step](a, m.Stack, `SELECT profile_id AS Profile, journey AS Journey, instance_id AS Instance, step AS Step,
			action AS Action, reason AS Reason, toInt32(sequence) AS Sequence, toString(toUnixTimestamp64Milli(timestamp)) AS At
			FROM journey_steps WHERE tenant IN ('day', 'night') AND action != 'refused' ORDER BY instance_id, sequence`) {
		p := owner[s.Profile]
		require.NotNil(a, p, "a passage of nobody: %+v", s)
		if all[s.Instance] == nil {
			require.Equal(a, "entered", s.Action, "%+v", s)
			all[s.Instance] = &passage{id: s.Instance, journey: s.Journey, entered: s.At}
			if found[p] == nil {
				found[p] = map[string][]*passage{}
			}
			found[p][s.Journey] = append(found[p][s.Journey], all[s.Instance])
		}
		way := all[s.Instance]
		require.Empty(a, way.exit(), "a passage ends once: %+v", s)
		way.steps = append(way.steps, s)
		require.Len(a, way.steps, s.Sequence, "the steps of a passage have no gaps and no doubles: %+v", s)
	}
	for _, journeys := range found {
		for _, ways := range journeys {
			slices.SortFunc(ways, func(a, b *passage) int { return cmp.Or(cmp.Compare(a.entered, b.entered), cmp.Compare(a.id, b.id)) })
		}
	}
	return found
}

func underWay(passages []*passage) []*passage {
	return slices.DeleteFunc(slices.Clone(passages), func(p *passage) bool { return p.exit() != "" })
}

// passages holds the journeys that wait for an hour: of all that the pieces of a person entered, the oldest
// goes on, or has come to its end if that time is over, and all others ended with the merge.
func (m *mergesRun) passages(a *assert.CollectT, later bool) {
	found, ended := m.passagesOf(a), 0
	for _, p := range m.crowd.people {
		in := []string{}
		for _, journey := range slices.Sorted(maps.Keys(found[p])) {
			if journey == "news" || journey == "resume" {
				continue
			}
			in = append(in, journey)
			ended += len(found[p][journey]) - 1
			for i, way := range found[p][journey] {
				want := "merged"
				if i == 0 {
					want = map[bool]string{true: "completed", false: ""}[later]
				}
				require.Equal(a, want, way.exit(), "%s went through %s %d times, this is number %d: %+v", p.name, journey, len(found[p][journey]), i+1, way.steps)
			}
		}
		require.Equal(a, p.awaited(), in, "journeys of %s, to whom this happened: %s", p.name, m.happened(a, p))
		resumed := found[p]["resume"]
		if _, abandoned := p.started(); abandoned && later {
			require.Len(a, resumed, 1, "%s abandoned once", p.name)
			require.Equal(a, "completed", resumed[0].exit())
		} else {
			require.Empty(a, resumed, p.name)
		}
	}
	m.row.Measured["passages ended by merges"] = float64(ended)
}

// happened is what ClickHouse tells of a person's merges and memberships, for the message of a failure.
func (m *mergesRun) happened(t require.TestingT, p *someone) string {
	var mine []string
	for profile, who := range m.persons(t) {
		if who == p {
			mine = append(mine, "'"+profile+"'")
		}
	}
	rows := stack.Query[map[string]any](t, m.Stack, fmt.Sprintf(`SELECT * FROM (
		SELECT timestamp, profile_id, 'merged into ' || into_profile_id AS what FROM identity_links WHERE profile_id IN (%[1]s) AND action = 'merged'
		UNION ALL SELECT timestamp, profile_id, segment || ' ' || state || ' by ' || cause || ' ' || cause_id || ' ' || toString(log_offset) FROM memberships WHERE profile_id IN (%[1]s)
		UNION ALL SELECT timestamp, profile_id, journey || ' ' || action || ' ' || step || ' ' || reason FROM journey_steps WHERE profile_id IN (%[1]s)
	) ORDER BY timestamp`, strings.Join(mine, ", ")))
	var text strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&text, "\n%v %v %v", row["timestamp"], row["profile_id"], row["what"])
	}
	return text.String()
}

// decision is a row of the table sends.
type decision struct {
	ID       string
	Profile  string
	Journey  string
	Instance string
	Decision string
	Reason   string
}

// sends are the rows of the table of that name, by person.
func (m *mergesRun) sends(t require.TestingT) map[*someone][]decision {
	owner, seen := m.persons(t), map[string]bool{}
	sends := map[*someone][]decision{}
	for _, row := range stack.Query[decision](t, m.Stack, `SELECT send_id AS ID, profile_id AS Profile, journey AS Journey, instance_id AS Instance,
			decision AS Decision, reason AS Reason FROM sends WHERE tenant IN ('day', 'night') ORDER BY timestamp, send_id`) {
		p := owner[row.Profile]
		require.NotNil(t, p, "a send to nobody: %+v", row)
		require.False(t, seen[row.ID], "a send is decided twice: %+v", row)
		seen[row.ID] = true
		sends[p] = append(sends[p], row)
	}
	return sends
}

// decided counts the sends of journeys whose names begin so.
func decided(sends []decision, journey, as string) int {
	n := 0
	for _, s := range sends {
		if strings.HasPrefix(s.Journey, journey) && s.Decision == as {
			n++
		}
	}
	return n
}

// judge holds everything against the people when every wait is over.
func (m *mergesRun) judge() {
	m.wait("every passage has ended as it must", func(a *assert.CollectT) {
		m.passages(a, true)
		for _, journeys := range m.passagesOf(a) {
			require.Empty(a, underWay(journeys["news"]))
		}
	})
	var sends map[*someone][]decision
	m.wait("every send is decided, once, for the person that is left", func(a *assert.CollectT) {
		sends = m.sends(a)
		for _, p := range m.crowd.people {
			m.decisions(a, p, sends[p])
		}
	})
	m.wait("every mail is in the outbox, once", func(a *assert.CollectT) { m.mails(a, sends) })
	m.rest()
	m.wait("each person is still one, and has abandoned by its timer", func(a *assert.CollectT) {
		require.Equal(a, m.home, m.profiles(a, true))
	})
	require.Positive(m.t, m.row.Injected["merges"])
	m.flips()
	m.stored()
	m.wait("the ledger balances", func(a *assert.CollectT) {
		require.Zero(a, stack.One[struct{ N int }](a, m.Stack, `SELECT toInt32(countIf(difference != 0)) AS N FROM ledger_balance`).N)
	})
	require.Zero(m.t, stack.One[struct{ N int }](m.t, m.Stack, `SELECT toInt32(count()) AS N FROM unreadable_records`).N)
	for _, args := range [][]string{{"ledger", "check"}, {"dlq", "ls"}} {
		result := m.CLI(m.t, args...)
		require.Equal(m.t, 0, result.Code, "%s%s", result.Out, result.Err)
		if args[0] == "dlq" {
			require.Contains(m.t, result.Out, "no dead letters")
		}
	}
}

// decisions holds a person's sends against what must have come of the journeys.
func (m *mergesRun) decisions(a *assert.CollectT, p *someone, sends []decision) {
	have, want := map[string]int{}, map[string]int{}
	for _, s := range sends {
		if s.Journey == "news" && p.tenant == byDay {
			continue // judged when it was asked for
		}
		have[s.Journey]++
		require.Equal(a, m.home[p], s.Profile, "a send after the merges goes to %s by another profile: %+v", p.name, s)
		if s.Decision != "send" {
			require.Equal(a, "cap:promo", s.Reason, "%s: %+v", p.name, s)
		}
	}
	promos := 0
	for _, journey := range p.awaited() {
		want[journey] = 1
		if strings.HasPrefix(journey, "promo") {
			promos++
		}
	}
	if _, abandoned := p.started(); abandoned {
		want["resume"] = 1
	}
	if p.tenant == byNight {
		want["news"] = 1
		require.Equal(a, 1, decided(sends, "news", "send"))
	}
	require.Equal(a, want, have, "sends to %s", p.name)
	require.Equal(a, min(promoCap, promos), decided(sends, "promo", "send"), "promotions to %s", p.name)
}

// mails holds the outbox against the sends.
func (m *mergesRun) mails(a *assert.CollectT, sends map[*someone][]decision) {
	to := map[string]*someone{}
	have, want := []string{}, []string{}
	for p, decisions := range sends {
		for _, address := range p.emails() {
			to[address] = p
		}
		for _, s := range decisions {
			if s.Decision == "send" {
				want = append(want, fmt.Sprintf("%s: %s %s", p.name, s.Journey, s.ID))
			}
		}
	}
	for _, mail := range m.Mails(a) {
		require.NotNil(a, to[mail.To], "a mail to nobody: %s", mail.To)
		have = append(have, fmt.Sprintf("%s: %s", to[mail.To].name, mail.Subject))
	}
	slices.Sort(have)
	slices.Sort(want)
	require.Equal(a, want, have)
}

// flips holds the table of memberships against the people: who is in which segment in the end, and that the
// timer of each abandoned application fired once, on time, for the profile that is left.
func (m *mergesRun) flips() {
	type flip struct {
		Profile, Segment string
		At               int64 `json:",string"`
	}
	var abandoned, frequent, gold []flip
	for _, p := range m.crowd.people {
		if started, is := p.started(); is {
			abandoned = append(abandoned, flip{m.home[p], "abandoned", started.Add(waits).UnixMilli()})
		}
		if p.frequent() {
			frequent = append(frequent, flip{Profile: m.home[p], Segment: "frequent"})
		}
		if p.traits()["tier"] == "gold" {
			gold = append(gold, flip{Profile: m.home[p], Segment: "gold"})
		}
	}
	m.wait("every timer has fired once", func(a *assert.CollectT) {
		require.ElementsMatch(a, abandoned, stack.Query[flip](a, m.Stack, `SELECT profile_id AS Profile, segment AS Segment,
			toString(toUnixTimestamp64Milli(timestamp)) AS At FROM memberships WHERE tenant IN ('day', 'night') AND segment = 'abandoned'`))
	})
	m.wait("segments in ClickHouse are those of the people", func(a *assert.CollectT) {
		require.ElementsMatch(a, slices.Concat(frequent, gold), stack.Query[flip](a, m.Stack, `SELECT profile_id AS Profile, segment AS Segment, '0' AS At
			FROM memberships WHERE tenant IN ('day', 'night') AND segment != 'abandoned' GROUP BY tenant, profile_id, segment
			HAVING argMax(state, (log_partition, log_offset)) = 'entered'`))
	})
}
