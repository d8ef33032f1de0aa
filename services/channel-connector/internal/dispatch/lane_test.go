package dispatch

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

func forgetOffsets(t *testing.T, k kafka.Config) {
	t.Helper()
	admin := kadm.NewClient(client(t, k))
	require.Eventually(t, func() bool {
		resp, err := admin.DeleteGroup(t.Context(), Group)
		return err == nil && resp.Err == nil
	}, 10*time.Second, 20*time.Millisecond)
}

// TestOneLaneDoesNotStopOthers: one of ten channels hangs, throttles or refuses, with far more sends than
// are held in memory; the other nine deliver all of theirs. When it works again it delivers its own.
func TestOneLaneDoesNotStopOthers(t *testing.T) {
	const channels, each = 10, 60
	for trouble, answer := range map[string]func(http.ResponseWriter, *http.Request, <-chan struct{}){
		"hangs": func(_ http.ResponseWriter, r *http.Request, mended <-chan struct{}) {
			select {
			case <-mended:
			case <-r.Context().Done():
			}
		},
		"throttles": func(w http.ResponseWriter, _ *http.Request, mended <-chan struct{}) {
			select {
			case <-mended:
			default:
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		},
	} {
		t.Run(trouble, func(t *testing.T) {
			mended := make(chan struct{})
			mend := sync.OnceFunc(func() { close(mended) })
			bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = r.ParseForm()
				answer(w, r, mended)
			}))
			t.Cleanup(bad.Close)
			t.Cleanup(mend)
			good := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			t.Cleanup(good.Close)
			defs := append(templates(), webhookChannel("c0", bad.URL))
			for c := 1; c < channels; c++ {
				defs = append(defs, webhookChannel(fmt.Sprintf("c%d", c), good.URL))
			}
			k := broker(t)
			var sends []*deliveryv1.Send
			for i := range channels * each {
				sends = append(sends, newSend(i, fmt.Sprintf("c%d", i%channels), "hook"))
			}
			produce(t, k, sends...)
			start(t, dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir(), Outstanding: 20}, definition.Static(definition.NewSnapshot(defs...))))

			for _, outcomes := range reports(t, k, (channels-1)*each) {
				require.NotEqual(t, "c0", outcomes[0].GetChannel())
				require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, outcomes[0].GetType())
			}
			mend()
			all := reports(t, k, channels*each)
			for id, outcomes := range all {
				require.Len(t, outcomes, 1, id)
				require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, outcomes[0].GetType(), id)
			}
		})
	}
}

// TestAProvidersWishIsHonoured: after a 429 nobody of the lane calls before the time that it names, each
// attempt of a send carries the same id, and being asked to wait is no failed attempt.
func TestAProvidersWishIsHonoured(t *testing.T) {
	type call struct {
		id string
		at time.Time
	}
	var mu sync.Mutex
	var calls []call
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, call{r.Header.Get("webhook-id"), time.Now()})
		if len(calls) <= 2 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(receiver.Close)
	channel := webhookChannel("hook", receiver.URL)
	channel.GetChannel().MaxAttempts = 1
	k := broker(t)
	start(t, dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir()}, definition.Static(definition.NewSnapshot(append(templates(), channel)...))))
	produce(t, k, newSend(1, "hook", "hook"))
	got := reports(t, k, 1)["s1"][0]
	require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, got.GetType())
	require.EqualValues(t, 3, got.GetAttempts())
	require.Len(t, calls, 3)
	for i, c := range calls {
		require.Equal(t, "s1", c.id)
		require.True(t, i == 0 || c.at.Sub(calls[i-1].at) >= time.Second)
	}
}

func TestWhatCannotBeSentIsReported(t *testing.T) {
	receiver := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(receiver.Close)
	k := broker(t)
	start(t, dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir()}, definition.Static(definition.NewSnapshot(append(templates(), webhookChannel("hook", receiver.URL))...))))
	held := newSend(9, "hook", "hook")
	held.Decision = deliveryv1.Decision_DECISION_HELD
	produce(t, k, newSend(1, "hook", "broken"), newSend(2, "hook", "hook"), held)
	got := reports(t, k, 2)
	require.NotContains(t, got, "s9")
	for id, reason := range map[string]string{"s1": "template", "s2": "http_404"} {
		require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_FAILED, got[id][0].GetType())
		require.Equal(t, reason, got[id][0].GetReason())
	}
}

// TestADefinitionThatComesLateIsFound: the journey knew the channel before this instance did.
func TestADefinitionThatComesLateIsFound(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	k, definitions := broker(t), &provider{defs: templates()}
	d := dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir()}, definitions)
	start(t, d)
	produce(t, k, newSend(1, "hook", "hook"))
	require.Eventually(t, func() bool {
		owned := d.owned()
		held := 0
		for _, p := range owned {
			p.mu.Lock()
			held += p.held
			p.mu.Unlock()
		}
		return held == 1
	}, 10*time.Second, 5*time.Millisecond)
	definitions.add(webhookChannel("hook", receiver.URL))
	require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, reports(t, k, 1)["s1"][0].GetType())
}
