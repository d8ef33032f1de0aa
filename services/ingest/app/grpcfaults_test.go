package app_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

func taken(id, properties string) *ingestv1.TakeRequest {
	return &ingestv1.TakeRequest{Events: []*ingestv1.IncomingEvent{
		{Type: typeTrack, Name: "E", UserId: "u", MessageId: id, Properties: []byte(properties)},
	}}
}

// refuse makes a broker refuse whatever is produced while on is true.
func refuse(broker *kfake.Cluster, on *atomic.Bool) {
	broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		if !on.Load() {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			out := kmsg.NewProduceResponseTopic()
			out.Topic, out.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				out.Partitions = append(out.Partitions, part)
			}
			res.Topics = append(res.Topics, out)
		}
		return res, nil, true
	})
}

// What Kafka has not is not acknowledged, over gRPC as over HTTP; a stream goes on where it was.
func TestGRPCAcknowledgesWhatKafkaHas(t *testing.T) {
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), nil)
	var refused atomic.Bool
	refuse(broker, &refused)
	client, ctx := s.intake(serverKey)
	stream, err := client.TakeStream(ctx)
	require.NoError(t, err)
	ask := func(id string) *ingestv1.TakeStreamResponse {
		require.NoError(t, stream.Send(&ingestv1.TakeStreamRequest{Request: taken(id, "")}))
		answer, err := stream.Recv()
		require.NoError(t, err)
		return answer
	}
	require.True(t, ask("before").GetAcknowledgements()[0].GetAccepted())
	refused.Store(true)
	_, err = client.Take(ctx, taken("refused", ""))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.NotContains(t, err.Error(), "AUTHORIZATION", "the cause is the operator's business")
	require.Equal(t, 2*time.Second, status.Convert(err).Details()[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration())
	_, err = client.Take(ctx, &ingestv1.TakeRequest{Events: []*ingestv1.IncomingEvent{{Type: typeTrack, UserId: "no name"}}})
	require.Equal(t, codes.Unavailable, status.Code(err), "a refusal is acknowledged once the ledger has it")
	answer := ask("refused")
	require.Empty(t, answer.GetAcknowledgements())
	require.EqualValues(t, 2000, answer.GetRetryAfterMs())
	refused.Store(false)
	require.True(t, ask("after").GetAcknowledgements()[0].GetAccepted())
	require.Equal(t, map[string]int{"before": 1, "after": 1}, s.messageIDs())
	require.Empty(t, s.ledger())
}

// A stream may be as long as it likes, and what it held is given back: to the stream, to all others and to
// the service, which can stop.
func TestGRPCHoldsNothingForEver(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.MaxInFlightBytes = 32 << 20 })
	client, ctx := s.intake(serverKey)
	stream, err := client.TakeStream(ctx)
	require.NoError(t, err)
	large := `{"pad":"` + strings.Repeat("x", 30_000) + `"}`
	for i := range 100 { // 3 MB through room for 1 MB
		require.NoError(t, stream.Send(&ingestv1.TakeStreamRequest{Request: taken(fmt.Sprint("s-", i), large)}))
		answer, err := stream.Recv()
		require.NoError(t, err)
		require.Empty(t, answer.GetReason())
	}
	require.NoError(t, stream.CloseSend())
	half := &ingestv1.TakeRequest{}
	for range 10 {
		half.Events = append(half.Events, taken("again", large).GetEvents()...)
	}
	for range 60 { // 300 KB each, twice that held: 36 MB in all
		_, err := client.Take(ctx, half)
		require.NoError(t, err)
	}
	stopping, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, s.app.Stop(stopping), "no call is in flight any more")
	_, err = client.Take(ctx, taken("late", ""))
	require.Equal(t, codes.Unavailable, status.Code(err))
}

// Requests of a stream that are written together fare as each would by itself: what is too large, or nests
// too deep, is refused alone, and together they may be larger than a source's requests may be.
func TestGRPCStreamRequestsDoNotSpoilEachOther(t *testing.T) {
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), nil)
	for key, bad := range map[string]map[int]string{
		// 1000 bytes at once; one of 2 KB
		smallKey: {7: `{"pad":"` + strings.Repeat("x", 2000) + `"}`},
		// deeper than a body may be, with more brackets than are let by uncounted
		serverKey: {7: strings.Repeat("[", 6000) + strings.Repeat("]", 6000), 50: strings.Repeat(`{"a":`, 9000)},
	} {
		client, ctx := s.intake(key)
		stream, err := client.TakeStream(ctx)
		require.NoError(t, err)
		const requests = 100
		release := make(chan struct{})
		broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			broker.SleepControl(func() { <-release }) // the first is under way while the others come
			broker.DropControl()
			return nil, nil, false
		})
		for i := range requests {
			properties := `{"pad":"` + strings.Repeat("y", 60) + `"}`
			if bad[i] != "" {
				properties = bad[i]
			}
			require.NoError(t, stream.Send(&ingestv1.TakeStreamRequest{Request: taken(fmt.Sprint(key, i), properties)}))
		}
		close(release)
		for i := range requests {
			answer, err := stream.Recv()
			require.NoError(t, err)
			require.EqualValues(t, i+1, answer.GetSequence())
			switch {
			case bad[i] == "":
				require.Len(t, answer.GetAcknowledgements(), 1, "%s", answer.GetReason())
				require.Equal(t, fmt.Sprint(key, i), answer.GetAcknowledgements()[0].GetMessageId())
				require.True(t, answer.GetAcknowledgements()[0].GetAccepted(), "%s", answer.GetAcknowledgements()[0].GetDetail())
			case key == smallKey:
				require.Empty(t, answer.GetAcknowledgements())
				require.Contains(t, answer.GetReason(), "1000 bytes")
				require.Zero(t, answer.GetRetryAfterMs(), "sent again it would be as large")
			default:
				require.False(t, answer.GetAcknowledgements()[0].GetAccepted())
				require.Equal(t, "too_deep", answer.GetAcknowledgements()[0].GetCode())
			}
		}
		require.NoError(t, stream.CloseSend())
	}
	require.Len(t, s.ledger(), 3, "one refusal for each that was refused")
	require.Len(t, s.messageIDs(), 197)
}

// Millions of brackets cost a client its event and the service nothing.
func TestGRPCNestsAsDeepAsItMay(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	client, ctx := s.intake(webKey)
	before := heap()
	deep := taken("deep", strings.Repeat("[", 3_900_000))
	deep.Historical = true
	answer, err := client.Take(ctx, deep, grpc.MaxCallSendMsgSize(16<<20))
	require.NoError(t, err)
	require.Equal(t, "too_deep", answer.GetAcknowledgements()[0].GetCode())
	require.Less(t, heap()-before, int64(64<<20))
	level := func(n int) bool {
		answer, err := client.Take(ctx, taken(fmt.Sprint("level ", n), strings.Repeat(`{"a":`, n)+"1"+strings.Repeat("}", n)))
		require.NoError(t, err)
		return answer.GetAcknowledgements()[0].GetAccepted()
	}
	require.True(t, level(60))
	require.False(t, level(65))
}
