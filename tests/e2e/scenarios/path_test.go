package scenarios

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

const (
	trial    = "trial"
	trialKey = "trial-key"
	// soon bounds what takes a second or two on a quiet machine.
	soon = 90 * time.Second
	// person is a user agent that no rule takes for a machine.
	person = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	// traceID is the trace that a caller of the path begins.
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// TestPath carries people from their first page to the call centre on the embedded Kafka, and on Apache
// Kafka too when SILLAGE_TEST_KAFKA is "apache".
func TestPath(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) { runPath(t) })
	if os.Getenv(kafkatest.EnvKafka) == "apache" {
		t.Run("apache", func(t *testing.T) {
			broker := kafkatest.StartApache(t, kafkatest.ApacheOptions{})
			runPath(t, "--kafka", strings.Join(broker.Brokers(), ","))
		})
	}
}

// path is the state of one run of the thin path.
type path struct {
	*testing.T
	*stack.Stack
	calls     *callCentre
	collector *collector
	// mailed and heldOut are the users who abandoned, by what the product decided for them.
	mailed, heldOut []string
	sent            int // events sent to ingest
}

const (
	abandoners = 24
	submitters = 4
)

func runPath(t *testing.T, flags ...string) {
	p := &path{T: t, calls: newCallCentre(t), collector: newCollector(t)}
	p.Stack = stack.New(t, stack.Options{
		// 45 minutes pass in nine seconds.
		Flags: append(flags, "--clock-speed", "300", "--set", "telemetry.otlp_endpoint="+p.collector.addr, "--set", "telemetry.otlp_insecure=true"),
		Env:   []string{"TRIAL_CALLS_SECRET=" + callSecret},
	})
	p.Start()
	definitions, err := os.ReadFile(filepath.Join("testdata", "path.yaml"))
	require.NoError(t, err)
	p.Apply(t, strings.ReplaceAll(string(definitions), "CALLS_URL", p.calls.server.URL))

	p.journeys()
	p.arms()
	p.reactions()
	p.unsubscribes()
	p.tables()
	p.balance()
	p.profile()
	p.surfaces()
	p.trace()
}

func user(i int) string    { return fmt.Sprintf("u-%02d", i) }
func address(i int) string { return fmt.Sprintf("u%02d@trial.example", i) }

func (p *path) event(events ...stack.Event) {
	p.Send(p, trialKey, events...)
	p.sent += len(events)
}

// journeys plays everybody's visit: anonymous pages, sign-in, an application begun, for some submitted.
func (p *path) journeys() {
	// A source takes effect within a second; the first call may come before that.
	stack.Eventually(p, soon, "the write key works", func(c *assert.CollectT) {
		answer, err := p.Post(context.Background(), trialKey, "/v1/batch", map[string]any{"batch": []any{}})
		require.NoError(c, err)
		require.NotEqual(c, http.StatusUnauthorized, answer.Code, answer.Body)
	})
	for i := range abandoners + submitters {
		anonymous := fmt.Sprintf("a-%02d", i)
		p.event(
			stack.Event{"type": "page", "name": "Loans", "anonymousId": anonymous, "properties": stack.Event{"path": "/loans"}},
			stack.Event{"type": "page", "name": "Simulator", "anonymousId": anonymous, "properties": stack.Event{"path": "/loans/simulator", "amount": 1000 + i}},
		)
		p.event(stack.Event{"type": "identify", "anonymousId": anonymous, "userId": user(i), "traits": stack.Event{
			"email": address(i), "first_name": fmt.Sprintf("Ada %d", i), "phone": fmt.Sprintf("+33 1 00 00 00 %02d", i)}})
		p.event(stack.Event{"type": "track", "event": "Loan Application Started", "userId": user(i), "properties": stack.Event{"amount": 1000 + i}})
		if i >= abandoners {
			p.event(stack.Event{"type": "track", "event": "Loan Application Submitted", "userId": user(i)})
		}
	}
}

