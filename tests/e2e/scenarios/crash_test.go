package scenarios

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

const (
	crash    = "crash"
	crashKey = "crash-key"
	// envFaults set to "full" makes fault tests as long as the figures ask for.
	envFaults = "SILLAGE_FAULTS"
)

// TestCrash kills `sillage up` with SIGKILL at random moments of an import and of live traffic that
// causes mails. Afterwards every number is exact, by ClickHouse and by decision, each mail is there
// once, and the same import again changes nothing.
//
// It runs on the embedded Kafka, and on Apache Kafka too when SILLAGE_TEST_KAFKA is "apache".
func TestCrash(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) { runCrash(t) })
	if os.Getenv(kafkatest.EnvKafka) == "apache" {
		t.Run("apache", func(t *testing.T) {
			broker := kafkatest.StartApache(t, kafkatest.ApacheOptions{})
			runCrash(t, "--kafka", strings.Join(broker.Brokers(), ","))
		})
	}
}

func runCrash(t *testing.T, flags ...string) {
	kills, size, people := 3, 4_000, 12
	if os.Getenv(envFaults) == "full" {
		kills, size, people = 10, 20_000, 60
	}
	c := newCrash(t, stack.Seed(t), size, flags)
	c.Start()
	c.define()
	c.run(kills, people)
	c.judge("after the kills")

	// The same file again, over a restart: nothing changes but the count of duplicates.
	c.Terminate()
	c.Start()
	accepted := c.fates(t)["accepted"]
	name := filepath.Join(t.TempDir(), "history.jsonl")
	require.NoError(t, os.WriteFile(name, []byte(c.history.part(0, 1)), 0o600))
	c.report(name, c.CLI(t, "import", "--source", crashKey, name))
	c.wait("the second import is accounted for", func(a *assert.CollectT) {
		// Lines that are no JSON never reach ingest; all others are accepted or rejected there.
		require.Equal(a, accepted+len(c.history.lines)-c.unsent(), c.fates(a)["accepted"])
	})
	c.judge("after the second import")
	c.Terminate()
}

// crashRun is one run of the test.
type crashRun struct {
	*stack.Stack
	t       *testing.T
	rng     *rand.Rand
	oracle  *oracle
	writer  *writer
	history history
}

func newCrash(t *testing.T, seed uint64, size int, flags []string) *crashRun {
	c := &crashRun{Stack: stack.New(t, stack.Options{Flags: flags}), t: t, rng: rand.New(rand.NewPCG(seed, 1)), oracle: newOracle()}
	c.writer = &writer{rng: rand.New(rand.NewPCG(seed, 2)), base: time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)}
	c.history = c.writer.newHistory(c.oracle, size)
	return c
}

func (c *crashRun) wait(what string, condition func(a *assert.CollectT)) {
	c.t.Helper()
	stack.Eventually(c.t, 2*time.Minute, what, condition)
}

func (c *crashRun) define() {
	definitions, err := os.ReadFile(filepath.Join("testdata", "crash.yaml"))
	require.NoError(c.t, err)
	c.Apply(c.t, string(definitions))
	c.wait("the write key works", func(a *assert.CollectT) {
		answer, err := c.Post(context.Background(), crashKey, "/v1/batch", map[string]any{"batch": []any{}})
		require.NoError(a, err)
		require.NotEqual(a, http.StatusUnauthorized, answer.Code, answer.Body)
	})
}

// run imports the history and posts live events while the process is killed again and again.
func (c *crashRun) run(kills, people int) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	var live errgroup.Group
	for _, events := range c.live(people) {
		live.Go(func() error { return c.deliver(ctx, events) })
	}
	file, feed := io.Pipe()
	imported := make(chan stack.Result, 1)
	go func() {
		imported <- c.Execute(c.t, stack.Command{Args: []string{"import", "--source", crashKey, "-"}, In: file, Within: 15 * time.Minute})
	}()
	for kill := range kills {
		go func() {
			// The pipe blocks while the process is down, like a user's file would.
			_, _ = io.WriteString(feed, c.history.part(kill, kills+1))
		}()
		c.after(2 * time.Second)
		c.Kill()
		if c.rng.IntN(4) == 0 {
			c.Launch()
			c.after(3 * time.Second) // often before it is ready
			c.Kill()
		}
		c.Start()
	}
	_, err := io.WriteString(feed, c.history.part(kills, kills+1))
	require.NoError(c.t, err)
	require.NoError(c.t, feed.Close())
	c.report("-", <-imported)
	require.NoError(c.t, live.Wait())
}

// after waits for a random moment.
func (c *crashRun) after(most time.Duration) {
	wait := time.Duration(c.rng.Int64N(int64(most)))
	c.t.Logf("the next kill comes after %s", wait.Round(time.Millisecond))
	<-time.After(wait)
}

