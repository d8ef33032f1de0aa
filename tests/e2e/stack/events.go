package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/stretchr/testify/require"
)

// Event is a call of the tracking API, as its JSON.
type Event map[string]any

// Answer is what ingest says to a call.
type Answer struct {
	Code       int
	RetryAfter string
	Body       string
}

// Post sends one call to ingest. The error is of the connection.
func (s *Stack) Post(ctx context.Context, key, path string, body any, headers ...string) (Answer, error) {
	return s.PostTo(ctx, s.Ports.HTTP, key, path, body, headers...)
}

// PostTo is Post to an ingest at another address.
func (s *Stack) PostTo(ctx context.Context, addr, key, path string, body any, headers ...string) (Answer, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return Answer{}, fmt.Errorf("encoding the body: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(raw))
	if err != nil {
		return Answer{}, fmt.Errorf("making the request: %w", err)
	}
	req.SetBasicAuth(key, "")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("posting: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return Answer{Code: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After"), Body: string(text)}, nil
}

// Send sends events in one batch and fails the test unless all are taken.
func (s *Stack) Send(t require.TestingT, key string, events ...Event) {
	answer, err := s.Post(context.Background(), key, "/v1/batch", map[string]any{"batch": events}, "X-Sillage-Verbose", "1")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Code, answer.Body)
	var got struct{ Accepted int }
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &got))
	require.Equal(t, len(events), got.Accepted, answer.Body)
}

// Get reads a page of the stack, or of anything else, and returns its body and status.
func (s *Stack) Get(t require.TestingT, url string) (string, int) {
	resp, err := s.Client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text), resp.StatusCode
}
