// Package webhook sends signed HTTP calls after the Standard Webhooks specification
// (https://www.standardwebhooks.com), with its own library.
//
// `webhook-id` is the send's id on every attempt: the receiver's key to see a repeated call.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/secret"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
)

const (
	defaultTimeout = 10 * time.Second
	// connections are kept to the receiver: as many as a lane makes attempts at once.
	connections = 8
	// longestWish keeps the header's number within what a duration holds.
	longestWish = 24 * time.Hour
)

// Sender sends the calls of one channel.
type Sender struct {
	client *http.Client
	url    string
	signer *standardwebhooks.Webhook
}

// New makes the sender of a channel.
func New(channel *definitionv1.WebhookChannel) (*Sender, error) {
	timeout := defaultTimeout
	if channel.GetTimeout() != "" {
		parsed, err := definition.ParseDuration(channel.GetTimeout())
		if err != nil {
			return nil, fmt.Errorf("reading webhook.timeout: %w", err)
		}
		timeout = parsed
	}
	s := &Sender{url: channel.GetUrl(), client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: connections,
			IdleConnTimeout:     30 * time.Second,
			TLSHandshakeTimeout: timeout,
		},
		// A redirect would send the payload, signed, to an address that nobody defined.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if channel.GetSecretRef() == "" {
		return s, nil
	}
	key, err := secret.Resolve(channel.GetSecretRef())
	if err != nil {
		return nil, err
	}
	if s.signer, err = standardwebhooks.NewWebhook(key.Reveal()); err != nil {
		return nil, fmt.Errorf("reading secret %s: it is no Standard Webhooks secret (whsec_ and base64)", channel.GetSecretRef())
	}
	return s, nil
}

// Send makes one attempt. Errors are *delivery.Failure. now is the time of the wall: receivers refuse
// signatures that are minutes off.
func (s *Sender) Send(ctx context.Context, m delivery.Message, now time.Time) error {
	if m.Webhook == nil {
		return &delivery.Failure{Kind: delivery.Permanent, Reason: "template", Err: errors.New("the template makes no webhook")}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(m.Webhook.Payload))
	if err != nil {
		return &delivery.Failure{Kind: delivery.Permanent, Reason: "bad_url", Err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Sillage")
	req.Header.Set(standardwebhooks.HeaderWebhookID, m.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	if s.signer != nil {
		signature, err := s.signer.Sign(m.ID, now, m.Webhook.Payload)
		if err != nil {
			return &delivery.Failure{Kind: delivery.Permanent, Reason: "signature", Err: err}
		}
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	}
	var begun atomic.Bool // the request began to leave
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { begun.Store(true) },
	}))
	resp, err := s.client.Do(req)
	if err != nil {
		return transport(err, begun.Load())
	}
	defer resp.Body.Close() //nolint:errcheck // nothing more is read
	// What little the answer says is read so that the connection is used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return classify(resp, now)
}

// transport judges an attempt without an answer: if the request never began to leave, nothing was taken.
func transport(err error, begun bool) error {
	if !begun {
		return &delivery.Failure{Kind: delivery.Temporary, Reason: "http_connect", Err: err}
	}
	return &delivery.Failure{Kind: delivery.Ambiguous, Reason: "http_cut", Err: err}
}

func classify(resp *http.Response, now time.Time) error {
	code := resp.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	f := &delivery.Failure{Reason: "http_" + strconv.Itoa(code), Err: fmt.Errorf("the receiver answers %s", resp.Status)}
	switch {
	case code == http.StatusTooManyRequests:
		f.Kind, f.After = delivery.Throttled, retryAfter(resp.Header.Get("Retry-After"), now)
	case code == http.StatusBadGateway || code == http.StatusGatewayTimeout:
		// A gateway answers: what the receiver behind it did nobody heard.
		f.Kind, f.After = delivery.Ambiguous, retryAfter(resp.Header.Get("Retry-After"), now)
	case code == http.StatusRequestTimeout || code >= 500:
		f.Kind, f.After = delivery.Temporary, retryAfter(resp.Header.Get("Retry-After"), now)
	default:
		f.Kind = delivery.Permanent
	}
	return f
}

// retryAfter reads the header's seconds or date; 0 if it says neither.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, longestWish)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), longestWish)
	}
	return 0
}
