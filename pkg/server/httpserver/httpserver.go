// Package httpserver serves an http.Handler with the time-outs and bounds that a public port needs, as
// a component: it listens when started and drains when stopped.
//
// A stop breaks no request: new connections are refused first, then every open connection is told with
// its next answer that it is closed, and only those that stay idle are cut. TestStopBreaksNoRequest
// would catch the loss of this.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// Config is one listener.
type Config struct {
	// Name is what logs and errors call the port: `ingest HTTP`.
	Name string
	// Addr is `host:port`; port 0 takes a free one.
	Addr string
	// Setting is the key that changes Addr, for the error of a port in use.
	Setting string
}

// drainFor bounds the time in which open connections are told that they are closed: a client under load
// sends its next request long before, and one that is idle so long has none on its way.
const drainFor = 500 * time.Millisecond

// Server is an HTTP server as a component.
type Server struct {
	cfg      Config
	server   *http.Server
	listener net.Listener
	stopping atomic.Bool  // from the first Stop on
	draining atomic.Bool  // once the port is closed
	open     atomic.Int64 // connections
	failed   chan error
	done     chan struct{}
}

// New returns a server that is not started. A slow sender has 10 s for its headers and a minute for its
// body; an idle connection is kept for two minutes.
func New(cfg Config, handler http.Handler, logger *slog.Logger) *Server {
	s := &Server{cfg: cfg, failed: make(chan error, 1), done: make(chan struct{})}
	s.server = &http.Server{
		Handler:           s.farewell(handler),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		ConnState:         s.count,
	}
	return s
}

// farewell closes each connection with its next answer once the server drains.
func (s *Server) farewell(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// count keeps the number of open connections.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}

// Start listens.
func (s *Server) Start(ctx context.Context) error {
	listener, err := Listen(ctx, s.cfg)
	if err != nil {
		return err
	}
	s.listener = listener
	go func() {
		defer close(s.done)
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) && !s.stopping.Load() {
			s.failed <- err
		}
	}()
	return nil
}

// Stop closes the port, answers the requests of open connections and closes these, all within ctx.
func (s *Server) Stop(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	if !s.stopping.Swap(true) {
		// The port closes before anybody is sent away: who came back to a port that is about to close
		// would wait in a queue that nobody serves.
		_ = s.listener.Close() // only an earlier close can fail it
		// Until Serve has noticed, Shutdown would close the port once more and fail.
		<-s.done
		s.draining.Store(true)
		s.drain(ctx)
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	return err
}

// drain waits until no connection is open, or for drainFor.
func (s *Server) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for s.open.Load() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// Ready is nil once the port is open.
func (s *Server) Ready(context.Context) error {
	if s.listener == nil {
		return errors.New("not listening yet")
	}
	return nil
}

// Failed tells of a server that stopped by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Addr is the address that the server listens on, once started.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Listen opens a TCP port with an error that names the port and the way out.
func Listen(ctx context.Context, cfg Config) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listening for %s: %s is in use by another program: stop it or set %s", cfg.Name, cfg.Addr, cfg.Setting)
	}
	if err != nil {
		return nil, fmt.Errorf("listening for %s on %s (set %s): %w", cfg.Name, cfg.Addr, cfg.Setting, err)
	}
	return listener, nil
}