// sendRow is a row of the table sends with the person's user id.
type sendRow struct {
	UserID   string `json:"user_id"`
	Step     string `json:"step"`
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	Arm      string `json:"arm"`
	SendID   string `json:"send_id"`
}

const sendsOf = `SELECT u.user_id AS user_id, step, toString(decision) AS decision, toString(reason) AS reason, toString(arm) AS arm, send_id FROM sends AS s
	LEFT JOIN (SELECT profile_id, max(user_id) AS user_id FROM events WHERE tenant = 'trial' GROUP BY profile_id) AS u ON u.profile_id = s.profile_id
	WHERE tenant = 'trial' AND journey = '%s' ORDER BY user_id, timestamp`

// arms waits until all who abandoned were decided on: a mail each, or nothing at all for the hold-out.
func (p *path) arms() {
	var rows []sendRow
	stack.Eventually(p, soon, "everybody who abandoned is decided on", func(c *assert.CollectT) {
		rows = stack.Query[sendRow](c, p.Stack, fmt.Sprintf(sendsOf, "abandonment")+" SETTINGS join_use_nulls = 0")
		var mails []sendRow
		for _, r := range rows {
			if r.Step == "mail" {
				mails = append(mails, r)
			}
		}
		require.Len(c, mails, abandoners)
		rows = mails
	})
	for _, r := range rows {
		require.NotEmpty(p, r.UserID)
		if r.Decision == "holdout" {
			require.Equal(p, "nobody", r.Arm)
			p.heldOut = append(p.heldOut, r.UserID)
		} else {
			require.Equal(p, "send", r.Decision, r.Reason)
			require.Equal(p, "contacted", r.Arm)
			p.mailed = append(p.mailed, r.UserID)
		}
	}
	require.GreaterOrEqual(p, len(p.mailed), 3, "the split gives too few people the mail: the odds are one in ten thousand")
	require.NotEmpty(p, p.heldOut, "the split holds nobody out: the odds are one in sixteen million")
	stack.Eventually(p, soon, "every mail is in the outbox", func(c *assert.CollectT) {
		require.Len(c, p.Mails(c), len(p.mailed))
	})
	var reached []string
	for _, m := range p.Mails(p) {
		reached = append(reached, strings.Replace(strings.TrimSuffix(m.To, "@trial.example"), "u", "u-", 1))
		require.Contains(p, m.Subject, "Your application, Ada ")
		require.NotContains(p, m.HTML, "https://trial.example/apply", "the link is not tracked")
	}
	slices.Sort(reached)
	require.Equal(p, p.mailed, reached, "the mails are not those that were decided")
}

func (p *path) mailOf(userID string) stack.Mail {
	mails := p.MailsTo(p, strings.Replace(userID, "-", "", 1)+"@trial.example")
	require.NotEmpty(p, mails)
	return mails[0]
}

// visit asks for a tracking address like a person's browser does and does not follow a redirect.
func (p *path) visit(method, target string) *http.Response {
	req, err := http.NewRequestWithContext(context.Background(), method, target, http.NoBody)
	require.NoError(p, err)
	req.Header.Set("User-Agent", person)
	resp, err := p.Client.Transport.RoundTrip(req)
	require.NoError(p, err)
	require.NoError(p, resp.Body.Close())
	return resp
}

type countRow struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func (p *path) counts(t require.TestingT, query string) map[string]int {
	counts := map[string]int{}
	for _, r := range stack.Query[countRow](t, p.Stack, query) {
		counts[r.Name] = r.N
	}
	return counts
}

