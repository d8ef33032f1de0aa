package app_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
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
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

func TestMain(m *testing.M) {
	if brokers := os.Getenv(envChild); brokers != "" {
		serveAsChild(strings.Split(brokers, ","))
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	webKey     = "wk_web_0123456789"
	serverKey  = "wk_server_0123456789"
	smallKey   = "wk_small_0123456789"
	privateKey = "wk_private_0123456789"
	plannedKey = "wk_planned_0123456789"
	closedKey  = "wk_closed_0123456789"
	jitsuKey   = "jitsu-id:jitsu-secret"
	ownKey     = "wk_own_0123456789"
)

var arrivedAt = time.Date(2026, 11, 21, 10, 15, 31, 0, time.UTC)

func definitions() definition.Provider {
	source := func(name string, spec *definitionv1.Source) *definitionv1.Definition {
		return &definitionv1.Definition{Tenant: "acme", Name: name, Spec: &definitionv1.Definition_Source{Source: spec}}
	}
	return definition.Static(definition.NewSnapshot(
		&definitionv1.Definition{Tenant: "acme", Name: "acme", Spec: &definitionv1.Definition_TenantSpec{TenantSpec: &definitionv1.Tenant{
			Identity: &definitionv1.IdentityPolicy{RefusedValues: []string{"kiosk"}}}}},
		source("web", &definitionv1.Source{WriteKeys: []string{webKey}}),
		source("server", &definitionv1.Source{WriteKeys: []string{serverKey}, ServerSide: true, HistoryAfter: "7d"}),
		source("small", &definitionv1.Source{WriteKeys: []string{smallKey}, MaxEventBytes: 200, MaxBatchBytes: 1000, MaxImportBatchBytes: 2000}),
		source("jitsu", &definitionv1.Source{WriteKeys: []string{jitsuKey}}),
		source("own", &definitionv1.Source{WriteKeys: []string{ownKey}, AllowedOrigins: []string{"https://shop.example", "https://*.bank.example:8443"}}),
		source("private", &definitionv1.Source{WriteKeys: []string{privateKey}, Ip: definitionv1.IpHandling_IP_HANDLING_SHORTEN}),
		source("planned", &definitionv1.Source{WriteKeys: []string{plannedKey}}),
		&definitionv1.Definition{Tenant: "acme", Name: "planned", Version: 3, Spec: &definitionv1.Definition_TrackingPlan{TrackingPlan: &definitionv1.TrackingPlan{
			Source: "planned", Mode: definitionv1.PlanMode_PLAN_MODE_QUARANTINE, Unplanned: definitionv1.PlanMode_PLAN_MODE_REJECT,
			Events: []*definitionv1.PlannedEvent{
				{Event: "Order Completed", Schema: `{"required":["order_id"],"properties":{"revenue":{"type":"number"}}}`},
				{Event: "Seen", Schema: `{"required":["id"]}`, Mode: definitionv1.PlanMode_PLAN_MODE_OBSERVE},
			}}}},
		source("closed", &definitionv1.Source{WriteKeys: []string{closedKey}, Disabled: true}),
	))
}

// stack is the service on a broker in memory.
type stack struct {
	t       testing.TB
	brokers []string
	app     *app.App
	server  *httptest.Server
	clock   *clock.Manual
}

// startBroker runs kfake with the topics that ingest writes.
func startBroker(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	return kafkatest.StartCluster(t, append([]kfake.Opt{kfake.SeedTopics(4, topics.Events, topics.Ledger, topics.Violations, topics.Quarantine)}, opts...)...)
}

func start(t testing.TB, brokers []string, adjust func(*app.Config)) *stack {
	t.Helper()
	cfg := app.NewDefaultConfig()
	cfg.AckTimeout = time.Second
	if adjust != nil {
		adjust(&cfg)
	}
	s := &stack{t: t, brokers: brokers, clock: clock.NewManual(arrivedAt)}
	var err error
	s.app, err = app.New(cfg, app.Deps{
		Kafka:       kafka.Config{Brokers: brokers, Partitions: 4, Replication: 1},
		Definitions: definitions(),
		Clock:       s.clock,
		Logger:      slog.New(slog.DiscardHandler),
		Telemetry:   telemetry.Nop(),
	})
	require.NoError(t, err)
	require.Error(t, s.app.Ready(t.Context()))
	require.NoError(t, s.app.Start(t.Context()))
	require.NoError(t, s.app.Ready(t.Context()))
	s.server = httptest.NewServer(s.app.Handler())
	t.Cleanup(s.stop)
	return s
}

// stop ends the stack; a second call does nothing.
func (s *stack) stop() {
	s.server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// A broker that is silent on purpose leaves records unflushed; the tests look at what Kafka has.
	_ = s.app.Stop(ctx)
}

// reply is what a client sees.
type reply struct {
	status int
	header http.Header
	body   string
}

// post sends a body with the key in Basic authorization, unless the key is blank.
func (s *stack) post(path, key, body string, headers ...string) reply {
	s.t.Helper()
	return s.do(http.MethodPost, path, key, strings.NewReader(body), headers...)
}

func (s *stack) do(method, path, key string, body io.Reader, headers ...string) reply {
	s.t.Helper()
	req, err := http.NewRequest(method, s.server.URL+path, body)
	require.NoError(s.t, err)
	if key != "" {
		req.SetBasicAuth(key, "")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.server.Client().Do(req)
	require.NoError(s.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	return reply{res.StatusCode, res.Header, string(text)}
}

// records reads a topic to its present end.
func records(t testing.TB, brokers []string, topic string) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	want := int64(0)
	for partition := range int32(4) {
		want += endOffset(t, client, topic, partition)
	}
	var out []*kgo.Record
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for int64(len(out)) < want {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		out = append(out, fetches.Records()...)
	}
	return out
}

func (s *stack) events() []*eventv1.Event {
	s.t.Helper()
	var out []*eventv1.Event
	for _, r := range records(s.t, s.brokers, topics.Events) {
		ev := new(eventv1.Event)
		require.NoError(s.t, ev.UnmarshalVT(r.Value))
		anchor := ev.GetIdentifiers()[0]
		require.Equal(s.t, string(topics.Key(ev.GetTenant(), anchor.GetNamespace()+":"+anchor.GetValue())), string(r.Key))
		out = append(out, ev)
	}
	return out
}

// event is the one event with a message id.
func (s *stack) event(id string) *eventv1.Event {
	s.t.Helper()
	var found *eventv1.Event
	for _, ev := range s.events() {
		if ev.GetMessageId() == id {
			require.Nil(s.t, found, "%s stands twice", id)
			found = ev
		}
	}
	require.NotNil(s.t, found, id)
	return found
}

func (s *stack) ledger() []*ledgerv1.LedgerEntry {
	s.t.Helper()
	var out []*ledgerv1.LedgerEntry
	for _, r := range records(s.t, s.brokers, topics.Ledger) {
		entry := new(ledgerv1.LedgerEntry)
		require.NoError(s.t, entry.UnmarshalVT(r.Value))
		require.Equal(s.t, string(topics.Key(entry.GetTenant(), entry.GetSource())), string(r.Key))
		require.Equal(s.t, ledgerv1.Fate_FATE_REJECTED, entry.GetFate())
		require.False(s.t, entry.GetAfterDoor())
		require.Equal(s.t, arrivedAt.UnixMilli(), entry.GetReceivedAtMs())
		out = append(out, entry)
	}
	return out
}

func gzipped(t testing.TB, body string) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write([]byte(body))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return &out
}

// says decodes the answer to a request that was refused.
func (r reply) says(t testing.TB) (message, code string) {
	t.Helper()
	var out struct {
		Success       bool
		Message, Code string
	}
	require.NoError(t, json.Unmarshal([]byte(r.body), &out), r.body)
	require.False(t, out.Success)
	return out.Message, out.Code
}

func endOffset(t testing.TB, client *kgo.Client, topic string, partition int32) int64 {
	t.Helper()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	require.NoError(t, err)
	end, ok := ends.Lookup(topic, partition)
	require.True(t, ok)
	require.NoError(t, end.Err)
	return end.Offset
}
