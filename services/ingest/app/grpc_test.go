package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// intake is a client of the stack's IntakeService, and a context with a write key.
func (s *stack) intake(key string) (ingestv1.IntakeServiceClient, context.Context) {
	s.t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	s.app.RegisterGRPC(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///intake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		require.NoError(s.t, conn.Close())
		server.Stop()
		require.NoError(s.t, <-served)
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	return ingestv1.NewIntakeServiceClient(conn), metadata.AppendToOutgoingContext(ctx, "x-write-key", key)
}

const typeTrack = eventv1.EventType_EVENT_TYPE_TRACK

// The same events over gRPC and over HTTP are the same events, and the same ones are refused.
func TestGRPCIsHTTP(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	client, ctx := s.intake(serverKey)
	at, sentAt := arrivedAt.Add(-90*time.Second), arrivedAt.Add(-30*time.Second)
	events := []*ingestv1.IncomingEvent{
		{Type: typeTrack, Name: "Order Completed", UserId: "u-1", TimestampMs: at.UnixMilli(), Properties: []byte(`{"revenue":12.5,"currency":"eur","é":"\u00e9"}`)},
		{Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, UserId: "u-2", AnonymousId: "a \"quoted\" \u2028 \x01 id", Traits: []byte(`{"email":"Ada@Example.com"}`), Context: []byte(`{"ip":"192.0.2.7","userAgent":"curl/8"}`)},
		{Type: eventv1.EventType_EVENT_TYPE_PAGE, Name: "Home", Category: "Site", AnonymousId: "a-3", Integrations: []byte(`{"All":false}`)},
		{Type: eventv1.EventType_EVENT_TYPE_SCREEN, Name: "Start", AnonymousId: "a-4"},
		{Type: eventv1.EventType_EVENT_TYPE_GROUP, GroupId: "g", UserId: "u-5", Traits: []byte(`{"plan":"gold"}`)},
		{Type: eventv1.EventType_EVENT_TYPE_ALIAS, PreviousId: "a-6", UserId: "u-6"},
		{Type: typeTrack, UserId: "u-7"},
		{Type: typeTrack, Name: "E"},
		{Type: typeTrack, Name: "E", UserId: "null"},
		{UserId: "u-9"},
		{Type: typeTrack, Name: "E", UserId: "u-10", Properties: []byte(`[1]`)},
	}
	bodies := []string{
		`{"type":"track","event":"Order Completed","userId":"u-1","timestamp":"` + at.Format(time.RFC3339Nano) + `","properties":{"revenue":12.5,"currency":"eur","é":"\u00e9"}`,
		`{"type":"identify","userId":"u-2","anonymousId":"a \"quoted\" \u2028 \u0001 id","traits":{"email":"Ada@Example.com"},"context":{"ip":"192.0.2.7","userAgent":"curl/8"}`,
		`{"type":"page","name":"Home","category":"Site","anonymousId":"a-3","integrations":{"All":false}`,
		`{"type":"screen","name":"Start","anonymousId":"a-4"`,
		`{"type":"group","groupId":"g","userId":"u-5","traits":{"plan":"gold"}`,
		`{"type":"alias","previousId":"a-6","userId":"u-6"`,
		`{"type":"track","userId":"u-7"`,
		`{"type":"track","event":"E"`,
		`{"type":"track","event":"E","userId":"null"`,
		`{"type":"EVENT_TYPE_UNSPECIFIED","userId":"u-9"`,
		`{"type":"track","event":"E","userId":"u-10","properties":[1]`,
	}
	for i, ev := range events {
		ev.MessageId = fmt.Sprint("grpc-", i)
		bodies[i] += fmt.Sprintf(`,"messageId":"http-%d"}`, i)
	}
	answer, err := client.Take(ctx, &ingestv1.TakeRequest{Events: events, SentAtMs: sentAt.UnixMilli()})
	require.NoError(t, err)
	got := s.post("/v1/batch", serverKey, `{"sentAt":"`+sentAt.Format(time.RFC3339Nano)+`","batch":[`+strings.Join(bodies, ",")+`]}`)
	require.Equal(t, 200, got.status)

	overGRPC, overHTTP := map[string]*eventv1.Event{}, map[string]*eventv1.Event{}
	for _, ev := range s.events() {
		by, number, _ := strings.Cut(ev.GetMessageId(), "-")
		ev.MessageId = ""
		if into := overHTTP; by == "grpc" {
			overGRPC[number] = ev
		} else {
			into[number] = ev
		}
	}
	require.Len(t, overHTTP, 6)
	require.Len(t, overGRPC, len(overHTTP))
	for number, want := range overHTTP {
		require.True(t, want.EqualVT(overGRPC[number]), "event %s: %v over HTTP, %v over gRPC", number, want, overGRPC[number])
	}
	refusals := map[string]string{}
	for _, entry := range s.ledger() {
		refusals[entry.GetMessageId()] = entry.GetReason()
	}
	for i, ack := range answer.GetAcknowledgements() {
		require.Equal(t, fmt.Sprint("grpc-", i), ack.GetMessageId())
		require.Equal(t, overGRPC[fmt.Sprint(i)] != nil, ack.GetAccepted())
		require.Equal(t, refusals[fmt.Sprint("http-", i)], ack.GetCode())
		require.Equal(t, refusals[fmt.Sprint("grpc-", i)], ack.GetCode())
	}
}

// What a client puts into the place of JSON cannot become a field of its event, or another event.
func TestGRPCPayloadsStayInTheirPlace(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	client, ctx := s.intake(serverKey)
	var events []*ingestv1.IncomingEvent
	for i, payload := range []string{`{},"userId":"other"`, `{}},{"type":"track","event":"E","userId":"other"`, `{`, `"}`, "\x00", `{"a":1} `} {
		events = append(events, &ingestv1.IncomingEvent{Type: typeTrack, Name: "E", UserId: "me", MessageId: fmt.Sprint(i), Properties: []byte(payload)})
	}
	events = append(events, &ingestv1.IncomingEvent{Type: typeTrack, Name: "E", UserId: "me", MessageId: "late", TimestampMs: 1 << 62})
	answer, err := client.Take(ctx, &ingestv1.TakeRequest{Events: events})
	require.NoError(t, err)
	require.Len(t, answer.GetAcknowledgements(), len(events))
	for i, ack := range answer.GetAcknowledgements()[:6] {
		require.Equal(t, i == 5, ack.GetAccepted(), "%v", ack)
	}
	for _, ev := range s.events() {
		require.Equal(t, "me", ev.GetUserId())
	}
}

func TestGRPCAnswers(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.RateLimit = app.RateLimit{EventsPerSecond: 0.5, EventBurst: 2} })
	one := &ingestv1.TakeRequest{Events: []*ingestv1.IncomingEvent{{Type: typeTrack, Name: "E", UserId: "u", MessageId: "m"}}}
	for key, want := range map[string]codes.Code{"": codes.Unauthenticated, "wrong": codes.Unauthenticated, closedKey: codes.NotFound} {
		client, ctx := s.intake(key)
		_, err := client.Take(ctx, one)
		require.Equal(t, want, status.Code(err), "key %q: %v", key, err)
	}
	client, ctx := s.intake(webKey)
	_, err := client.Take(metadata.AppendToOutgoingContext(ctx, "authorization", "Basic d3Jvbmc6"), one)
	require.Equal(t, codes.Unauthenticated, status.Code(err), "two keys that differ")
	_, err = client.Take(ctx, &ingestv1.TakeRequest{Events: []*ingestv1.IncomingEvent{{Type: typeTrack, Name: "E", UserId: "u", Properties: make([]byte, 600_000)}}})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	for range 2 {
		_, err = client.Take(ctx, one)
		require.NoError(t, err)
	}
	_, err = client.Take(ctx, one)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	details := status.Convert(err).Details()
	require.Len(t, details, 1)
	require.Equal(t, 2*time.Second, details[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration())
}

