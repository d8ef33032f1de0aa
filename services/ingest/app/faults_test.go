package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

func track(id string) string {
	return fmt.Sprintf(`{"event":"E","userId":"u-%s","messageId":%q}`, id, id)
}

func (s *stack) messageIDs() map[string]int {
	s.t.Helper()
	ids := map[string]int{}
	for _, ev := range s.events() {
		ids[ev.GetMessageId()]++
	}
	return ids
}

func TestAnswerComesAfterTheAcknowledgement(t *testing.T) {
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), nil)
	require.Equal(t, 200, s.post("/v1/track", webKey, track("warm-up")).status)

	arrived, release := make(chan int16, 1), make(chan struct{})
	broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		arrived <- req.(*kmsg.ProduceRequest).Acks
		broker.SleepControl(func() { <-release })
		broker.DropControl()
		return nil, nil, false
	})
	answered := make(chan reply, 1)
	go func() { answered <- s.post("/v1/track", webKey, track("held")) }()
	require.Equal(t, int16(-1), <-arrived, "acks=all")
	select {
	case got := <-answered:
		t.Fatalf("answered %d before Kafka", got.status)
	default:
	}
	close(release)
	require.Equal(t, 200, (<-answered).status)
	require.Equal(t, map[string]int{"warm-up": 1, "held": 1}, s.messageIDs())
}

// hush makes a broker swallow every request while on is true, as one does behind a cut cable.
func hush(broker *kfake.Cluster, on *atomic.Bool) {
	broker.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		return nil, nil, on.Load()
	})
}

// A broker that is silent for a while (30 seconds at full length), under clients who go on sending: each is
// told within two seconds to come back, memory stays bounded, service resumes by itself, and nothing that
// was acknowledged is missing.
func TestSilentBroker(t *testing.T) {
	silence, clients := 3*time.Second, 16
	if os.Getenv(envFaults) == "full" {
		silence, clients = 30*time.Second, 64
	}
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), func(c *app.Config) { c.AckTimeout = app.NewDefaultConfig().AckTimeout })
	var silent atomic.Bool
	hush(broker, &silent)
	for i := range 5 {
		require.Equal(t, 200, s.post("/v1/track", webKey, track(fmt.Sprint("before-", i))).status)
	}
	memory := heap()
	silent.Store(true)
	during, cancel := context.WithTimeout(t.Context(), silence)
	defer cancel()
	var crowd sync.WaitGroup
	sent := make([]int, clients)
	slowest := make([]time.Duration, clients)
	for c := range clients {
		crowd.Go(func() {
			for ; during.Err() == nil; sent[c]++ {
				begun := time.Now()
				got := s.post("/v1/track", webKey, padded(fmt.Sprintf("during-%d-%d", c, sent[c])))
				slowest[c] = max(slowest[c], time.Since(begun))
				if got.status != 503 || got.header.Get("Retry-After") != "2" {
					t.Errorf("got %d, Retry-After %q from a silent broker", got.status, got.header.Get("Retry-After"))
					return
				}
			}
		})
	}
	<-during.Done()
	require.NoError(t, s.app.Ready(t.Context()), "it still answers")
	crowd.Wait()
	grown := heap() - memory
	require.Less(t, grown, int64(64<<20), "bytes that a silent broker costs")
	silent.Store(false)
	resumed := time.Now()
	tries := 0
	require.Eventually(t, func() bool {
		tries++
		return s.post("/v1/track", webKey, track(fmt.Sprint("after-", tries))).status == 200
	}, 30*time.Second, 10*time.Millisecond)
	recovered := time.Since(resumed)
	acknowledged := []string{fmt.Sprint("after-", tries)}
	// A client sends again what was not acknowledged.
	for c := range clients {
		for i := range sent[c] {
			id := fmt.Sprintf("during-%d-%d", c, i)
			require.Equal(t, 200, s.post("/v1/track", webKey, track(id)).status)
			acknowledged = append(acknowledged, id)
		}
	}
	ids := s.messageIDs()
	for _, id := range acknowledged {
		require.Positive(t, ids[id], "acknowledged %s is not in Kafka", id)
	}
	t.Logf("silent for %s: %d requests told to come back, the slowest after %s; %d KiB more memory; first 200 after %s",
		silence, len(acknowledged)-1, slices.Max(slowest), grown>>10, recovered)
	if os.Getenv(envFaults) == "full" {
		require.Less(t, slices.Max(slowest), 2*time.Second)
		require.Less(t, recovered, 5*time.Second)
	}
}

