package rpc

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sillage-cdp/sillage/pkg/definition"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	"github.com/sillage-cdp/sillage/services/control/internal/catalog"
	"github.com/sillage-cdp/sillage/services/control/internal/topic"
)

// maxViolations is how many errors an answer spells out.
const maxViolations = 100

// toStatus gives an error its gRPC code. Wrong fields are named one by one in the details.
func toStatus(err error) error {
	var inUse *catalog.InUseError
	fields := definition.FieldErrors(err)
	switch {
	case len(fields) > 0:
		return invalid(fields)
	case errors.Is(err, catalog.ErrTooMany):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, catalog.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.As(err, &inUse):
		return status.Error(codes.FailedPrecondition, inUse.Error())
	case errors.Is(err, topic.ErrBusy):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Errorf(codes.Unavailable, "%s (the change may or may not have been stored: applying it again is safe)", err)
	default:
		return status.Errorf(codes.Unavailable, "storing the definitions: %s", err)
	}
}

func invalid(fields []*definition.FieldError) error {
	details := &errdetails.BadRequest{}
	var lines []string
	for _, field := range fields[:min(maxViolations, len(fields))] {
		lines = append(lines, field.Error())
		details.FieldViolations = append(details.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: field.Definition.String() + ": " + field.Path, Description: field.Problem,
		})
	}
	st := status.New(codes.InvalidArgument, strings.Join(lines, "\n"))
	if detailed, err := st.WithDetails(details); err == nil {
		st = detailed
	}
	return st.Err()
}

func checkID(id definition.ID) error {
	if id.Tenant == "" || id.Name == "" {
		return status.Error(codes.InvalidArgument, "tenant, kind and name are all needed")
	}
	return checkKind(id.Kind)
}

func checkKind(kind string) error {
	if !slices.Contains(definition.Kinds(), kind) {
		return status.Errorf(codes.InvalidArgument, "kind: %q is not one of %s", kind, strings.Join(definition.Kinds(), ", "))
	}
	return nil
}

// writesOf is the records of what changed.
func writesOf(applied []catalog.Applied) []topic.Write {
	var writes []topic.Write
	for _, one := range applied {
		if one.Change != catalog.Unchanged {
			writes = append(writes, topic.Write{ID: definition.IDOf(one.Definition), Definition: one.Definition})
		}
	}
	return writes
}

func toProto(applied []catalog.Applied) []*controlv1.AppliedDefinition {
	out := make([]*controlv1.AppliedDefinition, 0, len(applied))
	for _, one := range applied {
		out = append(out, &controlv1.AppliedDefinition{
			Tenant: one.Definition.GetTenant(), Kind: definition.Kind(one.Definition), Name: one.Definition.GetName(),
			Version: one.Definition.GetVersion(), Change: toChange(one.Change),
		})
	}
	return out
}

func toChange(change catalog.Change) controlv1.Change {
	switch change {
	case catalog.Created:
		return controlv1.Change_CHANGE_CREATED
	case catalog.Updated:
		return controlv1.Change_CHANGE_UPDATED
	case catalog.Unchanged:
		return controlv1.Change_CHANGE_UNCHANGED
	default:
		return controlv1.Change_CHANGE_UNSPECIFIED
	}
}

func changeName(change catalog.Change) string {
	return strings.ToLower(strings.TrimPrefix(toChange(change).String(), "CHANGE_"))
}
