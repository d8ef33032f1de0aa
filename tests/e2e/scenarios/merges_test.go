package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// TestMergesOfPeople sends what people do under many identifiers, who turn out bit by bit to be one person
// each: links come as trees and cycles, from several clients at the same time, in an order of their own for
// every seed, and the process is killed with SIGKILL in between. Journeys that were entered by several of
// the pieces wait meanwhile; their waits end after the merges, at an accelerated clock, under more kills.
//
// The people are known in advance. At the end each is one profile, nobody shares one, and identifiers,
// traits, segments, score, passages, sends and mails are those of the person, by decision, by ClickHouse
// and in the outbox. See merged_test.go for what is held against what.
func TestMergesOfPeople(t *testing.T) {
	t.Parallel()
	seed, runs := stack.Seed(t), 1
	if os.Getenv(envFaults) == "full" {
		runs = 20
	}
	for i := range runs {
		t.Run(fmt.Sprint("seed ", seed+uint64(i)), func(t *testing.T) { runMerges(t, seed+uint64(i)) })
	}
}

func runMerges(t *testing.T, seed uint64) {
	people, kills := 8, 2
	if os.Getenv(envFaults) == "full" {
		people, kills = 25, 5
	}
	m := newMerges(t, seed, people)
	begun := time.Now()
	t.Cleanup(func() {
		m.row.Seconds, m.row.Failed = time.Since(begun).Seconds(), t.Failed()
		t.Logf("injected %v, measured %v", m.row.Injected, m.row.Measured)
		require.NoError(t, report.Write(m.row))
	})
	m.Start()
	m.define()
	m.feed(kills)
	m.merged()
	m.askAgain()
	m.wakeUp(kills - 1)
	m.judge()
	m.Terminate()
}

// mergesRun is one run of the test.
type mergesRun struct {
	*stack.Stack
	t     *testing.T
	rng   *rand.Rand
	crowd *crowd
	// repeated are the events of each tenant that were sent twice.
	repeated map[string]int
	// newsBefore are the news that each person had been sent when all merges were done.
	newsBefore map[*someone]int
	row        report.Row
	// home is the one profile of each person once all merges are done.
	home map[*someone]string
}

func newMerges(t *testing.T, seed uint64, people int) *mergesRun {
	c := newCrowd(seed, people, time.Now())
	return &mergesRun{
		t: t, Stack: stack.New(t, stack.Options{}), rng: rand.New(rand.NewPCG(seed, 32)), crowd: c, newsBefore: map[*someone]int{},
		row: report.Row{Scenario: "people", What: "merges of people through the whole product", Broker: "embedded", Seed: seed,
			Events: len(c.deeds()), Checked: len(c.deeds()), Injected: map[string]int{}, Measured: map[string]float64{}},
	}
}

func (m *mergesRun) wait(what string, condition func(a *assert.CollectT)) {
	m.t.Helper()
	stack.Eventually(m.t, 3*time.Minute, what, condition)
}

func (m *mergesRun) define() {
	definitions, err := os.ReadFile(filepath.Join("testdata", "merges.yaml"))
	require.NoError(m.t, err)
	now := time.Now().UTC()
	quiet := fmt.Sprintf("    quiet_hours: {from: %q, to: %q, action: wait}", now.Add(-3*time.Hour).Format("15:04"), now.Add(waits*3/2).Format("15:04"))
	for tenant, its := range map[string][]string{
		byDay: {"QUIET\n", "", "NEWS_WHERE", ""},
		// Who cannot be reached by night is not asked to wait.
		byNight: {"QUIET", quiet, "NEWS_WHERE", `, where: 'traits.email.contains("@")'`},
	} {
		m.Apply(m.t, strings.NewReplacer(append(its, "TENANT", tenant)...).Replace(string(definitions)))
		m.wait("the write key works by "+tenant, func(a *assert.CollectT) {
			answer, err := m.Post(context.Background(), tenant+"-write-key", "/v1/batch", map[string]any{"batch": []any{}})
			require.NoError(a, err)
			require.NotEqual(a, http.StatusUnauthorized, answer.Code, answer.Body)
		})
	}
}

// feed sends everything from several clients while the process is killed again and again.
func (m *mergesRun) feed(kills int) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	queues, repeated := m.crowd.batches(6)
	m.repeated = repeated
	total := 0
	for _, q := range queues {
		total += len(q)
	}
	// The last kill comes when all was taken and the merges are still going on.
	moments := []int{total}
	for range kills - 1 {
		moments = append(moments, 1+m.rng.IntN(total-1))
	}
	slices.Sort(moments)
	var taken atomic.Int64
	clients, ctx := errgroup.WithContext(ctx)
	for _, q := range queues {
		clients.Go(func() error {
			for _, b := range q {
				if err := m.deliver(ctx, b); err != nil {
					return err
				}
				taken.Add(1)
			}
			return nil
		})
	}
	for _, moment := range moments {
		// A client that gives up must not leave this waiting for its batches.
		require.Eventually(m.t, func() bool { return ctx.Err() != nil || int(taken.Load()) >= moment }, 5*time.Minute, time.Millisecond)
		m.after(500 * time.Millisecond)
		m.kill()
		m.Start()
	}
	require.NoError(m.t, clients.Wait())
	m.t.Logf("%d batches, kills after %v of them", total, moments)
}

// after waits for a random moment.
func (m *mergesRun) after(most time.Duration) {
	<-time.After(time.Duration(m.rng.Int64N(int64(most))))
}