// padded is a track of some 30 kB.
func padded(id string) string {
	return strings.TrimSuffix(track(id), "}") + `,"properties":{"pad":"` + strings.Repeat("x", 30_000) + `"}}`
}

func TestRefusedByTheBroker(t *testing.T) {
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), nil)
	require.Equal(t, 200, s.post("/v1/track", webKey, track("before")).status)
	var refused atomic.Bool
	refused.Store(true)
	refuse(broker, &refused)
	got := s.post("/v1/track", webKey, track("refused"))
	require.Equal(t, 503, got.status)
	require.NotContains(t, got.body, "AUTHORIZATION", "the cause is the operator's business")
	require.Equal(t, map[string]int{"before": 1}, s.messageIDs())

	// What cannot be taken cannot be refused either: the ledger is as exact as the log.
	require.Equal(t, 503, s.post("/v1/track", webKey, `{"event":"E"}`).status)
	require.Empty(t, s.ledger())
}

func TestRestart(t *testing.T) {
	first := start(t, startBroker(t).ListenAddrs(), nil)
	require.Equal(t, 200, first.post("/v1/track", webKey, track("first")).status)
	first.stop()
	require.NoError(t, first.app.Stop(t.Context()), "a second Stop does nothing")
	require.Error(t, first.app.Ready(t.Context()))
	second := start(t, first.brokers, nil)
	require.Equal(t, 200, second.post("/v1/track", webKey, track("second")).status)
	require.Equal(t, map[string]int{"first": 1, "second": 1}, second.messageIDs())
}

func TestWrongBroker(t *testing.T) {
	deps := app.Deps{
		Kafka: kafka.Config{Brokers: []string{"127.0.0.1:1"}, Partitions: 4}, Definitions: definitions(),
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop(),
	}
	a, err := app.New(app.NewDefaultConfig(), deps)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, a.Start(ctx), "reaching Kafka")
	require.Error(t, a.Ready(t.Context()))
	require.NoError(t, a.Stop(t.Context()), "after a failed Start")

	a, err = app.New(app.NewDefaultConfig(), deps)
	require.NoError(t, err)
	require.NoError(t, a.Stop(t.Context()), "before Start")
}

func TestConfigIsChecked(t *testing.T) {
	require.NoError(t, app.NewDefaultConfig().Validate())
	_, err := app.New(app.Config{Linger: time.Second, RateLimit: app.RateLimit{RequestsPerSecond: 1}, TenantRateLimit: app.RateLimit{EventsPerSecond: 1}, MaxIdentityEventsPerSecond: -1, TrustedProxies: []string{"10.0.0.0/8", "here"}}, app.Deps{})
	for _, field := range []string{"ack_timeout", "linger", "max_buffered_bytes", "max_in_flight_bytes", "rate_limit", "tenant_rate_limit", "max_identity_events_per_second", "max_event_names", "trusted_proxies[1]"} {
		require.ErrorContains(t, err, field)
	}
}

// Requests that come in while the service stops are answered: 200 with the event in Kafka, or 503 without.
func TestStopAnswersWhatItAccepted(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	var clients sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]int{}
	halfway := make(chan struct{})
	for c := range 8 {
		clients.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("%d-%d", c, i)
				got := s.post("/v1/track", webKey, track(id))
				mu.Lock()
				answers[id] = got.status
				if len(answers) == 200 {
					close(halfway)
				}
				mu.Unlock()
			}
		})
	}
	<-halfway
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.app.Stop(ctx))
	clients.Wait()
	require.Len(t, answers, 400)
	ids := s.messageIDs()
	refused := 0
	for id, status := range answers {
		if status == http.StatusServiceUnavailable {
			refused++
			require.Zero(t, ids[id])
			continue
		}
		require.Equal(t, 200, status)
		require.Equal(t, 1, ids[id])
	}
	t.Logf("%d answered 200, %d refused while stopping", 400-refused, refused)
}
