package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/render"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 2

// mailbox is a real SMTP server that counts what it takes by Message-ID.
type mailbox struct {
	addr string
	// answer is asked after each mail was taken; nil answers 250.
	answer func(id string) error

	mu    sync.Mutex
	taken map[string]int
}

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &mailbox{addr: listener.Addr().String(), taken: map[string]int{}}
	server := smtp.NewServer(m)
	server.Domain = "test.localhost"
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return m
}

func (m *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{m}, nil }

func (m *mailbox) counts() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.taken)
}

type mailSession struct{ box *mailbox }

func (*mailSession) Reset()                               {}
func (*mailSession) Logout() error                        { return nil }
func (*mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (*mailSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	id := message.Header.Get("Message-ID")
	s.box.mu.Lock()
	s.box.taken[id]++
	s.box.mu.Unlock()
	if s.box.answer != nil {
		return s.box.answer(id)
	}
	return nil
}

func broker(t *testing.T) kafka.Config {
	t.Helper()
	brokers := kafkatest.StartEmbedded(t, kfake.SeedTopics(partitions, topics.Sends, topics.Reports), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	return kafka.Config{Brokers: brokers, Partitions: partitions, Replication: 1}
}

func emailChannel(name, addr string, ambiguous definitionv1.Ambiguity) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "demo", Name: name, Version: 1, Spec: &definitionv1.Definition_Channel{Channel: &definitionv1.Channel{
		Email: &definitionv1.EmailChannel{Smtp: addr, From: "Demo <hello@bank.example>", Tls: "none"}, Ambiguous: ambiguous,
	}}}
}

func webhookChannel(name, url string) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "demo", Name: name, Version: 1, Spec: &definitionv1.Definition_Channel{Channel: &definitionv1.Channel{
		Webhook: &definitionv1.WebhookChannel{Url: url, Timeout: "5s"},
	}}}
}

func templates() []*definitionv1.Definition {
	return []*definitionv1.Definition{
		{Tenant: "demo", Name: "mail", Version: 1, Spec: &definitionv1.Definition_Template{Template: &definitionv1.Template{Email: &definitionv1.EmailTemplate{Subject: "Hi", Html: "<p>Hi</p>"}}}},
		{Tenant: "demo", Name: "hook", Version: 1, Spec: &definitionv1.Definition_Template{Template: &definitionv1.Template{Webhook: &definitionv1.WebhookTemplate{Type: "call.requested"}}}},
		{Tenant: "demo", Name: "broken", Version: 1, Spec: &definitionv1.Definition_Template{Template: &definitionv1.Template{Webhook: &definitionv1.WebhookTemplate{Type: "x", Data: `{"a": {{ traits.missing }}}`}}}},
	}
}

// provider is a definition.Provider whose definitions change.
type provider struct {
	mu   sync.Mutex
	defs []*definitionv1.Definition
}

func (p *provider) Snapshot() *definition.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return definition.NewSnapshot(p.defs...)
}

func (p *provider) add(defs ...*definitionv1.Definition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.defs = append(p.defs, defs...)
}

func dispatcher(t testing.TB, cfg Config, definitions definition.Provider) *Dispatcher {
	t.Helper()
	signer, err := tracking.NewSigner(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	if cfg.Outstanding == 0 {
		cfg.Outstanding = 100
	}
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = time.Second
	}
	d, err := New(cfg, Deps{
		Definitions: definitions, Renderer: render.New(signer, "http://t.example"), Clock: clock.System{},
		Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(),
	})
	require.NoError(t, err)
	return d
}

func start(t *testing.T, d *Dispatcher) {
	t.Helper()
	require.NoError(t, d.Start(t.Context()))
	t.Cleanup(func() { _ = d.Stop(context.Background()) })
}

func newSend(i int, channel, template string) *deliveryv1.Send {
	return &deliveryv1.Send{
		SendId: fmt.Sprintf("s%d", i), Tenant: "demo", ProfileId: fmt.Sprintf("p%d", i%7), Channel: channel, Template: template,
		Decision: deliveryv1.Decision_DECISION_SEND, Identifiers: []*eventv1.Identifier{{Namespace: "email", Value: "ada@example.com"}},
	}
}

func client(t *testing.T, k kafka.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(k.ProducerOptions(slog.New(slog.DiscardHandler)), opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func produce(t *testing.T, k kafka.Config, sends ...*deliveryv1.Send) {
	t.Helper()
	c := client(t, k)
	var records []*kgo.Record
	for _, s := range sends {
		raw, err := s.MarshalVT()
		require.NoError(t, err)
		records = append(records, &kgo.Record{Topic: topics.Sends, Key: topics.Key(s.GetTenant(), s.GetProfileId()), Value: raw})
	}
	require.NoError(t, c.ProduceSync(t.Context(), records...).FirstErr())
}

// reports reads reports until want different sends were reported, and returns all by send.
func reports(t *testing.T, k kafka.Config, want int) map[string][]*deliveryv1.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	c := client(t, k, kgo.ConsumeTopics(topics.Reports))
	got := map[string][]*deliveryv1.Outcome{}
	for len(got) < want {
		fetches := c.PollFetches(ctx)
		if errors.Is(fetches.Err0(), context.DeadlineExceeded) {
			require.Len(t, got, want, "not all sends were reported in time")
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var o deliveryv1.Outcome
			require.NoError(t, o.UnmarshalVT(r.Value))
			got[o.GetSendId()] = append(got[o.GetSendId()], &o)
		})
	}
	return got
}