// kill kills the process, and now and then also the next one, often before it is ready.
func (m *mergesRun) kill() {
	m.Kill()
	m.row.Injected["kill -9"]++
	if m.rng.IntN(4) == 0 {
		m.Launch()
		m.after(2 * time.Second)
		m.Kill()
		m.row.Injected["kill -9"]++
	}
}

// deliver posts a batch until it is taken, all of it.
func (m *mergesRun) deliver(ctx context.Context, b batch) error {
	for {
		answer, err := m.Post(ctx, b.tenant+"-write-key", "/v1/batch", map[string]any{"batch": b.events}, "X-Sillage-Verbose", "1")
		if err == nil && answer.Code == http.StatusOK {
			var got struct{ Accepted int }
			if err := json.Unmarshal([]byte(answer.Body), &got); err != nil || got.Accepted != len(b.events) {
				return fmt.Errorf("ingest takes %d of %d events: %s", got.Accepted, len(b.events), answer.Body)
			}
			return nil
		}
		if err == nil && answer.Code < 500 && answer.Code != http.StatusRequestTimeout && answer.Code != http.StatusTooManyRequests {
			return fmt.Errorf("ingest answers %d: %s", answer.Code, answer.Body)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// merged waits until everything has come to rest with no wait over yet, and holds it against the people.
func (m *mergesRun) merged() {
	m.rest()
	m.stored()
	m.wait("each person is one profile, with what is known of it", func(a *assert.CollectT) { m.home = m.profiles(a, false) })
	m.wait("each person has one profile in ClickHouse", func(a *assert.CollectT) { m.persons(a) })
	m.wait("each person is in each journey once", func(a *assert.CollectT) { m.passages(a, false) })
	m.wait("news by day are decided, each request once", func(a *assert.CollectT) {
		sends := m.sends(a)
		for _, p := range m.crowd.people {
			if p.tenant == byNight {
				require.Empty(a, sends[p], "%s is sent something in quiet hours", p.name)
				continue
			}
			require.Len(a, sends[p], p.count("News Asked"), p.name)
			m.newsBefore[p] = decided(sends[p], "news", "send")
		}
	})
	m.rest()
}

// rest waits until no stage has anything left to do and no key waits for a merge, in many looks.
func (m *mergesRun) rest() {
	still := 0
	m.wait("all stages rest", func(a *assert.CollectT) {
		metrics, _ := m.Get(a, "http://"+m.Ports.Ops+"/metrics")
		lines := 0
		for line := range strings.Lines(metrics) {
			if strings.HasPrefix(line, "sillage_stream_lag{") || strings.HasPrefix(line, "sillage_stream_merge_held{") {
				if lines++; !strings.HasSuffix(strings.TrimSpace(line), " 0") {
					still = 0
					require.Fail(a, line)
				}
			}
		}
		require.Positive(a, lines)
		still++
		require.Greater(a, still, 10)
	})
}

// askAgain has everybody ask for news once more, by the one name that they all have. By day that fills
// each person's cap, whoever of the pieces had which news; by night it makes sure that one send is pending.
func (m *mergesRun) askAgain() {
	const times = newsCap + 1
	for _, p := range m.crowd.people {
		for i := range times {
			d := &deed{at: time.Now(), event: stack.Event{
				"type": "track", "event": "News Asked", "userId": p.user(), "messageId": fmt.Sprintf("again-%s-%d", p.name, i),
			}}
			d.event["timestamp"] = d.at.UTC().Format("2006-01-02T15:04:05.000Z")
			p.deeds = append(p.deeds, d)
			require.NoError(m.t, m.deliver(m.t.Context(), batch{tenant: p.tenant, events: []stack.Event{d.event}}))
		}
	}
	m.wait("the cap holds for each person by day", func(a *assert.CollectT) {
		sends := m.sends(a)
		for _, p := range m.crowd.people {
			if p.tenant == byNight {
				continue
			}
			require.Len(a, sends[p], p.count("News Asked"), p.name)
			before := m.newsBefore[p]
			require.Equal(a, before+min(times, max(0, newsCap-before)), decided(sends[p], "news", "send"), "%s had %d news before", p.name, before)
			m.capped(a, p, sends[p])
		}
	})
	m.wait("one send is pending for each person by night", func(a *assert.CollectT) {
		for _, p := range m.crowd.people {
			if p.tenant == byNight {
				require.Len(a, underWay(m.passagesOf(a)[p]["news"]), 1, p.name)
			}
		}
	})
}

// capped holds news by day against the cap of each piece: none was sent more by itself, and what was held
// had the cap or the want of an address for its reason.
func (m *mergesRun) capped(a *assert.CollectT, p *someone, sends []decision) {
	by := map[string]int{}
	for _, s := range sends {
		if s.Decision == "send" {
			by[s.Profile]++
			require.LessOrEqual(a, by[s.Profile], newsCap, "%s as %s", p.name, s.Profile)
			continue
		}
		require.Equal(a, "held", s.Decision)
		require.Contains(a, []string{"cap:news", "unreachable"}, s.Reason)
	}
}

// wakeUp lets the waits end, in seconds, under kills: time goes on from where it stands.
func (m *mergesRun) wakeUp(kills int) {
	m.Kill()
	// An hour and a half pass in six seconds.
	m.Stack = stack.New(m.t, stack.Options{DataDir: m.DataDir, Flags: []string{"--clock-speed", "900"}})
	m.Start()
	for range kills {
		m.after(6 * time.Second)
		m.kill()
		m.Start()
	}
}
