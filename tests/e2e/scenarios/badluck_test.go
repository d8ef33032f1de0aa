package scenarios

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// gives is how long `sillage up` may take to give up on something.
const gives = 90 * time.Second

// fails starts a stack that cannot start and returns what it wrote.
func fails(t *testing.T, s *stack.Stack) string {
	t.Helper()
	return gaveUp(t, s.Launch())
}

// gaveUp waits for the end of a process that cannot work.
func gaveUp(t *testing.T, up *process.Process) string {
	t.Helper()
	begun := time.Now()
	code := up.Wait(t, gives)
	t.Logf("gave up after %s", time.Since(begun).Round(time.Millisecond))
	require.Equal(t, 1, code, up.Output())
	require.NotContains(t, up.Output(), "goroutine ", "it panics")
	return up.Output()
}

// silent listens and answers nothing to anybody.
func silent(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return listener.Addr().String()
}

// TestPortInUse starts a stack while somebody else has one of its ports.
func TestPortInUse(t *testing.T) {
	for _, test := range []struct {
		flag string
		port func(stack.Ports) string
	}{
		{"--http-addr", func(p stack.Ports) string { return p.HTTP }},
		{"--grpc-addr", func(p stack.Ports) string { return p.GRPC }},
		{"--ops-addr", func(p stack.Ports) string { return p.Ops }},
		{"clickhouse", func(p stack.Ports) string { return p.SQL }},
		{"kafka", func(p stack.Ports) string { return p.Kafka }},
		{"smtp", func(p stack.Ports) string { return p.SMTP }},
	} {
		t.Run(test.flag, func(t *testing.T) {
			t.Parallel()
			s := stack.New(t, stack.Options{})
			port := test.port(s.Ports)
			listener, err := net.Listen("tcp", port)
			require.NoError(t, err)
			defer listener.Close() // the test's own
			out := fails(t, s)
			require.Contains(t, out, port)
			require.Contains(t, out, "in use")
			require.Contains(t, strings.ToLower(out), test.flag, "the way out is named")
		})
	}
}

// TestSecondUp starts a second stack on the data directory of one that runs.
func TestSecondUp(t *testing.T) {
	t.Parallel()
	first := stack.New(t, stack.Options{})
	first.Start()
	second := stack.New(t, stack.Options{DataDir: first.DataDir})
	out := fails(t, second)
	require.Contains(t, out, first.DataDir)
	require.Contains(t, out, "in use by another sillage")
	require.Contains(t, out, "--data-dir")
	_, code := first.Get(t, "http://"+first.Ports.Ops+"/readyz")
	require.Equal(t, http.StatusOK, code, "the first one is disturbed")
}

// TestEnginesAway starts stacks on engines that are not there, refuse or say nothing.
func TestEnginesAway(t *testing.T) {
	t.Parallel()
	refusing := stack.FreePorts(t, 1)[0]
	for _, test := range []struct {
		name  string
		flags []string
		says  []string
	}{
		{"kafka refuses", []string{"--kafka", refusing, "--set", "kafka.start_timeout=2s"}, []string{refusing, "kafka"}},
		{"kafka is silent", []string{"--kafka", silent(t), "--set", "kafka.start_timeout=2s"}, []string{"127.0.0.1:", "kafka"}},
		{"clickhouse refuses", []string{"--clickhouse", refusing, "--set", "clickhouse.start_timeout=2s"}, []string{refusing, "clickhouse"}},
		{"clickhouse is silent", []string{"--clickhouse", silent(t), "--set", "clickhouse.start_timeout=2s"}, []string{"127.0.0.1:", "clickhouse"}},
		{"no library", []string{"--set", "clickhouse.library=/nowhere/libchdb.so"}, []string{"/nowhere/libchdb.so", "make engines"}},
		{"no folder", []string{"--data-dir", "/proc/nowhere"}, []string{"/proc/nowhere", "--data-dir"}},
		{"unknown setting", []string{"--set", "htpp.addr=1"}, []string{"htpp"}},
		{"bad setting", []string{"--log-level", "loud"}, []string{"log_level", "loud"}},
	} {
		// All wait at the same time: waiting is most of what they do.
		process := stack.New(t, stack.Options{Flags: test.flags}).Launch()
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := gaveUp(t, process)
			for _, what := range test.says {
				require.Contains(t, strings.ToLower(out), strings.ToLower(what))
			}
		})
	}
}

// TestNobodyThere runs commands against a stack that does not run.
func TestNobodyThere(t *testing.T) {
	s := stack.New(t, stack.Options{})
	definitions := filepath.Join(t.TempDir(), "a.yaml")
	require.NoError(t, os.WriteFile(definitions, []byte(freshSource), 0o600))
	for name, args := range map[string][]string{
		s.Ports.GRPC: {"apply", "-f", definitions},
		"--grpc":     {"profile", "get", "--tenant", "demo", "--id", "user_id:1"},
		s.Ports.SQL:  {"sql", "SELECT 1"},
		"no outbox":  {"outbox"},
		"no/such":    {"apply", "-f", "no/such.yaml"},
	} {
		result := s.CLI(t, args...)
		require.Equal(t, 1, result.Code, args)
		require.Contains(t, result.Err, name, args)
		require.Equal(t, 1, strings.Count(strings.TrimSpace(result.Err), "\n")+1, "one message: %s", result.Err)
	}
}

