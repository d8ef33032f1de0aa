package app_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// endless is a body that goes on for n bytes of one byte.
type endless struct {
	left int64
	what byte
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.left)
	if n > 0 {
		p[0] = e.what
		for done := 1; done < int(n); done *= 2 { // doubling: copy is quick under the race detector, too
			copy(p[done:n], p[:done])
		}
	}
	e.left -= n
	return int(n), nil
}

func TestHostileBodies(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, err := io.Copy(w, &endless{left: 100 << 20, what: ' '})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, bomb.Len(), 500<<10)
	gz := []string{"Content-Encoding", "gzip"}

	cases := map[string]struct {
		path    string
		body    func() io.Reader
		headers []string
		code    string
	}{
		"gzip bomb":               {"/v1/batch", func() io.Reader { return bytes.NewReader(bomb.Bytes()) }, gz, "bad_encoding"},
		"gzip bomb to import":     {"/v1/import", func() io.Reader { return bytes.NewReader(bomb.Bytes()) }, gz, "bad_encoding"},
		"no gzip":                 {"/v1/track", func() io.Reader { return strings.NewReader(oneTrack) }, gz, "bad_encoding"},
		"gzip cut off":            {"/v1/track", func() io.Reader { return bytes.NewReader(gzipped(t, oneTrack).Bytes()[:30]) }, gz, "bad_encoding"},
		"unknown encoding":        {"/v1/track", func() io.Reader { return strings.NewReader(oneTrack) }, []string{"Content-Encoding", "br"}, "bad_encoding"},
		"too large once inflated": {"/v1/batch", func() io.Reader { return gzipped(t, `{"batch":[`+manyItems()+`]}`) }, gz, "body_too_large"},
		"10,000 deep": {"/v1/track", func() io.Reader {
			return strings.NewReader(`{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}")
		}, nil, "too_deep"},
		"a million deep":   {"/v1/import", func() io.Reader { return strings.NewReader(strings.Repeat("[", 1_000_000)) }, nil, "too_deep"},
		"many empty items": {"/v1/batch", func() io.Reader { return strings.NewReader(`{"batch":[` + strings.Repeat("{},", 100_000) + "{}]}") }, nil, "batch_too_long"},
		"context fanned out": {"/v1/batch", func() io.Reader {
			return strings.NewReader(`{"context":{"x":"` + strings.Repeat("x", 100_000) + `"},"batch":[` + strings.Repeat("{},", 2000) + "{}]}")
		}, nil, "root_too_large"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := s.do(http.MethodPost, c.path, webKey, c.body(), c.headers...)
			require.Equal(t, 400, got.status)
			_, code := got.says(t)
			require.Equal(t, c.code, code)
		})
	}
	require.Len(t, s.ledger(), len(cases))
	require.Equal(t, 200, s.post("/v1/track", webKey, oneTrack).status)
}

// manyItems is about 1.7 MB of items that differ, so that they do not inflate too far.
func manyItems() string {
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, `{"type":"track","event":"E","userId":"%x","messageId":"%x"},`, i*2654435761, i*40503)
	}
	return b.String() + `{}`
}

// 100 MB that nobody announced, and bodies that are announced and never come, take hardly any memory.
func TestLargeBodiesTakeLittleMemory(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	require.Equal(t, 200, s.post("/v1/track", webKey, oneTrack).status)
	before := heap()
	for range 3 {
		// The server closes the connection before the client has sent all; either side may see that first.
		req, err := http.NewRequest(http.MethodPost, s.server.URL+"/v1/track", &endless{left: 100 << 20, what: ' '})
		require.NoError(t, err)
		req.SetBasicAuth(webKey, "")
		if res, err := s.server.Client().Do(req); err == nil {
			require.Equal(t, 400, res.StatusCode)
			require.NoError(t, res.Body.Close())
		}
	}
	for range 200 {
		conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprint(conn, "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2tfd2ViXzAxMjM0NTY3ODk6\r\nContent-Length: 500000\r\n\r\n{")
		require.NoError(t, err)
	}
	require.Equal(t, 200, s.post("/v1/track", webKey, oneTrack).status, "good traffic goes on")
	require.Less(t, heap()-before, int64(32<<20))
	require.Equal(t, 400, s.do(http.MethodPost, "/v1/track", "", strings.NewReader(strings.Repeat(" ", 600_000))).status, "without a key, too")
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What all bodies together may take is bounded; beyond it a client is asked to come back.
func TestBytesInFlightAreBounded(t *testing.T) {
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), func(c *app.Config) { c.MaxInFlightBytes = 32 << 20 })
	body := "POST /v1/import HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2tfd2ViXzAxMjM0NTY3ODk6\r\nContent-Length: 8000000\r\n\r\n" + strings.Repeat(" ", 7_900_000)
	// Each connection holds 8 MiB and waits for the rest of its body, until one is refused itself; what
	// the small request holds for a moment may cost a connection its last doubling, so there may be many.
	for range 50 {
		conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, _ = io.WriteString(conn, body) // one that is refused is closed while it writes
		if got := s.post("/v1/track", webKey, oneTrack); got.status == 503 {
			require.Equal(t, "1", got.header.Get("Retry-After"))
			return
		}
	}
	require.Fail(t, "400 MB are held and nothing was refused")
}
