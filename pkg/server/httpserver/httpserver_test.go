package httpserver_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
)

func start(t *testing.T, handler http.Handler) *httpserver.Server {
	s := httpserver.New(httpserver.Config{Name: "test", Addr: "127.0.0.1:0", Setting: "test.addr"}, handler, slog.New(slog.DiscardHandler))
	require.NoError(t, s.Start(t.Context()))
	return s
}

// TestStopBreaksNoRequest stops a server under load of clients that keep their connections: each request
// is either answered or its connection refused.
func TestStopBreaksNoRequest(t *testing.T) {
	for range 5 {
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body) // the client judges
		}))
		var answered atomic.Int64
		var group errgroup.Group
		for range 8 {
			group.Go(func() error { return postUntilRefused(s.Addr(), &answered) })
		}
		require.Eventually(t, func() bool { return answered.Load() > 500 }, 10*time.Second, time.Millisecond)
		require.NoError(t, s.Stop(t.Context()))
		require.NoError(t, group.Wait())
		require.NoError(t, s.Stop(t.Context()), "a second stop")
	}
}

func postUntilRefused(addr string, answered *atomic.Int64) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	for {
		resp, err := client.Post("http://"+addr, "text/plain", strings.NewReader("hello"))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || string(text) != "hello" {
			return errors.Join(err, errors.New("a broken answer"))
		}
		answered.Add(1)
	}
}

func TestStopIsBoundedByItsContext(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-leave
	}))
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if resp, err := http.Get("http://" + s.Addr()); err == nil {
			_ = resp.Body.Close() // only that it ends matters
		}
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Stop(ctx), context.DeadlineExceeded)
	close(leave)
	<-answered
}

func TestPortInUseNamesTheWayOut(t *testing.T) {
	first := start(t, http.NotFoundHandler())
	defer first.Stop(t.Context()) // its error is judged elsewhere
	second := httpserver.New(httpserver.Config{Name: "test", Addr: first.Addr(), Setting: "test.addr"}, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	err := second.Start(t.Context())
	require.ErrorContains(t, err, first.Addr()+" is in use by another program")
	require.ErrorContains(t, err, "set test.addr")
	require.NoError(t, second.Stop(t.Context()))
}

// TestStopOfAnIdleServer stops servers that wait for a connection: the port is closed once.
func TestStopOfAnIdleServer(t *testing.T) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 200 {
		s := start(t, http.NotFoundHandler())
		resp, err := client.Get("http://" + s.Addr())
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.NoError(t, s.Stop(t.Context()))
		require.NoError(t, s.Stop(t.Context()), "a second stop does nothing")
	}
}
