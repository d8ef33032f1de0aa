package scenarios

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// callSecret signs the tasks of the call centre, in the form of the Standard Webhooks specification.
var callSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two bytes !!!"))

// call is one webhook that arrived.
type call struct {
	ID     string
	Signed bool
	Type   string
	Data   map[string]any
}

// callCentre is a receiver of webhooks that checks signatures by the letter of the specification.
type callCentre struct {
	server *httptest.Server
	mu     sync.Mutex // guards calls
	calls  []call
}

func newCallCentre(t testing.TB) *callCentre {
	c := &callCentre{}
	c.server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.server.Close)
	return c
}

func (c *callCentre) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var payload struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(body, &payload); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call{ID: r.Header.Get("webhook-id"), Signed: signed(r.Header, body), Type: payload.Type, Data: payload.Data})
}

// signed is the specification's check: one of the space-separated `v1,` signatures is the base64 of
// HMAC-SHA256 over id, time stamp and body, joined by dots, with the decoded secret as key.
func signed(h http.Header, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(callSecret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, h.Get("webhook-id")+"."+h.Get("webhook-timestamp")+".") // a hash never fails
	_, _ = mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for given := range strings.FieldsSeq(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(given), []byte(want)) {
			return true
		}
	}
	return false
}

func (c *callCentre) all() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]call(nil), c.calls...)
}
