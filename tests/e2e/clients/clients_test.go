//go:build clients

package clients

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

func TestMain(m *testing.M) { os.Exit(stack.Main(m)) }

// client is one stock client and what it is put through.
type client struct {
	name   string
	faults []fault
	play   func(s *session, until func(visit)) visit
	// lacks are the calls that the client does not have.
	lacks string
	// failures is how many errors the application hears of.
	failures int
}

func (c client) has(call string) bool { return !strings.Contains(c.lacks, call) }

// clients are all that are tested, each with every fault that it can survive.
func clients() []client {
	faults := []fault{throttle, lose, fail}
	return []client{
		{name: "segment-node", faults: faults, play: func(s *session, u func(visit)) visit { return s.node("segment.mjs", u) }},
		{name: "rudder-node", faults: faults, play: func(s *session, u func(visit)) visit { return s.node("rudder.mjs", u) }},
		{name: "rudder-go", faults: faults, play: func(s *session, u func(visit)) visit {
			v := s.rudderGo()
			u(v)
			return v
		}},
		// It never tries again: whatever meets a fault is lost, and it says so.
		{name: "jitsu-node", faults: []fault{throttle, fail}, failures: 2, lacks: "alias screen", play: func(s *session, u func(visit)) visit { return s.node("jitsu.mjs", u) }},
		{name: "jitsu-browser", faults: []fault{throttle, fail}, failures: 2, lacks: "alias screen", play: func(s *session, u func(visit)) visit { return s.browser("jitsu.html", "", u) }},
		{name: "segment-browser", faults: faults, play: func(s *session, u func(visit)) visit { return s.browser("segment.html", "", u) }},
		{name: "segment-browser-snippet", faults: faults, play: func(s *session, u func(visit)) visit { return s.browser("snippet.html", "", u) }},
		{name: "rudder-browser", faults: faults, lacks: "screen", play: func(s *session, u func(visit)) visit { return s.browser("rudder.html", "", u) }},
		// What is held back leaves with the page: nobody is there to try again.
		{name: "segment-browser-batch", play: func(s *session, u func(visit)) visit { return s.browser("segment.html", "batch", u) }},
		{name: "rudder-browser-beacon", lacks: "screen", play: func(s *session, u func(visit)) visit { return s.browser("rudder.html", "beacon", u) }},
	}
}

const (
	tenant = "clients"
	// soon bounds what takes a second or two on a quiet machine.
	soon = 90 * time.Second
)

// definitions are the tenant and a source for each client.
func definitions() string {
	var out strings.Builder
	out.WriteString(`kind: tenant
tenant: clients
name: clients
spec:
  timezone: Europe/Paris
  identity:
    namespaces:
      - {name: user_id, limit: 1, known: true}
      - {name: email, limit: 5, known: true}
      - {name: anonymous_id, limit: 50}
`)
	for _, c := range clients() {
		fmt.Fprintf(&out, "---\nkind: source\ntenant: clients\nname: %s\nspec:\n  write_keys: [%q]\n  server_side: %t\n", c.name, c.key(), !strings.Contains(c.name, "browser"))
	}
	return out.String()
}

// TestClients plays every client at once on one stack.
func TestClients(t *testing.T) {
	modules, scripts := layOut(t)
	s := stack.New(t, stack.Options{Flags: []string{"--set", "ingest.scripts_dir=" + filepath.Join(modules, "@segment/analytics-next/dist/umd")}})
	s.Start()
	s.Apply(t, definitions())
	mux := http.NewServeMux()
	mux.Handle("/modules/", http.StripPrefix("/modules/", http.FileServer(http.Dir(modules))))
	mux.Handle("/", http.FileServer(http.Dir(filepath.Join(stack.Root(), "tests/e2e/clients/pages"))))
	pages := httptest.NewServer(mux)
	t.Cleanup(pages.Close)
	for _, c := range clients() {
		knock(t, s, c)
	}

	var passed atomic.Int32
	t.Run("all", func(t *testing.T) {
		// Two at a time: browsers are heavy, and most of a client's time is waiting before it tries again.
		slots := make(chan struct{}, 2)
		for _, c := range clients() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				session := &session{T: t, client: c, user: "user-" + c.name, modules: modules, scripts: scripts, pages: pages.URL,
					proxy: newProxy(t, s.Ports.HTTP, c.faults)}
				session.check(s)
				passed.Add(1)
			})
		}
	})
	for _, c := range clients() {
		require.Equal(t, c.calls(), stored(t, s, c), "%s: a call came again later", c.name)
	}
	t.Logf("%d of %d stock clients passed", passed.Load(), len(clients()))
}

