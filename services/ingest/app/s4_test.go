package app_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// S4: bodies of 100 MB, gzip bombs, 10,000-deep JSON, connections that never finish their headers, and a
// million distinct event names, all at once. What is hostile is refused, what is good goes on, and the
// process grows by less than 64 MB.
func TestS4HostileTraffic(t *testing.T) {
	service, address := child(t, startBroker(t).ListenAddrs())
	defer func() {
		require.NoError(t, service.Process.Kill())
		require.Error(t, service.Wait(), "killed")
	}()
	h := &hostile{t: t, url: "http://" + address, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	defer h.client.CloseIdleConnections()
	quiet := h.good(func(done int) bool { return done < 500 })
	before := resident(t, service.Process.Pid)

	var busy atomic.Bool
	busy.Store(true)
	var most atomic.Int64
	var watch sync.WaitGroup
	watch.Go(func() {
		for look := time.NewTicker(5 * time.Millisecond); busy.Load(); <-look.C {
			most.Store(max(most.Load(), resident(t, service.Process.Pid)))
		}
	})
	var loud []time.Duration
	watch.Go(func() { loud = h.good(func(int) bool { return busy.Load() }) })

	slow := h.slowloris(address, 200)
	bomb := gzippedSpace(t, 100<<20)
	deep := []byte(`{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "}")
	var attack sync.WaitGroup
	var names atomic.Int64
	for part := range 4 {
		attack.Go(func() { names.Add(h.names(part, 250_000)) })
	}
	attack.Go(func() {
		for range 20 {
			h.refused("/v1/batch", string(bomb), "gzip")
			h.refused("/v1/track", string(deep), "")
		}
		for range 3 {
			h.flood(100 << 20)
		}
	})
	attack.Wait()
	busy.Store(false)
	watch.Wait()

	require.EqualValues(t, app.NewDefaultConfig().MaxEventNames-1, names.Load(), "one name was there before")
	grown := most.Load() - before
	t.Logf("resident: %d MB before, %d MB more at most; good traffic p99 %s alone, %s meanwhile (%d calls)",
		before>>20, grown>>20, p99(quiet), p99(loud), len(loud))
	if !raceDetector {
		require.Less(t, grown, int64(64<<20))
	}
	for _, conn := range slow {
		// The server gives up on them; until then they cost a connection each.
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
		_, err := io.ReadAll(conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		_ = conn.Close()
	}
}

// hostile is who attacks, and who goes on as usual.
type hostile struct {
	t      *testing.T
	url    string
	client *http.Client
}

func (h *hostile) post(path string, body io.Reader, encoding string) (status int, text string, err error) {
	req, err := http.NewRequest(http.MethodPost, h.url+path, body)
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth(webKey, "")
	req.Header.Set("X-Sillage-Verbose", "1")
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	res, err := h.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

// retried posts as clients do: a machine that is busy with the attack may have to answer 503 for a moment,
// and asks them to come back.
func (h *hostile) retried(path, body, encoding string) (status int, text string, err error) {
	for range 60 {
		if status, text, err = h.post(path, strings.NewReader(body), encoding); err != nil || status != http.StatusServiceUnavailable {
			return status, text, err
		}
		<-time.After(500 * time.Millisecond)
	}
	return status, text, err
}

// good sends calls as a site does, one after the other, and says how long each took.
func (h *hostile) good(more func(done int) bool) []time.Duration {
	var took []time.Duration
	for i := 0; more(i); i++ {
		begun := time.Now()
		status, answer, err := h.retried("/v1/track", fmt.Sprintf(`{"event":"Order Completed","userId":"good-%d"}`, i), "")
		took = append(took, time.Since(begun))
		if err != nil || status != http.StatusOK {
			h.t.Errorf("a good call was answered %d: %s %v", status, answer, err)
			return took
		}
	}
	return took
}

func (h *hostile) refused(path, body, encoding string) {
	if status, answer, err := h.retried(path, body, encoding); err != nil || status != http.StatusBadRequest {
		h.t.Errorf("a hostile body was answered %d: %s %v", status, answer, err)
	}
}

// flood sends a body without an end in sight. The server closes the connection before all is sent, and either
// side may see that first.
func (h *hostile) flood(size int64) {
	if status, _, err := h.post("/v1/track", &endless{left: size, what: ' '}, ""); err == nil && status != http.StatusBadRequest {
		h.t.Errorf("a body of 100 MB was answered %d", status)
	}
}

// names sends n events, each of a name of its own, and says how many were taken.
func (h *hostile) names(part, n int) (accepted int64) {
	const batch = 2500
	for from := 0; from < n; from += batch {
		var body bytes.Buffer
		body.WriteString(`{"batch":[`)
		for i := from; i < from+batch; i++ {
			if i > from {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"type":"track","event":"n%d-%d","userId":"%d-%d"}`, part, i, part, i)
		}
		body.WriteString(`]}`)
		for {
			status, answer, err := h.post("/v1/batch", bytes.NewReader(body.Bytes()), "")
			if err == nil && status == http.StatusServiceUnavailable {
				continue // asked to come back: Kafka shares this machine
			}
			var said struct{ Accepted int64 }
			if err != nil || status != http.StatusOK || json.Unmarshal([]byte(answer), &said) != nil {
				h.t.Errorf("a batch of names was answered %d: %v", status, err)
				return accepted
			}
			accepted += said.Accepted
			break
		}
	}
	return accepted
}

// slowloris opens connections that begin a request and never end its headers.
func (h *hostile) slowloris(address string, n int) []net.Conn {
	conns := make([]net.Conn, 0, n)
	for range n {
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
		require.NoError(h.t, err)
		_, err = io.WriteString(conn, "POST /v1/track HTTP/1.1\r\nHost: x\r\nX-A: b\r\n")
		require.NoError(h.t, err)
		conns = append(conns, conn)
	}
	return conns
}

func gzippedSpace(t *testing.T, n int64) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := io.Copy(w, &endless{left: n, what: ' '})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// resident is how much memory a process holds, in bytes.
func resident(t *testing.T, pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Error(err)
	}
	return pages * int64(os.Getpagesize())
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}
