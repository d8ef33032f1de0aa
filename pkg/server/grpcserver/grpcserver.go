// Package grpcserver serves gRPC as a component, with health, reflection, tracing, bounded messages and
// a handler's panic turned into an INTERNAL error.
package grpcserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// maxMessage bounds a request: the largest is a set of definitions.
const maxMessage = 16 << 20

// Server is a gRPC server as a component.
type Server struct {
	cfg      httpserver.Config
	server   *grpc.Server
	health   *health.Server
	listener net.Listener
	failed   chan error
	done     chan struct{}
}

// New returns a server that is not started. Each register function adds its services.
func New(cfg httpserver.Config, tel telemetry.Providers, logger *slog.Logger, register ...func(grpc.ServiceRegistrar)) *Server {
	stats := otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(tel.Tracer), otelgrpc.WithMeterProvider(tel.Meter), otelgrpc.WithPropagators(tel.Propagator),
		otelgrpc.WithFilter(filters.Not(filters.HealthCheck())),
	)
	server := grpc.NewServer(
		grpc.StatsHandler(stats), grpc.MaxRecvMsgSize(maxMessage),
		grpc.ChainUnaryInterceptor(recoverUnary(logger)), grpc.ChainStreamInterceptor(recoverStream(logger)),
	)
	for _, add := range register {
		add(server)
	}
	checks := health.NewServer()
	healthv1.RegisterHealthServer(server, checks)
	reflection.Register(server)
	return &Server{cfg: cfg, server: server, health: checks, failed: make(chan error, 1), done: make(chan struct{})}
}

// Start listens.
func (s *Server) Start(ctx context.Context) error {
	listener, err := httpserver.Listen(ctx, s.cfg)
	if err != nil {
		return err
	}
	s.listener = listener
	go func() {
		defer close(s.done)
		if err := s.server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.failed <- err
		}
	}()
	return nil
}

// Stop turns health to NOT_SERVING and lets calls in flight finish within ctx.
func (s *Server) Stop(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	s.health.Shutdown()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.server.GracefulStop()
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		s.server.Stop()
		<-finished
	}
	<-s.done
	return nil
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

func recoverUnary(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if r := recover(); r != nil {
				err = panicked(ctx, logger, info.FullMethod, r)
			}
		}()
		return handler(ctx, req)
	}
}

func recoverStream(logger *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = panicked(stream.Context(), logger, info.FullMethod, r)
			}
		}()
		return handler(srv, stream)
	}
}

func panicked(ctx context.Context, logger *slog.Logger, method string, reason any) error {
	logger.ErrorContext(ctx, "handler panicked", slog.String("method", method), slog.Any("panic", reason), slog.String("stack", string(debug.Stack())))
	return status.Error(codes.Internal, "internal error")
}
