// Package rpc answers ProfileService from the serving copy.
package rpc

import (
	"context"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
	"github.com/sillage-cdp/sillage/services/decision/internal/view"
)

// Bounds of what is looked up, in bytes.
const (
	maxTenant     = 128
	maxIdentifier = 1024
)

// Server is ProfileService.
type Server struct {
	decisionv1.UnimplementedProfileServiceServer
	store  *store.Store
	ready  func(context.Context) error
	logger *slog.Logger
}

// New returns the service on a serving copy. While ready returns an error it answers UNAVAILABLE: what has
// not been read yet is not what is not there.
func New(s *store.Store, ready func(context.Context) error, logger *slog.Logger) *Server {
	return &Server{store: s, ready: ready, logger: logger}
}

// GetProfile is the profile behind an identifier.
func (s *Server) GetProfile(ctx context.Context, req *decisionv1.GetProfileRequest) (*decisionv1.GetProfileResponse, error) {
	id := req.GetIdentifier()
	switch {
	case req.GetTenant() == "":
		return nil, status.Error(codes.InvalidArgument, "tenant: must not be empty")
	case strings.Contains(req.GetTenant(), "/") || len(req.GetTenant()) > maxTenant:
		return nil, status.Error(codes.InvalidArgument, "tenant: not the name of a tenant")
	case id.GetNamespace() == "" || id.GetValue() == "":
		return nil, status.Error(codes.InvalidArgument, "identifier: namespace and value must not be empty")
	case len(id.GetNamespace())+len(id.GetValue()) > maxIdentifier:
		return nil, status.Errorf(codes.InvalidArgument, "identifier: longer than %d bytes", maxIdentifier)
	}
	if err := s.ready(ctx); err != nil {
		return nil, status.Errorf(codes.Unavailable, "the serving copy is not complete yet: %v", err)
	}
	resp, found, err := s.read(req)
	if err != nil {
		s.logger.ErrorContext(ctx, "reading a profile failed", slog.Any("error", err))
		return nil, status.Error(codes.Internal, "the serving copy cannot be read")
	}
	if !found {
		return nil, status.Errorf(codes.NotFound, "tenant %s has no profile with this identifier", req.GetTenant())
	}
	return resp, nil
}

func (s *Server) read(req *decisionv1.GetProfileRequest) (*decisionv1.GetProfileResponse, bool, error) {
	profileID := req.GetIdentifier().GetValue()
	if req.GetIdentifier().GetNamespace() != "profile_id" {
		entry, found, err := s.store.Lookup(req.GetTenant(), req.GetIdentifier())
		if err != nil || !found {
			return nil, false, err
		}
		profileID = entry.GetProfileId()
	}
	return view.Read(s.store, req.GetTenant(), profileID)
}