// live makes people who are seen, sign in, ask for a guide and abandon an application: two mails each.
// As from a browser, all events of one carry the same anonymous id: the order of events is kept by anchor,
// and a request that overtook the sign-in would find nobody to mail to.
func (c *crashRun) live(people int) [][]stack.Event {
	var all [][]stack.Event
	for i := range people {
		anonymous, user, mail := fmt.Sprintf("l-%d", i), fmt.Sprintf("lu-%d", i), fmt.Sprintf("l%d@crash.example", i)
		events := []stack.Event{
			{"type": "track", "event": "Product Viewed", "anonymousId": anonymous},
			{"type": "identify", "anonymousId": anonymous, "userId": user, "traits": stack.Event{"email": mail}},
			{"type": "track", "event": "Guide Requested", "anonymousId": anonymous, "userId": user},
			{"type": "track", "event": "Application Started", "anonymousId": anonymous},
		}
		for _, ev := range events {
			c.writer.event(ev)
			// A client that tries again needs an id of its own.
			ev["messageId"] = fmt.Sprintf("live-%d", serial(ev))
			c.oracle.note(ev)
		}
		c.oracle.mails = append(c.oracle.mails, mail+" guide", mail+" resume")
		all = append(all, events)
	}
	slices.Sort(c.oracle.mails)
	return all
}