// reactions opens and clicks the first person's mail; the click leads to a signed task for the call centre.
func (p *path) reactions() {
	m := p.mailOf(p.mailed[0])
	opened := p.visit(http.MethodGet, m.Link(p, "/t/o/"))
	require.Equal(p, "image/gif", opened.Header.Get("Content-Type"))
	link := m.Link(p, "/t/c/")
	require.True(p, strings.HasPrefix(link, "http://"+p.Ports.HTTP+"/"), "the link %s does not lead to the tracking endpoints on %s", link, p.Ports.HTTP)
	clicked := p.visit(http.MethodGet, link)
	require.Equal(p, http.StatusFound, clicked.StatusCode)
	require.Equal(p, "https://trial.example/apply?x=1&y=2", clicked.Header.Get("Location"))
	_ = p.visit(http.MethodGet, link) // a second click on the same link is the same outcome
	require.Equal(p, http.StatusNotFound, p.visit(http.MethodGet, link[:len(link)-2]+"xx").StatusCode, "a forged token is taken")

	stack.Eventually(p, soon, "the call centre has its task", func(c *assert.CollectT) {
		require.Len(c, p.calls.all(), 1)
	})
	task := p.calls.all()[0]
	require.True(p, task.Signed, "the task is not signed")
	require.Equal(p, "call.requested", task.Type)
	number := strings.TrimPrefix(p.mailed[0], "u-")
	require.Equal(p, "+33 1 00 00 00 "+number, task.Data["phone"])

	stack.Eventually(p, soon, "the outcomes are rows and events", func(c *assert.CollectT) {
		require.Equal(c, map[string]int{"delivered": len(p.mailed) + 1, "opened": 1, "clicked": 1},
			p.counts(c, `SELECT toString(type) AS name, toInt32(count()) AS n FROM outcomes WHERE tenant = 'trial' GROUP BY name`))
		require.Equal(c, map[string]int{"Message Delivered": len(p.mailed) + 1, "Message Opened": 1, "Message Clicked": 1},
			p.counts(c, `SELECT toString(name) AS name, toInt32(count()) AS n FROM events WHERE tenant = 'trial' AND internal GROUP BY name`))
	})
}

// unsubscribes takes one person out by the one-click POST; a later request of theirs is held with its
// reason while another one's is sent.
func (p *path) unsubscribes() {
	gone, stays := p.mailed[1], p.mailed[2]
	m := p.mailOf(gone)
	header := m.Header.Get("List-Unsubscribe")
	require.Equal(p, "List-Unsubscribe=One-Click", m.Header.Get("List-Unsubscribe-Post"))
	link := strings.Trim(header, "<>")
	require.Equal(p, http.StatusOK, p.visit(http.MethodGet, link).StatusCode)
	require.NotContains(p, p.Profile(p, trial, "user_id", gone).GetConsents(), "channel:email", "a look at the page unsubscribes")
	require.Equal(p, http.StatusOK, p.visit(http.MethodPost, link).StatusCode)
	stack.Eventually(p, soon, "the consent is withdrawn", func(c *assert.CollectT) {
		granted, known := p.Profile(c, trial, "user_id", gone).GetConsents()["channel:email"]
		require.True(c, known)
		require.False(c, granted)
	})
	p.event(stack.Event{"type": "track", "event": "Guide Requested", "userId": gone, "properties": stack.Event{"guide": "A"}})
	body := stack.Event{"event": "Guide Requested", "userId": stays, "properties": stack.Event{"guide": "B"}}
	answer, err := p.Post(context.Background(), trialKey, "/v1/track", body, "traceparent", "00-"+traceID+"-00f067aa0ba902b7-01")
	require.NoError(p, err)
	require.Equal(p, http.StatusOK, answer.Code, answer.Body)
	p.sent++
	var rows []sendRow
	stack.Eventually(p, soon, "both requests are decided", func(c *assert.CollectT) {
		rows = stack.Query[sendRow](c, p.Stack, fmt.Sprintf(sendsOf, "guides"))
		require.Len(c, rows, 2)
		require.Len(c, p.Mails(c), len(p.mailed)+1)
	})
	require.Equal(p, []string{gone, "held", stays, "send"}, []string{rows[0].UserID, rows[0].Decision, rows[1].UserID, rows[1].Decision})
	require.Contains(p, rows[0].Reason, "consent", "a held send says why")
	require.Len(p, p.MailsTo(p, strings.Replace(gone, "-", "", 1)+"@trial.example"), 1, "who unsubscribed was mailed again")
}

