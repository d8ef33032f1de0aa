package trackhttp_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/trackhttp"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

const (
	person = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"
	base   = "http://t.example"
)

// scene is a handler, the links of one send, and what was reported.
type scene struct {
	handler  http.Handler
	links    tracking.Linker
	reported []*deliveryv1.Outcome
	down     bool
}

func newScene(t *testing.T) *scene {
	t.Helper()
	signer, err := tracking.NewSigner(bytes.Repeat([]byte{3}, 32))
	require.NoError(t, err)
	s := &scene{links: tracking.NewLinker(signer, base, &deliveryv1.Send{SendId: "s1", Tenant: "demo", ProfileId: "p1", Channel: "email"})}
	report := func(_ context.Context, o *deliveryv1.Outcome) error {
		if s.down {
			return errors.New("no broker")
		}
		s.reported = append(s.reported, o)
		return nil
	}
	s.handler, err = trackhttp.New(signer, report, clock.NewManual(time.UnixMilli(1000)), telemetry.Nop().Meter.Meter("test"))
	require.NoError(t, err)
	return s
}

func (s *scene) call(method, link, agent string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, strings.TrimPrefix(link, base), nil)
	r.Header.Set("User-Agent", agent)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func must(t *testing.T) func(string, error) string {
	return func(link string, err error) string {
		t.Helper()
		require.NoError(t, err)
		return link
	}
}

func TestAnOpenIsReportedAndShowsAPixel(t *testing.T) {
	s := newScene(t)
	w := s.call("GET", must(t)(s.links.Open()), person)
	require.Equal(t, "image/gif", w.Header().Get("Content-Type"))
	require.Len(t, s.reported, 1)
	require.Equal(t, "s1:opened", s.reported[0].GetOutcomeId())
	require.EqualValues(t, 1000, s.reported[0].GetAtMs())
}

func TestAClickLeadsOnEvenWhenKafkaIsAway(t *testing.T) {
	s := newScene(t)
	link := must(t)(s.links.Click("https://bank.example/resume"))
	for _, down := range []bool{false, true} {
		s.down = down
		w := s.call("GET", link, person)
		require.Equal(t, http.StatusFound, w.Code)
		require.Equal(t, "https://bank.example/resume", w.Header().Get("Location"))
	}
	require.Len(t, s.reported, 1)
}

func TestAMachineIsMarked(t *testing.T) {
	s := newScene(t)
	s.call("GET", must(t)(s.links.Open()), "curl/8.0")
	require.True(t, s.reported[0].GetMachine())
}

func TestOnlyAButtonUnsubscribes(t *testing.T) {
	s := newScene(t)
	link := must(t)(s.links.Unsubscribe())
	require.Contains(t, s.call("GET", link, person).Body.String(), "<form")
	require.Empty(t, s.reported)
	require.Equal(t, http.StatusOK, s.call("POST", link, "").Code, "mail programs send the one-click POST")
	require.Equal(t, "s1:unsubscribed", s.reported[0].GetOutcomeId())
}

func TestAnUnsubscriptionIsNeverLostSilently(t *testing.T) {
	s := newScene(t)
	s.down = true
	w := s.call("POST", must(t)(s.links.Unsubscribe()), person)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

func TestAForeignTokenDoesNothing(t *testing.T) {
	s := newScene(t)
	click := must(t)(s.links.Click("https://bank.example"))
	for _, link := range []string{base + "/t/c/abc", strings.Replace(click, "/t/c/", "/t/u/", 1)} {
		require.Equal(t, http.StatusNotFound, s.call("GET", link, person).Code, link)
	}
	require.Equal(t, http.StatusOK, s.call("GET", base+"/t/o/abc", person).Code, "a broken pixel would show in the mail")
	require.Empty(t, s.reported)
}
