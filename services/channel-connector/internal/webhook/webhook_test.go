package webhook_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/webhook"
)

var now = time.Unix(1614265330, 0)

func sender(t *testing.T, channel *definitionv1.WebhookChannel) *webhook.Sender {
	t.Helper()
	s, err := webhook.New(channel)
	require.NoError(t, err)
	return s
}

func message(payload string) delivery.Message {
	return delivery.Message{ID: "s1", Webhook: &delivery.Webhook{Payload: []byte(payload)}}
}

// TestTheSignatureIsThatOfTheSpecification checks the project's own vector and that its library accepts
// what is sent.
func TestTheSignatureIsThatOfTheSpecification(t *testing.T) {
	raw, err := os.ReadFile("testdata/standard_webhooks.json")
	require.NoError(t, err)
	var vector struct {
		Secret, ID, Payload, Signature string
		Timestamp                      int64
	}
	require.NoError(t, json.Unmarshal(raw, &vector))

	var header http.Header
	var body []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
	}))
	defer receiver.Close()
	t.Setenv("WEBHOOK_SECRET", vector.Secret)
	s := sender(t, &definitionv1.WebhookChannel{Url: receiver.URL, SecretRef: "env:WEBHOOK_SECRET"})
	m := delivery.Message{ID: vector.ID, Webhook: &delivery.Webhook{Payload: []byte(vector.Payload)}}
	require.NoError(t, s.Send(t.Context(), m, time.Unix(vector.Timestamp, 0)))
	require.Equal(t, vector.Signature, header.Get("webhook-signature"))
	require.Equal(t, vector.ID, header.Get("webhook-id"))
	require.Equal(t, strconv.FormatInt(vector.Timestamp, 10), header.Get("webhook-timestamp"))
	require.Equal(t, vector.Payload, string(body))

	verifier, err := standardwebhooks.NewWebhook(vector.Secret)
	require.NoError(t, err)
	require.NoError(t, verifier.VerifyIgnoringTimestamp(body, header))
	header.Set("webhook-timestamp", "1614265331")
	require.Error(t, verifier.VerifyIgnoringTimestamp(body, header), "the time is signed as well")
}

func TestAnswersAreToldApart(t *testing.T) {
	for _, try := range []struct {
		code       int
		retryAfter string
		kind       delivery.Kind
		after      time.Duration
	}{
		{429, "7", delivery.Throttled, 7 * time.Second},
		{429, now.Add(90 * time.Second).UTC().Format(http.TimeFormat), delivery.Throttled, 90 * time.Second},
		{429, "soon", delivery.Throttled, 0},
		{429, "-5", delivery.Throttled, 0},
		{429, "2000000000", delivery.Throttled, 24 * time.Hour},
		{503, "3", delivery.Temporary, 3 * time.Second},
		{500, "", delivery.Temporary, 0},
		{408, "", delivery.Temporary, 0},
		{502, "", delivery.Ambiguous, 0},
		{504, "", delivery.Ambiguous, 0},
		{400, "", delivery.Permanent, 0},
		{404, "", delivery.Permanent, 0},
		{410, "", delivery.Permanent, 0},
	} {
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", try.retryAfter)
			w.WriteHeader(try.code)
		}))
		f := delivery.AsFailure(sender(t, &definitionv1.WebhookChannel{Url: receiver.URL}).Send(t.Context(), message("{}"), now))
		receiver.Close()
		require.Equal(t, try.kind, f.Kind, "%+v", try)
		require.Equal(t, try.after, f.After, "%+v", try)
		require.Equal(t, "http_"+strconv.Itoa(try.code), f.Reason)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the payload went elsewhere") }))
	defer elsewhere.Close()
	receiver := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer receiver.Close()
	f := delivery.AsFailure(sender(t, &definitionv1.WebhookChannel{Url: receiver.URL}).Send(t.Context(), message("{}"), now))
	require.Equal(t, delivery.Permanent, f.Kind)
	require.Equal(t, "http_307", f.Reason)
}

func TestOnlyWhatBeganToLeaveIsAmbiguous(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	f := delivery.AsFailure(sender(t, &definitionv1.WebhookChannel{Url: closed}).Send(t.Context(), message("{}"), now))
	require.Equal(t, delivery.Temporary, f.Kind, "nobody was there")

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	f = delivery.AsFailure(sender(t, &definitionv1.WebhookChannel{Url: "https://" + plain.Listener.Addr().String()}).Send(t.Context(), message("{}"), now))
	require.Equal(t, delivery.Temporary, f.Kind, "TLS did not come about")

	silent := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-silent
	}))
	defer receiver.Close()
	defer close(silent)
	f = delivery.AsFailure(sender(t, &definitionv1.WebhookChannel{Url: receiver.URL, Timeout: "1s"}).Send(t.Context(), message("{}"), now))
	require.Equal(t, delivery.Ambiguous, f.Kind, "no answer within the channel's time-out")
}

func TestABadSecretIsNamedAndNotShown(t *testing.T) {
	t.Setenv("WEBHOOK_SECRET", "whsec_not base64!")
	_, err := webhook.New(&definitionv1.WebhookChannel{Url: "http://x", SecretRef: "env:WEBHOOK_SECRET"})
	require.ErrorContains(t, err, "env:WEBHOOK_SECRET")
	require.NotContains(t, err.Error(), "not base64!")
}