// deliver posts events one after the other, each until it is taken.
func (c *crashRun) deliver(ctx context.Context, events []stack.Event) error {
	for _, ev := range events {
		for {
			answer, err := c.Post(ctx, crashKey, "/v1/batch", map[string]any{"batch": []stack.Event{ev}})
			if err == nil && answer.Code == http.StatusOK {
				break
			}
			if err == nil && answer.Code < 500 {
				return fmt.Errorf("ingest answers %d: %s", answer.Code, answer.Body)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

// report holds what `sillage import` says against the file.
func (c *crashRun) report(name string, result stack.Result) {
	require.Equal(c.t, 1, result.Code, "refused lines are a failure of the command")
	require.Contains(c.t, result.Out, fmt.Sprintf("%d events accepted, %d rows refused", c.history.good(), len(c.history.refused)), result.Err)
	shown := 0
	for line, code := range c.history.refused {
		if strings.Contains(result.Out, fmt.Sprintf("  %s:%d: %s: ", name, line, code)) {
			shown++
		}
	}
	require.Equal(c.t, min(20, len(c.history.refused)), shown, "refused lines are named:\n%s", result.Out)
}

// unsent is the number of lines that the importer refuses by itself.
func (c *crashRun) unsent() int {
	n := 0
	for _, code := range c.history.refused {
		if code == "bad_json" {
			n++
		}
	}
	return n
}

func (c *crashRun) fates(t require.TestingT) map[string]int {
	fates := map[string]int{}
	for _, row := range stack.Query[countRow](t, c.Stack, `SELECT toString(fate) AS name, toInt32(sum(events)) AS n
		FROM ledger WHERE tenant = 'crash' AND source = 'site' GROUP BY name`) {
		fates[row.Name] = row.N
	}
	return fates
}

// judge holds everything that can be seen against the oracle.
func (c *crashRun) judge(when string) {
	c.wait("all is stored "+when, func(a *assert.CollectT) {
		fates := c.fates(a)
		require.Equal(a, len(c.oracle.owner), fates["stored"], "%v", fates)
		require.Zero(a, fates["accepted"]-fates["stored"]-fates["deduplicated"]-fates["rejected"]-fates["suppressed"], "%v", fates)
	})
	type row struct{ Rows, Messages, Serials int }
	want := len(c.oracle.owner)
	c.wait("each event is a row "+when, func(a *assert.CollectT) {
		require.Equal(a, row{want, want, want}, stack.One[row](a, c.Stack, `SELECT toInt32(count()) AS Rows, toInt32(uniqExact(message_id)) AS Messages,
			toInt32(uniqExact(properties.n::Int64)) AS Serials FROM events WHERE tenant = 'crash' AND NOT internal`))
	})
	// A merge is a row of another topic than the events that it joins: it may come a batch later.
	c.wait("each person is one "+when, func(a *assert.CollectT) {
		require.Equal(a, len(c.oracle.people()), stack.One[struct{ N int }](a, c.Stack,
			`SELECT toInt32(uniqExact(person)) AS N FROM people WHERE tenant = 'crash' AND NOT internal`).N)
	})
	persons := c.persons()
	c.decisions(persons)
	c.mails()
	// The events that tell of deliveries are in the ledger, too; the last of them may still be on its way.
	c.wait("the ledger balances "+when, func(a *assert.CollectT) {
		require.Zero(a, stack.One[struct{ N int }](a, c.Stack, `SELECT toInt32(countIf(difference != 0)) AS N FROM ledger_balance WHERE tenant = 'crash'`).N)
	})
	unreadable := stack.One[struct{ N int }](c.t, c.Stack, `SELECT toInt32(count()) AS N FROM unreadable_records`)
	require.Zero(c.t, unreadable.N)
}

// persons holds ClickHouse's people against the oracle's and returns the profile of each, by root.
func (c *crashRun) persons() map[string]string {
	rows := stack.Query[struct {
		N      string `json:"n"`
		Person string `json:"person"`
	}](c.t, c.Stack, `SELECT toString(properties.n::Int64) AS n, person FROM people WHERE tenant = 'crash' AND NOT internal`)
	profile, owner := map[string]string{}, map[string]string{}
	for _, r := range rows {
		n, err := strconv.Atoi(r.N)
		require.NoError(c.t, err)
		require.Contains(c.t, c.oracle.owner, n, "an event that nobody sent")
		root := c.oracle.find(c.oracle.owner[n])
		if have, ok := profile[root]; ok {
			require.Equal(c.t, have, r.Person, "the person of %s is two in ClickHouse", root)
		}
		if have, ok := owner[r.Person]; ok {
			require.Equal(c.t, have, root, "two people are one in ClickHouse")
		}
		profile[root], owner[r.Person] = r.Person, root
	}
	require.Len(c.t, profile, len(c.oracle.people()))
	return profile
}

// decisions holds decision's profiles against the oracle's people: every identifier leads to the one
// profile, which has exactly the identifiers and the number of events of the person.
func (c *crashRun) decisions(persons map[string]string) {
	events := map[string]int64{}
	for _, id := range c.oracle.owner {
		events[c.oracle.find(id)]++
	}
	people := c.oracle.people()
	c.wait("decision has caught up", func(a *assert.CollectT) {
		profiles := c.profiles(a)
		for root, ids := range people {
			for _, id := range ids {
				require.NotNil(a, profiles[id], id)
				require.Equal(a, persons[root], profiles[id].GetProfileId(), "decision and ClickHouse differ on %s", id)
			}
			profile := profiles[ids[0]]
			var have []string
			for _, i := range profile.GetIdentifiers() {
				have = append(have, i.GetNamespace()+":"+i.GetValue())
			}
			slices.Sort(have)
			require.Equal(a, ids, have)
			if !strings.Contains(ids[0], ":l-") { // events of outcomes count, too
				require.Equal(a, events[root], profile.GetEvents(), ids[0])
			}
		}
	})
}

// profiles asks decision for the profile behind every identifier.
func (c *crashRun) profiles(a *assert.CollectT) map[string]*decisionv1.GetProfileResponse {
	var mu sync.Mutex // guards profiles
	profiles := map[string]*decisionv1.GetProfileResponse{}
	var group errgroup.Group
	group.SetLimit(16)
	for id := range c.oracle.parent {
		group.Go(func() error {
			namespace, value, _ := strings.Cut(id, ":")
			profile, err := c.FindProfile(crash, namespace, value)
			mu.Lock()
			defer mu.Unlock()
			profiles[id] = profile
			return err
		})
	}
	require.NoError(a, group.Wait())
	return profiles
}

// mails holds the outbox and the rows of sends and outcomes against the oracle.
func (c *crashRun) mails() {
	c.wait("every mail is in the outbox, once", func(a *assert.CollectT) {
		var have []string
		for _, m := range c.Mails(a) {
			have = append(have, m.To+" "+m.Subject)
		}
		slices.Sort(have)
		require.Equalf(a, c.oracle.mails, have, "ClickHouse has these outcomes: %v", stack.Query[map[string]any](a, c.Stack, `
			SELECT toString(type) AS type, toString(reason) AS reason, count() AS n FROM outcomes WHERE tenant = 'crash' GROUP BY type, reason
			UNION ALL SELECT toString(decision), toString(reason), count() FROM sends WHERE tenant = 'crash' GROUP BY decision, reason`))
	})
	type row struct{ Rows, Distinct, Good int }
	n := len(c.oracle.mails)
	c.wait("every send and outcome is a row, once", func(a *assert.CollectT) {
		require.Equal(a, row{n, n, n}, stack.One[row](a, c.Stack, `SELECT toInt32(count()) AS Rows, toInt32(uniqExact(send_id)) AS Distinct,
			toInt32(countIf(decision = 'send')) AS Good FROM sends WHERE tenant = 'crash'`))
		require.Equal(a, row{n, n, n}, stack.One[row](a, c.Stack, `SELECT toInt32(count()) AS Rows, toInt32(uniqExact(send_id)) AS Distinct,
			toInt32(countIf(type = 'delivered')) AS Good FROM outcomes WHERE tenant = 'crash'`))
	})
}