// columns are those that the tables promise to analysts at least.
var columns = map[string]string{
	"events":         "tenant, source, message_id, type, name, profile_id, anonymous_id, user_id, timestamp, received_at, properties, traits, context",
	"memberships":    "tenant, profile_id, segment, state, timestamp",
	"scores":         "tenant, profile_id, score, value, label, timestamp",
	"journey_steps":  "tenant, profile_id, journey, step, action, reason, timestamp",
	"sends":          "tenant, send_id, profile_id, journey, step, channel, template, decision, reason, timestamp",
	"outcomes":       "tenant, outcome_id, send_id, profile_id, channel, type, url, timestamp",
	"identity_links": "tenant, profile_id, namespace, identifier, message_id, timestamp",
	"ledger":         "tenant, source, hour, fate, reason, events",
}

// tables holds what stands in ClickHouse against what was played.
func (p *path) tables() {
	everybody := abandoners + submitters
	for table, names := range columns {
		require.NotEmpty(p, stack.Query[map[string]any](p, p.Stack, "SELECT "+names+" FROM "+table+" WHERE tenant = 'trial' LIMIT 1"), table)
	}
	type row struct{ Events, Messages, People, Amount int }
	require.Equal(p, row{Events: p.sent, Messages: p.sent, People: everybody, Amount: 2 * sumOf(1000, everybody)},
		stack.One[row](p, p.Stack, `SELECT toInt32(count()) AS Events, toInt32(uniqExact(message_id)) AS Messages, toInt32(uniqExact(person)) AS People,
			toInt32(sum(ifNull(properties.amount::Nullable(Int64), 0))) AS Amount
			FROM people WHERE tenant = 'trial' AND source = 'site'`))
	stack.Eventually(p, soon, "all memberships are rows", func(c *assert.CollectT) {
		require.Equal(c, map[string]int{"abandoned": abandoners, "readers": everybody},
			p.counts(c, `SELECT toString(segment) AS name, toInt32(profiles) AS n FROM segment_sizes WHERE tenant = 'trial'`))
		require.Equal(c, map[string]int{"heat": everybody},
			p.counts(c, `SELECT toString(score) AS name, toInt32(uniqExact(profile_id)) AS n FROM scores WHERE tenant = 'trial' AND value >= 15 GROUP BY name`))
		require.Equal(c, map[string]int{"anonymous_id": everybody, "user_id": everybody, "email": everybody},
			p.counts(c, `SELECT toString(namespace) AS name, toInt32(uniqExact(identifier)) AS n FROM identity_links WHERE tenant = 'trial' AND action = 'linked' GROUP BY name`))
	})
	steps := p.counts(p, `SELECT toString(action) AS name, toInt32(count()) AS n FROM journey_steps WHERE tenant = 'trial' AND journey = 'abandonment' GROUP BY name`)
	require.Equal(p, abandoners, steps["entered"])
	require.Positive(p, steps["waiting"], "%v", steps)
}

func sumOf(from, n int) int {
	sum := 0
	for i := range n {
		sum += from + i
	}
	return sum
}

// balance holds the ledger against the events that were sent: each is accounted for, once.
func (p *path) balance() {
	type row struct{ Accepted, Stored, Difference int }
	query := `SELECT toInt32(sum(accepted)) AS Accepted, toInt32(sum(stored)) AS Stored, toInt32(sum(difference)) AS Difference
		FROM ledger_balance WHERE tenant = 'trial' AND source = 'site'`
	stack.Eventually(p, soon, "the ledger balances", func(c *assert.CollectT) {
		require.Equal(c, row{Accepted: p.sent, Stored: p.sent}, stack.One[row](c, p.Stack, query))
	})
}

