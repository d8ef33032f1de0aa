package app_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/app"
)

var logger = slog.New(slog.DiscardHandler)

// mailbox is a real SMTP server that hands over the mails that it takes.
type mailbox chan string

func (m mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return m, nil }
func (mailbox) Reset()                                        {}
func (mailbox) Logout() error                                 { return nil }
func (mailbox) Mail(string, *smtp.MailOptions) error          { return nil }
func (mailbox) Rcpt(string, *smtp.RcptOptions) error          { return nil }
func (m mailbox) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	m <- string(raw)
	return err
}

func (m mailbox) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := smtp.NewServer(m)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		_ = server.Close()
		<-done
	})
	return listener.Addr().String()
}

func definitions() definition.Provider {
	return definition.Static(definition.NewSnapshot(
		&definitionv1.Definition{Tenant: "demo", Name: "email", Version: 1, Spec: &definitionv1.Definition_Channel{Channel: &definitionv1.Channel{
			Email: &definitionv1.EmailChannel{From: "Demo <hello@bank.example>"},
		}}},
		&definitionv1.Definition{Tenant: "demo", Name: "resume", Version: 1, Spec: &definitionv1.Definition_Template{Template: &definitionv1.Template{
			Email: &definitionv1.EmailTemplate{Subject: "Go on", Html: `<a href="https://bank.example/resume">go on</a>`},
		}}},
	))
}

func config(t *testing.T) app.Config {
	t.Helper()
	cfg := app.NewDefaultConfig()
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, bytes.Repeat([]byte("k"), 32), 0o600))
	cfg.TrackingKeyRef = "file:" + key
	return cfg
}

var link = regexp.MustCompile(`http://127\.0\.0\.1:8080(/t/[ocu]/[A-Za-z0-9_-]+)`)

// links are the tracking paths of a mail by kind (o, c, u).
func links(t *testing.T, raw string) map[string]string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	require.NoError(t, err)
	body, err := io.ReadAll(m.Body)
	require.NoError(t, err)
	// Quoted-printable breaks long lines with a trailing equals sign.
	text := m.Header.Get("List-Unsubscribe") + " " + strings.ReplaceAll(string(body), "=\r\n", "")
	found := map[string]string{}
	for _, match := range link.FindAllStringSubmatch(text, -1) {
		found[match[1][3:4]] = match[1]
	}
	return found
}

// TestFromASendToTheReactionsOfAPerson: a send becomes a mail; its pixel, its link and its unsubscribe
// address become outcomes and events of the profile, each once however often they are called.
func TestFromASendToTheReactionsOfAPerson(t *testing.T) {
	k := kafka.Config{Brokers: kafkatest.StartEmbedded(t), Partitions: 2, Replication: 1}
	c, err := kgo.NewClient(append(k.ProducerOptions(logger), kgo.ConsumeTopics(topics.Outcomes, topics.Events), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.NoError(t, k.EnsureTopics(t.Context(), c, topics.All()))

	box, cfg := make(mailbox, 10), config(t)
	cfg.OutboxSMTP = box.serve(t)
	a, err := app.New(cfg, app.Deps{
		Kafka: k, Definitions: definitions(), Clock: clock.System{}, Logger: logger, Telemetry: telemetry.Nop(), DataDir: t.TempDir(),
	})
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })

	send := &deliveryv1.Send{
		SendId: "s1", Tenant: "demo", ProfileId: "p1", Channel: "email", Template: "resume", Journey: "loan", Step: "mail",
		Decision: deliveryv1.Decision_DECISION_SEND, Identifiers: []*eventv1.Identifier{{Namespace: "email", Value: "ada@example.com"}},
	}
	raw, err := send.MarshalVT()
	require.NoError(t, err)
	require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: topics.Sends, Key: topics.Key("demo", "p1"), Value: raw}).FirstErr())

	paths := links(t, <-box)
	require.Len(t, paths, 3)
	call := func(method, path string) int {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for range 2 {
		require.Equal(t, http.StatusOK, call("GET", paths["o"]))
		require.Equal(t, http.StatusFound, call("GET", paths["c"]))
		require.Equal(t, http.StatusOK, call("POST", paths["u"]))
	}
	outcomes, events := read(t, c, 4)
	require.Equal(t, map[string]int{"DELIVERED": 1, "OPENED": 1, "CLICKED": 1, "UNSUBSCRIBED": 1}, outcomes)
	require.Equal(t, map[string]int{"Message Delivered": 1, "Message Opened": 1, "Message Clicked": 1, "Message Unsubscribed": 1}, events)
}

// read counts outcomes by type and events by name until there are want of each.
func read(t *testing.T, c *kgo.Client, want int) (outcomes, events map[string]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	outcomes, events = map[string]int{}, map[string]int{}
	for seen := 0; seen < 2*want; {
		fetches := c.PollFetches(ctx)
		require.NoError(t, fetches.Err0(), "outcomes %v, events %v", outcomes, events)
		fetches.EachRecord(func(r *kgo.Record) {
			seen++
			if r.Topic == topics.Events {
				var ev eventv1.Event
				require.NoError(t, ev.UnmarshalVT(r.Value))
				require.True(t, ev.GetInternal())
				events[ev.GetName()]++
				return
			}
			var o deliveryv1.Outcome
			require.NoError(t, o.UnmarshalVT(r.Value))
			outcomes[strings.TrimPrefix(o.GetType().String(), "OUTCOME_TYPE_")]++
		})
	}
	return outcomes, events
}

func TestSettingsAreChecked(t *testing.T) {
	for field, change := range map[string]func(*app.Config){
		"public_url":       func(c *app.Config) { c.PublicURL = "here" },
		"tracking_key_ref": func(c *app.Config) { c.TrackingKeyRef = "the key itself" },
		"outstanding":      func(c *app.Config) { c.Outstanding = 0 },
	} {
		cfg := config(t)
		require.NoError(t, cfg.Validate())
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), field)
	}
	cfg := config(t)
	cfg.Stream.Standbys = -1
	_, err := app.New(cfg, app.Deps{
		Kafka: kafka.Config{Brokers: []string{"127.0.0.1:1"}}, Definitions: definition.Static(definition.NewSnapshot()), Clock: clock.System{},
		Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(), DataDir: t.TempDir(),
	})
	require.ErrorContains(t, err, "standbys")
}
