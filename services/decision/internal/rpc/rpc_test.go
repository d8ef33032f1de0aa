package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sillage-cdp/sillage/pkg/topics"
	decisionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/decision/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/decision/internal/rpc"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
	"github.com/sillage-cdp/sillage/services/decision/internal/view"
)

var logger = slog.New(slog.DiscardHandler)

func ready(context.Context) error { return nil }

// filled is a copy of n profiles p0… with the e-mail e0…, a few traits, segments and scores each.
func filled(t testing.TB, n int) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), 64<<20)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	batch := s.NewBatch()
	apply := func(topic string, m interface{ MarshalVT() ([]byte, error) }) {
		raw, err := m.MarshalVT()
		require.NoError(t, err)
		require.NoError(t, view.Apply(batch, topic, raw))
	}
	for i := range n {
		id := fmt.Sprintf("p%d", i)
		apply(topics.ProfileLog, &profilev1.ProfileRecord{Tenant: "demo", ProfileId: id, Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
			Event: &eventv1.Event{
				Tenant: "demo", Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, TimestampMs: 1,
				Traits: []byte(`{"first_name":"Ada","city":"Lyon","age":41,"plan":"gold"}`),
			},
			NewIdentifiers: []*eventv1.Identifier{{Namespace: "email", Value: fmt.Sprintf("e%d", i)}},
		}}})
		for _, name := range []string{"engaged", "loan", "vip"} {
			apply(topics.Segments, &segmentv1.MembershipChanged{Tenant: "demo", ProfileId: id, Segment: name, State: segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED})
			apply(topics.Scores, &scorev1.ScoreChanged{Tenant: "demo", ProfileId: id, Score: name, Value: 1})
		}
	}
	require.NoError(t, batch.Commit())
	return s
}

// dial serves on a port of this machine and returns a client.
func dial(t testing.TB, s decisionv1.ProfileServiceServer) decisionv1.ProfileServiceClient {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	decisionv1.RegisterProfileServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	return decisionv1.NewProfileServiceClient(conn)
}

func request(tenant, namespace, value string) *decisionv1.GetProfileRequest {
	return &decisionv1.GetProfileRequest{Tenant: tenant, Identifier: &eventv1.Identifier{Namespace: namespace, Value: value}}
}

func TestAProfileByIdentifierAndById(t *testing.T) {
	c := dial(t, rpc.New(filled(t, 3), ready, logger))
	for _, req := range []*decisionv1.GetProfileRequest{request("demo", "email", "e1"), request("demo", "profile_id", "p1")} {
		resp, err := c.GetProfile(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, "p1", resp.GetProfileId())
		require.Len(t, resp.GetMemberships(), 3)
		require.Equal(t, "engaged", resp.GetScores()[0].GetScore())
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	c := dial(t, rpc.New(filled(t, 1), ready, logger))
	for _, try := range []struct {
		req  *decisionv1.GetProfileRequest
		code codes.Code
		says string
	}{
		{request("", "email", "e0"), codes.InvalidArgument, "tenant"},
		{request("demo/x", "email", "e0"), codes.InvalidArgument, "tenant"},
		{request(strings.Repeat("d", 1000), "email", "e0"), codes.InvalidArgument, "tenant"},
		{request("demo", "", "e0"), codes.InvalidArgument, "namespace"},
		{request("demo", "email", ""), codes.InvalidArgument, "value"},
		{&decisionv1.GetProfileRequest{Tenant: "demo"}, codes.InvalidArgument, "identifier"},
		{request("demo", "email", strings.Repeat("x", 2000)), codes.InvalidArgument, "longer"},
		{request("demo", "email", "nobody"), codes.NotFound, "no profile"},
		{request("other", "email", "e0"), codes.NotFound, "no profile"},
		{request("other", "profile_id", "p0"), codes.NotFound, "no profile"},
	} {
		_, err := c.GetProfile(t.Context(), try.req)
		require.Equal(t, try.code, status.Code(err), "%v", try.req)
		require.ErrorContains(t, err, try.says)
		require.NotContains(t, status.Convert(err).Message(), "nobody", "no personal data in errors")
	}
}

func TestAnIncompleteCopyDoesNotAnswer(t *testing.T) {
	c := dial(t, rpc.New(filled(t, 1), func(context.Context) error { return errors.New("reading") }, logger))
	_, err := c.GetProfile(t.Context(), request("demo", "email", "e0"))
	require.Equal(t, codes.Unavailable, status.Code(err))
}

// empty answers at once: the floor of what gRPC costs.
type empty struct {
	decisionv1.UnimplementedProfileServiceServer
}

func (empty) GetProfile(context.Context, *decisionv1.GetProfileRequest) (*decisionv1.GetProfileResponse, error) {
	return &decisionv1.GetProfileResponse{}, nil
}

// BenchmarkGetProfile reads profiles over gRPC, and asks an empty handler for comparison.
func BenchmarkGetProfile(b *testing.B) {
	const n = 10_000
	for name, server := range map[string]decisionv1.ProfileServiceServer{
		"empty": empty{}, "profile": rpc.New(filled(b, n), ready, logger),
	} {
		b.Run(name, func(b *testing.B) {
			c := dial(b, server)
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, err := c.GetProfile(b.Context(), request("demo", "email", fmt.Sprintf("e%d", i*7919%n))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkRead is the same without gRPC.
func BenchmarkRead(b *testing.B) {
	s := rpc.New(filled(b, 10_000), ready, logger)
	req := request("demo", "email", "e77")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.GetProfile(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