// A client need not wait nor batch: requests of a stream are written together, answered in their order, and
// a person's events keep theirs.
func TestGRPCStream(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	client, ctx := s.intake(serverKey)
	stream, err := client.TakeStream(ctx)
	require.NoError(t, err)
	const requests = 3000
	var sending errgroup.Group
	sending.Go(func() error {
		for i := range requests {
			ev := &ingestv1.IncomingEvent{Type: typeTrack, Name: "E", UserId: fmt.Sprint("u-", i%10), MessageId: fmt.Sprint("m-", i), TimestampMs: arrivedAt.UnixMilli()}
			if i%100 == 7 {
				ev.Name = ""
			}
			if err := stream.Send(&ingestv1.TakeStreamRequest{Request: &ingestv1.TakeRequest{
				Events: []*ingestv1.IncomingEvent{ev}, SentAtMs: arrivedAt.UnixMilli() - int64(i%3), Historical: i%1000 > 990,
			}}); err != nil {
				return err
			}
		}
		return stream.CloseSend()
	})
	for i := range requests {
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.EqualValues(t, i+1, answer.GetSequence())
		require.Zero(t, answer.GetRetryAfterMs(), answer.GetReason())
		require.Len(t, answer.GetAcknowledgements(), 1)
		ack := answer.GetAcknowledgements()[0]
		require.Equal(t, fmt.Sprint("m-", i), ack.GetMessageId())
		require.Equal(t, i%100 != 7, ack.GetAccepted(), "%v", ack)
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, sending.Wait())

	order := map[string][]int{}
	for _, ev := range s.events() {
		var i int
		_, err := fmt.Sscanf(ev.GetMessageId(), "m-%d", &i)
		require.NoError(t, err)
		require.Equal(t, i%1000 > 990, ev.GetHistorical())
		order[ev.GetUserId()] = append(order[ev.GetUserId()], i)
	}
	total := 0
	for user, list := range order {
		require.True(t, slices.IsSorted(list), user)
		total += len(list)
	}
	require.Equal(t, requests-30, total)
	require.Len(t, s.ledger(), 30)
}

// What a stream sends too fast is to be sent again, and the stream goes on.
func TestGRPCStreamSaysWhenToComeBack(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.RateLimit = app.RateLimit{EventsPerSecond: 1, EventBurst: 1} })
	client, ctx := s.intake(serverKey)
	stream, err := client.TakeStream(ctx)
	require.NoError(t, err)
	ask := func() *ingestv1.TakeStreamResponse {
		require.NoError(t, stream.Send(&ingestv1.TakeStreamRequest{Request: &ingestv1.TakeRequest{
			Events: []*ingestv1.IncomingEvent{{Type: typeTrack, Name: "E", UserId: "u", MessageId: "m"}}}}))
		answer, err := stream.Recv()
		require.NoError(t, err)
		return answer
	}
	require.True(t, ask().GetAcknowledgements()[0].GetAccepted())
	again := ask()
	require.EqualValues(t, 1000, again.GetRetryAfterMs())
	require.Empty(t, again.GetAcknowledgements())
	s.clock.Advance(time.Second)
	require.True(t, ask().GetAcknowledgements()[0].GetAccepted())

	unknown, ctx := s.intake("wrong")
	stream, err = unknown.TakeStream(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&ingestv1.TakeStreamRequest{Request: &ingestv1.TakeRequest{}}))
	_, err = stream.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}
