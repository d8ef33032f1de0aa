// Package rpc is the gRPC face of control: it checks requests, calls the catalogue within a change of the
// topic, and turns errors into statuses that say which field is wrong and what to do.
package rpc

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/control/internal/catalog"
	"github.com/sillage-cdp/sillage/services/control/internal/topic"
)

// Store is where definitions are.
type Store interface {
	definition.Provider
	// Update decides on a change and writes it.
	Update(ctx context.Context, decide topic.Decide) error
}

// Config bounds the server.
type Config struct {
	Limits catalog.Limits
	// Timeout bounds one change.
	Timeout time.Duration
}

// Server implements controlv1.DefinitionServiceServer.
type Server struct {
	controlv1.UnimplementedDefinitionServiceServer
	cfg     Config
	store   Store
	clock   clock.Clock
	logger  *slog.Logger
	changes metric.Int64Counter
}

// New returns a server on store.
func New(cfg Config, store Store, clk clock.Clock, logger *slog.Logger, meter metric.Meter) (*Server, error) {
	changes, err := meter.Int64Counter("sillage.control.changes", metric.WithUnit("{definition}"),
		metric.WithDescription("Definitions that were created, updated, left unchanged or deleted."))
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, store: store, clock: clk, logger: logger, changes: changes}, nil
}

// ApplyDefinitions validates and stores definitions, all or none.
func (s *Server) ApplyDefinitions(ctx context.Context, req *controlv1.ApplyDefinitionsRequest) (*controlv1.ApplyDefinitionsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if len(req.GetDefinitions()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "definitions: there are none to apply")
	}
	var applied []catalog.Applied
	decide := func(current *definition.Snapshot) ([]topic.Write, error) {
		var err error
		applied, err = catalog.Apply(current, req.GetDefinitions(), s.cfg.Limits, s.clock.Now())
		return writesOf(applied), err
	}
	if req.GetDryRun() {
		if _, err := decide(s.store.Snapshot()); err != nil {
			return nil, toStatus(err)
		}
		return &controlv1.ApplyDefinitionsResponse{Applied: toProto(applied)}, nil
	}
	if err := s.store.Update(ctx, decide); err != nil {
		return nil, s.fail(ctx, err)
	}
	for _, one := range applied {
		s.count(ctx, definition.Kind(one.Definition), changeName(one.Change))
	}
	return &controlv1.ApplyDefinitionsResponse{Applied: toProto(applied)}, nil
}

// GetDefinition is the current version of one definition.
func (s *Server) GetDefinition(_ context.Context, req *controlv1.GetDefinitionRequest) (*controlv1.GetDefinitionResponse, error) {
	id := definition.ID{Tenant: req.GetTenant(), Kind: req.GetKind(), Name: req.GetName()}
	if err := checkID(id); err != nil {
		return nil, err
	}
	def := s.store.Snapshot().Get(id)
	if def == nil {
		return nil, status.Errorf(codes.NotFound, "%s: there is no such definition", id)
	}
	return &controlv1.GetDefinitionResponse{Definition: def}, nil
}

// ListDefinitions is the current versions of all definitions that are asked for, sorted by tenant, kind and name.
func (s *Server) ListDefinitions(_ context.Context, req *controlv1.ListDefinitionsRequest) (*controlv1.ListDefinitionsResponse, error) {
	if kind := req.GetKind(); kind != "" {
		if err := checkKind(kind); err != nil {
			return nil, err
		}
	}
	var found []*definitionv1.Definition
	for _, def := range s.store.Snapshot().All() {
		ofTenant := req.GetTenant() == "" || req.GetTenant() == def.GetTenant()
		ofKind := req.GetKind() == "" || req.GetKind() == definition.Kind(def)
		if ofTenant && ofKind {
			found = append(found, def)
		}
	}
	return &controlv1.ListDefinitionsResponse{Definitions: found}, nil
}

// DeleteDefinition deletes a definition that no other one refers to.
func (s *Server) DeleteDefinition(ctx context.Context, req *controlv1.DeleteDefinitionRequest) (*controlv1.DeleteDefinitionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	id := definition.ID{Tenant: req.GetTenant(), Kind: req.GetKind(), Name: req.GetName()}
	if err := checkID(id); err != nil {
		return nil, err
	}
	err := s.store.Update(ctx, func(current *definition.Snapshot) ([]topic.Write, error) {
		if err := catalog.Delete(current, id); err != nil {
			return nil, err
		}
		return []topic.Write{{ID: id}}, nil
	})
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	s.count(ctx, id.Kind, "deleted")
	return &controlv1.DeleteDefinitionResponse{}, nil
}

// fail is the status of an error, which is logged if the operator rather than the caller can help.
func (s *Server) fail(ctx context.Context, err error) error {
	st := toStatus(err)
	if status.Code(st) == codes.Unavailable {
		s.logger.WarnContext(ctx, "a change of definitions was not stored", slog.Any("error", err))
	}
	return st
}

func (s *Server) count(ctx context.Context, kind, change string) {
	s.changes.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", kind), attribute.String("change", change)))
}