// TestBadInput sends what cannot be taken and what cannot be delivered; each costs nothing else.
func TestBadInput(t *testing.T) {
	s := stack.New(t, stack.Options{})
	s.Start()

	answer, err := s.Post(context.Background(), "nobody", "/v1/track", stack.Event{"userId": "u", "event": "Seen"})
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, answer.Code)
	require.Contains(t, answer.Body, "write key")
	metrics, _ := s.Get(t, "http://"+s.Ports.Ops+"/metrics")
	require.Contains(t, metrics, "sillage_ingest_requests_denied", "an unknown key is counted")

	imported := s.Execute(t, stack.Command{Args: []string{"import", "--source", "nobody", "-"},
		In: strings.NewReader(`{"type":"track","event":"Seen","userId":"u","timestamp":"2025-01-01T00:00:00Z"}` + "\n")})
	require.Equal(t, 1, imported.Code)
	require.Contains(t, imported.Err, "--source")

	bad := s.Execute(t, stack.Command{Args: []string{"import", "--source", "demo-key", "-"}, In: strings.NewReader(strings.Join([]string{
		`{"type":"track","event":"Seen","userId":"u","timestamp":"2025-01-01T00:00:00Z"}`, `not json`,
		`{"type":"track","event":"Seen","userId":"u"}`, `{"type":"track","event":"Seen","userId":"v","timestamp":"2025-01-01T00:00:00Z"}`}, "\n"))})
	require.Equal(t, 1, bad.Code)
	for _, what := range []string{"2 events accepted, 2 rows refused", "-:2: bad_json", "-:3: no_timestamp"} {
		require.Contains(t, bad.Out, what)
	}
}

// TestUndeliverable has four sends for one person, of which three cannot be delivered: each ends with
// its reason, and the fourth is not held up.
func TestUndeliverable(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{})
	s.Start()
	raw, err := os.ReadFile(filepath.Join("testdata", "luck.yaml"))
	require.NoError(t, err)
	broken := s.Execute(t, stack.Command{Args: []string{"apply", "-f", "-"}, In: strings.NewReader(
		strings.Replace(string(raw), "<p>hello</p>", "<p>{% if traits.x %}hello</p>", 1))})
	require.Equal(t, 1, broken.Code, "a template that cannot be read is applied")
	require.Contains(t, broken.Err, "spec.email.html")

	s.Apply(t, strings.NewReplacer("AWAY_SMTP", stack.FreePorts(t, 1)[0], "REFUSING_SMTP", refusingServer(t)).Replace(string(raw)))
	stack.Eventually(t, soon, "the write key works", func(c *assert.CollectT) {
		answer, err := s.Post(context.Background(), "luck-key", "/v1/batch", map[string]any{"batch": []any{}})
		require.NoError(c, err)
		require.NotEqual(c, http.StatusUnauthorized, answer.Code)
	})
	s.Send(t, "luck-key",
		stack.Event{"type": "identify", "userId": "u-1", "traits": stack.Event{"email": "u1@luck.example", "parts": 0}},
		stack.Event{"type": "track", "userId": "u-1", "event": "Good"})
	type row struct {
		Journey string `json:"journey"`
		Type    string `json:"type"`
		Reason  string `json:"reason"`
	}
	var rows []row
	stack.Eventually(t, soon, "each send has its outcome", func(c *assert.CollectT) {
		rows = stack.Query[row](c, s, `SELECT toString(journey) AS journey, toString(type) AS type, toString(reason) AS reason FROM outcomes WHERE tenant = 'luck' ORDER BY journey`)
		require.Len(c, rows, 4)
	})
	require.Equal(t, row{"away", "failed", "smtp_connect"}, rows[0])
	require.Equal(t, "failed", rows[1].Type)
	require.NotEmpty(t, rows[1].Reason, "a template that does not render")
	require.Equal(t, row{"good", "delivered", ""}, rows[2])
	require.Equal(t, row{"refusing", "bounced", "smtp_550"}, rows[3])
	mails := s.Mails(t)
	require.Len(t, mails, 1)
	require.Equal(t, "plain", mails[0].Subject)
}

// refusingServer is a mail server that refuses every recipient.
func refusingServer(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return refusal{}, nil }))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

// refusal is an SMTP session that knows nobody.
type refusal struct{}

func (refusal) Reset()                               {}
func (refusal) Logout() error                        { return nil }
func (refusal) Mail(string, *smtp.MailOptions) error { return nil }
func (refusal) Rcpt(string, *smtp.RcptOptions) error {
	return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such person"}
}
func (refusal) Data(io.Reader) error { return nil }