// profile reads the person who clicked over the command line.
func (p *path) profile() {
	result := p.CLI(p, "profile", "get", "--tenant", trial, "--id", "user_id:"+p.mailed[0])
	require.Equal(p, 0, result.Code, result.Err)
	number := strings.TrimPrefix(p.mailed[0], "u-")
	for _, want := range []string{
		`"anonymous_id:a-` + number, `"email:u` + number + "@trial.example", `"user_id:u-` + number, `"first_name": "Ada`,
		`"segment": "abandoned"`, `"segment": "readers"`, `"score": "heat"`, `"journey": "abandonment"`,
	} {
		require.Contains(p, result.Out, want)
	}
	listed := p.CLI(p, "outbox", "--last", "1000")
	require.Equal(p, 0, listed.Code, listed.Err)
	require.Contains(p, strings.ToLower(listed.Out), fmt.Sprintf("%d mails", len(p.mailed)+1))
	answer := p.CLI(p, "sql", "--format", "TSV", "SELECT count() FROM events WHERE tenant = 'trial' AND NOT internal")
	require.Equal(p, fmt.Sprint(p.sent), strings.TrimSpace(answer.Out), answer.Err)
}

// surfaces looks at health, reflection and metrics.
func (p *path) surfaces() {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	health, err := healthv1.NewHealthClient(p.Conn()).Check(ctx, &healthv1.HealthCheckRequest{})
	require.NoError(p, err)
	require.Equal(p, healthv1.HealthCheckResponse_SERVING, health.GetStatus())
	require.Subset(p, p.reflected(ctx), []string{"sillage.control.v1.DefinitionService", "sillage.decision.v1.ProfileService"})

	for _, page := range []string{"/livez", "/readyz"} {
		_, code := p.Get(p, "http://"+p.Ports.Ops+page)
		require.Equal(p, http.StatusOK, code, page)
	}
	metrics, code := p.Get(p, "http://"+p.Ports.Ops+"/metrics")
	require.Equal(p, http.StatusOK, code)
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(sillage_[a-z]+_[a-z]+)`).FindAllStringSubmatch(metrics, -1) {
		names[m[1]] = true
	}
	require.Subset(p, slices.Collect(maps.Keys(names)), []string{"sillage_ingest_events", "sillage_analytics_rows", "sillage_stream_lag"})
	require.NotContains(p, metrics, "@trial.example", "an address stands in the metrics")
}

func (p *path) reflected(ctx context.Context) []string {
	stream, err := reflectionv1.NewServerReflectionClient(p.Conn()).ServerReflectionInfo(ctx)
	require.NoError(p, err)
	require.NoError(p, stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}))
	answer, err := stream.Recv()
	require.NoError(p, err)
	require.NoError(p, stream.CloseSend())
	var services []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		services = append(services, service.GetName())
	}
	return services
}

// trace follows the one request that carried a sampled traceparent to the row and the mail.
func (p *path) trace() {
	stack.Eventually(p, soon, "the trace reaches the row and the mail", func(c *assert.CollectT) {
		require.Subset(c, p.collector.names(traceID), []string{
			"write to Kafka", "process identity-resolver", "process journeys", "deliver email", "process outcomes",
			"insert profile.log.v1", "insert sends.v1", "insert outcomes.v1",
		})
	})
	// A stop exports what is still buffered.
	const last = "0af7651916cd43dd8448eb211c80319c"
	answer, err := p.Post(context.Background(), trialKey, "/v1/track", stack.Event{"event": "Seen", "userId": user(0)},
		"traceparent", "00-"+last+"-b7ad6b7169203331-01")
	require.NoError(p, err)
	require.Equal(p, http.StatusOK, answer.Code, answer.Body)
	p.Terminate()
	require.Contains(p, p.collector.names(last), "write to Kafka")
}