// knock waits until the client's source is there, and makes the event of the name that its user had before.
func knock(t *testing.T, s *stack.Stack, c client) {
	stack.Eventually(t, soon, "the write key of "+c.name+" works", func(collect *assert.CollectT) {
		answer, err := s.Post(context.Background(), c.key(), "/v1/batch", map[string]any{"batch": []any{}}, "X-Write-Key", c.key(), "Authorization", "")
		require.NoError(collect, err)
		require.Equal(collect, http.StatusOK, answer.Code, answer.Body)
	})
	event := stack.Event{"event": "Former", "anonymousId": "former-user-" + c.name, "messageId": "former-" + c.name}
	answer, err := s.Post(context.Background(), "", "/v1/track", event, "X-Write-Key", c.key(), "Authorization", "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Code, answer.Body)
}

// calls are the calls of a visit as they should be stored, by type and name, the former event included.
func (c client) calls() map[string]int {
	calls := map[string]int{"track Former": 1, "page Home": 1, "track Product Viewed": 1, "identify ": 1, "track Order Completed": 1, "group ": 1, "page Away": 1}
	if c.has("alias") {
		calls["alias "] = 1
	}
	if c.has("screen") {
		calls["screen Basket"] = 1
	}
	if c.failures > 0 {
		calls["track Probe"] = 1 // one more than are refused
	}
	return calls
}

type row struct {
	Call     string `json:"call"`
	Person   string `json:"person"`
	IDs      int    `json:"ids"`
	Stamped  int    `json:"stamped"`
	Events   int    `json:"events"`
	Previous string `json:"previous"`
}

func rows(t require.TestingT, s *stack.Stack, c client) []row {
	return stack.Query[row](t, s, fmt.Sprintf(`SELECT concat(type, ' ', name) AS call, any(person) AS person, toInt32(uniqExact(message_id)) AS ids,
		toInt32(count()) AS events, toInt32(countIf(abs(dateDiff('second', timestamp, received_at)) < 120)) AS stamped, any(previous_id) AS previous
		FROM people WHERE tenant = '%s' AND source = '%s' GROUP BY call`, tenant, c.name))
}

// stored is how often each call is stored.
func stored(t require.TestingT, s *stack.Stack, c client) map[string]int {
	out := map[string]int{}
	for _, r := range rows(t, s, c) {
		out[r.Call] = r.Events
	}
	return out
}

// check plays the visit and holds the client to it.
func (s *session) check(up *stack.Stack) {
	arrived := func(visit) {
		stack.Eventually(s, soon, "every call of "+s.client.name+" is stored once", func(c *assert.CollectT) {
			require.Equal(c, s.client.calls(), stored(c, up, s.client))
		})
	}
	v := s.client.play(s, arrived)
	require.Lenf(s, v.Failures, s.client.failures, "the application hears of %q; the page says %q", v.Failures, v.Said)
	arrived(v)
	require.Zero(s, s.proxy.left(), "faults that the client did not meet; it asked for %v", s.proxy.paths)
	s.people(up, v)
	if s.proxy.doubled > 0 {
		stack.Eventually(s, soon, "the ledger tells of what came twice", func(c *assert.CollectT) {
			n := stack.One[struct {
				N int `json:"n"`
			}](c, up, fmt.Sprintf(`SELECT toInt32(sum(events)) AS n FROM ledger WHERE tenant = '%s' AND source = '%s' AND fate = 'deduplicated'`, tenant, s.client.name))
			require.Positive(c, n.N)
		})
	}
	s.Logf("%s passed: %d calls stored once, requests %v", s.client.name, len(s.client.calls()), s.proxy.paths)
}

// people checks who made the calls: all but the stranger's page are the user's, and what was done under
// the name from before, too.
func (s *session) people(up *stack.Stack, v visit) {
	var found []row
	stack.Eventually(s, soon, "the calls of "+s.client.name+" belong to the right people", func(c *assert.CollectT) {
		user := up.Profile(c, tenant, "user_id", s.user)
		require.NotNil(c, user)
		visitor, stranger := up.Profile(c, tenant, "anonymous_id", v.Visitor), up.Profile(c, tenant, "anonymous_id", v.Stranger)
		require.NotNil(c, visitor)
		require.NotNil(c, stranger)
		require.Equal(c, user.GetProfileId(), visitor.GetProfileId())
		require.NotEqual(c, user.GetProfileId(), stranger.GetProfileId())
		found = rows(c, up, s.client)
		for _, r := range found {
			if r.Call == "page Away" || r.Call == "track Former" && !s.client.has("alias") {
				require.NotEqual(c, user.GetProfileId(), r.Person, r.Call)
				continue
			}
			require.Equal(c, user.GetProfileId(), r.Person, r.Call)
		}
	})
	for _, r := range found {
		require.Equal(s, r.Events, r.IDs, "message ids of %s", r.Call)
		require.Equal(s, r.Events, r.Stamped, "%s stands at the wrong time", r.Call)
		if r.Call == "alias " {
			require.Equal(s, "former-"+s.user, r.Previous)
		}
	}
}
