package grpcapi

import (
	"context"
	"encoding/base64"
	"net"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// Server is IntakeService. It is safe for concurrent use.
type Server struct {
	ingestv1.UnimplementedIntakeServiceServer
	intake *intake.Intake
}

// New returns the service in front of an intake.
func New(in *intake.Intake) *Server { return &Server{intake: in} }

// Take takes the events of one request.
func (s *Server) Take(ctx context.Context, req *ingestv1.TakeRequest) (*ingestv1.TakeResponse, error) {
	events := appendSent(nil, req)
	got, _ := s.take(ctx, caller(ctx), events, lane{historical: req.GetHistorical()})
	if got.Kind != intake.Taken {
		return nil, failure(got)
	}
	return &ingestv1.TakeResponse{Acknowledgements: acknowledge(events, got.Outcome)}, nil
}

// who is a caller, as the metadata and the connection tell.
type who struct {
	key  string
	two  bool // it names two keys that differ
	from intake.From
}

func caller(ctx context.Context) who {
	md, _ := metadata.FromIncomingContext(ctx)
	w := who{from: intake.From{Server: true, UserAgent: first(md, "user-agent")}}
	if p, ok := peer.FromContext(ctx); ok {
		if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
			w.from.Address = host
		}
	}
	basic := basicKey(first(md, "authorization"))
	w.key = strings.TrimSpace(first(md, "x-write-key"))
	if w.two = w.key != "" && basic != "" && w.key != basic; w.key == "" {
		w.key = basic
	}
	return w
}

func first(md metadata.MD, name string) string {
	if values := md.Get(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

func basicKey(header string) string {
	scheme, value, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(value), "="))
	if err != nil {
		return ""
	}
	key, _, _ := strings.Cut(string(decoded), ":")
	return strings.TrimSpace(key)
}

// lane is how events come.
type lane struct {
	historical bool
	// divisible is true for the events of several requests, of which each may pass by itself.
	divisible bool
}

// take gives events to the intake as one call. divide is true if they are too many bytes for one, and
// nothing came of it: each of their requests is to be taken by itself.
func (s *Server) take(ctx context.Context, w who, events []sent, as lane) (result intake.Result, divide bool) {
	kind := wire.Batch
	if as.historical {
		kind = wire.Import
	}
	call, ok := s.intake.Begin(ctx, kind, w.from)
	if !ok {
		return intake.Stopping(), false
	}
	defer call.End()
	switch {
	case w.two:
		s.intake.Denied(ctx, intake.TwoKeys)
		return intake.Result{Kind: intake.Denied, Denial: intake.TwoKeys}, false
	case w.key == "":
		s.intake.Denied(ctx, intake.NoKey)
		return intake.Result{Kind: intake.Denied, Denial: intake.NoKey}, false
	}
	if r, ok := call.Authenticate(w.key); !ok {
		return r, false
	}
	size, most := int64(sizeOf(events)), call.BodyLimit()
	switch {
	case size > int64(most) && as.divisible:
		return intake.Result{}, true
	case size > int64(most):
		return call.Refuse(intake.TooLarge(most)), false
	}
	// The JSON is larger than the message by its field names, at most by as much again.
	size = 2*size + int64(len(events))*eventOverhead
	if !s.intake.Budget().Take(size) {
		return intake.Full(), false
	}
	defer s.intake.Budget().Give(size)
	body := appendBatch(make([]byte, 0, size), events)
	if as.divisible && len(body) > most {
		return intake.Result{}, true
	}
	return call.Take(body, w.key), false
}

// eventOverhead is what the names of fields and a time take in JSON.
const eventOverhead = 256

func sizeOf(events []sent) (n int) {
	for _, ev := range events {
		n += ev.SizeVT()
	}
	return n
}

// acknowledge says of each event what became of it.
func acknowledge(events []sent, out *wire.Outcome) []*ingestv1.Acknowledgement {
	acks := make([]*ingestv1.Acknowledgement, len(events))
	for i, ev := range events {
		acks[i] = &ingestv1.Acknowledgement{MessageId: ev.GetMessageId(), Accepted: true}
	}
	for _, r := range out.Rejections {
		if r.Index < len(acks) {
			acks[r.Index].Accepted, acks[r.Index].Code, acks[r.Index].Detail = false, string(r.Code), r.Detail
		}
	}
	return acks
}

// reasons of denials, for people.
var reasons = map[intake.Denial]string{
	intake.UnknownKey:    "invalid write key",
	intake.NoKey:         "no write key: send it as x-write-key in the metadata",
	intake.TwoKeys:       "the metadata names different write keys: send one",
	intake.Disabled:      "the source is disabled",
	intake.ForeignOrigin: "the source takes nothing from this origin",
}

// reason is what a client is told of a call that was not taken.
func reason(r intake.Result) string {
	switch r.Kind {
	case intake.Denied:
		return reasons[r.Denial]
	case intake.TooFast:
		return "too much is sent at once; send it again later"
	default:
		return r.Problem.Detail
	}
}

// failure is the status of a call that was not taken.
func failure(r intake.Result) error {
	code := codes.Unavailable
	switch r.Kind {
	case intake.Denied:
		code = codes.Unauthenticated
		if r.Denial == intake.Disabled {
			code = codes.NotFound
		}
	case intake.TooFast:
		code = codes.ResourceExhausted
	case intake.Refused:
		code = codes.InvalidArgument
	case intake.Busy, intake.Taken: // Taken is no failure
	}
	s := status.New(code, reason(r))
	if r.Wait > 0 {
		// Details that cannot be added leave the status as it is.
		if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(max(r.Wait, time.Millisecond))}); err == nil {
			s = detailed
		}
	}
	return s.Err()
}
