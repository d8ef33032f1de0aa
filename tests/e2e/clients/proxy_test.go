//go:build clients

package clients

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// fault is what happens to one request that carries events.
type fault int

const (
	// throttle answers 429 with both headers; the request goes nowhere.
	throttle fault = iota
	// lose hands the request on and answers 503, as if the answer had been lost: the client must send again.
	lose
	// fail answers 500; the request goes nowhere.
	fail
)

func (f fault) status() int {
	return [...]int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInternalServerError}[f]
}

// proxy stands between one client and ingest.
type proxy struct {
	*httptest.Server
	next http.Handler

	mu      sync.Mutex // guards below
	faults  []fault    // still to come, one a request
	doubled int        // requests whose answer was lost
	paths   map[string]int
}

func newProxy(t *testing.T, ingest string, faults []fault) *proxy {
	t.Helper()
	target, err := url.Parse("http://" + ingest)
	require.NoError(t, err)
	p := &proxy{faults: faults, paths: map[string]int{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	p.next = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // settings name the host that was asked
		},
		Transport: transport,
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		p.next.ServeHTTP(w, r)
		return
	}
	f, faulty := p.take(r.URL.Path)
	if !faulty {
		p.next.ServeHTTP(w, r)
		return
	}
	if f == lose {
		p.next.ServeHTTP(httptest.NewRecorder(), r)
	} else {
		_, _ = io.Copy(io.Discard, r.Body) // as a server that is busy would
	}
	if origin := r.Header.Get("Origin"); origin != "" { // as ingest grants it
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After, X-RateLimit-Reset")
	}
	if f == throttle {
		w.Header().Set("X-RateLimit-Reset", "1")
	}
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(f.status())
}

// take counts a request and draws its fault.
func (p *proxy) take(path string) (fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paths[path]++
	if len(p.faults) == 0 {
		return 0, false
	}
	f := p.faults[0]
	p.faults = p.faults[1:]
	if f == lose {
		p.doubled++
	}
	return f, true
}

// left is how many faults nobody has met.
func (p *proxy) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.faults)
}
