// Package httpserver serves an http.Handler with the time-outs and bounds that a public port needs, as
// a component: it listens when started and drains when stopped.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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

// Server is an HTTP server as a component.
type Server struct {
	cfg      Config
	server   *http.Server
	listener net.Listener
	failed   chan error
	done     chan struct{}
}

// New returns a server that is not started. A slow sender has 10 s for its headers and a minute for its
// body; an idle connection is kept for two minutes.
func New(cfg Config, handler http.Handler, logger *slog.Logger) *Server {
	return &Server{
		cfg: cfg,
		server: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       time.Minute,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		failed: make(chan error, 1),
		done:   make(chan struct{}),
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
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return nil
}

// Stop answers the requests in flight within ctx and closes the port.
func (s *Server) Stop(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	<-s.done
	return err
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
