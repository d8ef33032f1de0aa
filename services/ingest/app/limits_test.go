package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// Events are limited whatever calls they come in, and by the tenant as well as by the source.
func TestEventsAreLimited(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) {
		c.RateLimit = app.RateLimit{EventsPerSecond: 1, EventBurst: 10}
		c.TenantRateLimit = app.RateLimit{EventsPerSecond: 0.001, EventBurst: 15}
	})
	require.Equal(t, 200, s.post("/v1/batch", webKey, tracks("a", 10)).status)
	got := s.post("/v1/track", webKey, oneTrack)
	require.Equal(t, 429, got.status)
	require.Equal(t, "1", got.header.Get("Retry-After"), "the source's bucket")
	require.Equal(t, 200, s.post("/v1/batch", serverKey, tracks("b", 5)).status, "another source of the tenant has its own")
	got = s.post("/v1/track", serverKey, oneTrack)
	require.Equal(t, 429, got.status, "and the tenant has no more")
	require.Equal(t, "300", got.header.Get("Retry-After"), "whole seconds, at most 300")
	require.Equal(t, "300", got.header.Get("X-RateLimit-Reset"))
	s.clock.Advance(time.Hour)
	require.Equal(t, 200, s.post("/v1/track", webKey, oneTrack).status)
	require.Len(t, s.events(), 16, "nothing of a call that was answered 429")
	require.Empty(t, s.ledger())
}

// One visitor who sends what no person can is refused; the others of the same batch are not.
func TestHotIdentity(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.MaxIdentityEventsPerSecond = 1 }) // 25 at once
	items := make([]string, 0, 60)
	for i := range 30 {
		items = append(items, `{"type":"track","event":"E","userId":"loop"}`, fmt.Sprintf(`{"type":"track","event":"E","userId":"u-%d"}`, i))
	}
	got := s.post("/v1/batch", webKey, `{"batch":[`+strings.Join(items, ",")+`]}`, "X-Sillage-Verbose", "1")
	require.Equal(t, 200, got.status)
	require.Contains(t, got.body, `"accepted":55`)
	require.Len(t, s.ledger(), 5)
	for _, entry := range s.ledger() {
		require.Equal(t, "identity_too_fast", entry.GetReason())
	}
	// A call of its own can be told to come back, and then nothing is lost.
	single := s.post("/v1/track", webKey, `{"event":"E","userId":"loop"}`)
	require.Equal(t, 429, single.status)
	require.Equal(t, "1", single.header.Get("Retry-After"))
	s.clock.Advance(time.Second)
	require.Equal(t, 200, s.post("/v1/track", webKey, `{"event":"E","userId":"loop"}`).status)
	require.Equal(t, 200, s.post("/v1/import", webKey, strings.ReplaceAll(tracks("loop", 50), `"event"`, `"timestamp":"2024-01-01T00:00:00Z","event"`)).status)
	require.Len(t, s.events(), 55+1+50, "history is not held against the bound")
	require.Len(t, s.ledger(), 5)
}

func TestNamesAreBounded(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.MaxEventNames = 2 })
	for _, name := range []string{"A", "B", "A"} {
		require.Equal(t, 200, s.post("/v1/track", webKey, `{"event":"`+name+`","userId":"u"}`).status)
	}
	got := s.post("/v1/track", webKey, `{"event":"C","userId":"u"}`)
	require.Equal(t, http.StatusBadRequest, got.status)
	_, code := got.says(t)
	require.Equal(t, "too_many_names", code)
	require.Equal(t, 200, s.post("/v1/page", webKey, `{"name":"C","userId":"u"}`).status)
	require.Equal(t, 200, s.post("/v1/track", serverKey, `{"event":"C","userId":"u"}`).status, "another source has its own")
	names := map[string]int{}
	for _, ev := range s.events() {
		names[ev.GetName()]++
	}
	require.Equal(t, map[string]int{"A": 2, "B": 1, "C": 1, "(other)": 1}, names)
}

// tracks is a batch of n events of one user.
func tracks(user string, n int) string {
	items := make([]string, n)
	for i := range items {
		items[i] = fmt.Sprintf(`{"type":"track","event":"E","userId":"%s","messageId":"%s-%d"}`, user, user, i)
	}
	return `{"batch":[` + strings.Join(items, ",") + `]}`
}
