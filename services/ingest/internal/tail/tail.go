// Package tail shows what comes in, live: accepted events from the event topic and the others from the
// ledger, each with its reason.
//
// It promises: a client sees entries of its tenant alone, and personal data only if it asks for the payload
// (TestTailShowsOneTenant); a client that cannot keep up, or asks for less, holds up nobody and is told how
// many entries it missed (TestTailIsBounded). Each client reads Kafka by itself from now on, through any
// number of ingest instances; MaxTails bounds them.
package tail

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/topics"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
)

// MaxTails bounds the clients of one instance.
const MaxTails = 16

// Bounds of a request.
const (
	defaultPerSecond = 100
	maxPerSecond     = 10_000
	maxName          = 1024
)

// Server is TailService.
type Server struct {
	ingestv1.UnimplementedTailServiceServer
	kafka  kafka.Config
	logger *slog.Logger
	places chan struct{}
}

// New returns the service on a Kafka.
func New(brokers kafka.Config, logger *slog.Logger) *Server {
	return &Server{kafka: brokers, logger: logger, places: make(chan struct{}, MaxTails)}
}

// Tail shows what comes in from now on.
func (s *Server) Tail(req *ingestv1.TailRequest, out grpc.ServerStreamingServer[ingestv1.TailResponse]) error {
	if err := check(req); err != nil {
		return err
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d clients look on already", MaxTails)
	}
	client, err := s.fromNow(out.Context())
	if err != nil {
		return status.Errorf(codes.Unavailable, "reaching Kafka: %v", err)
	}
	defer client.Close()
	// The client knows by the header that nothing that comes in from here on is missed.
	if err := out.SendHeader(nil); err != nil {
		return err //nolint:wrapcheck // a status already
	}
	return s.follow(req, client, out)
}

// fromNow reads what is written after the call.
func (s *Server) fromNow(ctx context.Context) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(s.kafka.Options(s.logger), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(4<<20))...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topics.Events, topics.Ledger)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("looking up where topics end: %w", err)
	}
	client.AddConsumePartitions(ends.KOffsets())
	return client, nil
}

func check(req *ingestv1.TailRequest) error {
	switch {
	case req.GetTenant() == "":
		return status.Error(codes.InvalidArgument, "tenant: must not be empty")
	case strings.Contains(req.GetTenant(), "/") || len(req.GetTenant()) > maxName:
		return status.Error(codes.InvalidArgument, "tenant: not the name of a tenant")
	case len(req.GetSource()) > maxName || len(req.GetName()) > maxName:
		return status.Errorf(codes.InvalidArgument, "source, name: longer than %d bytes", maxName)
	case req.GetPerSecond() < 0 || req.GetPerSecond() > maxPerSecond:
		return status.Errorf(codes.InvalidArgument, "per_second: %d is not between 0 and %d", req.GetPerSecond(), maxPerSecond)
	}
	return nil
}

// follow sends entries until the client goes.
func (s *Server) follow(req *ingestv1.TailRequest, client *kgo.Client, out grpc.ServerStreamingServer[ingestv1.TailResponse]) error {
	perSecond := int(req.GetPerSecond())
	if perSecond == 0 {
		perSecond = defaultPerSecond
	}
	limit := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	show, skipped := filter{req}, int64(0)
	for {
		fetches := client.PollRecords(out.Context(), 1000)
		if out.Context().Err() != nil {
			return nil //nolint:nilerr // the client has seen enough
		}
		for _, fetchErr := range fetches.Errors() {
			s.logger.WarnContext(out.Context(), "reading Kafka for a tail; going on", slog.String("topic", fetchErr.Topic), slog.Any("error", fetchErr.Err))
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			entry, err := show.entry(iter.Next())
			if err != nil || entry == nil {
				continue // what cannot be decoded stands among the dead letters
			}
			if !limit.Allow() {
				skipped++
				continue
			}
			entry.Skipped, skipped = skipped, 0
			if err := out.Send(entry); err != nil {
				return err //nolint:wrapcheck // a status already
			}
		}
	}
}
