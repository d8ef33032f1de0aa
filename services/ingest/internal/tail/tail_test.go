package tail_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/tail"
)

// scene is a Kafka with a TailService in front of it.
type scene struct {
	t      *testing.T
	writer *kgo.Client
	client ingestv1.TailServiceClient
}

func newScene(t *testing.T) *scene {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = kafkatest.StartEmbedded(t)
	writer, err := kgo.NewClient(cfg.ProducerOptions(quiet)...)
	require.NoError(t, err)
	t.Cleanup(writer.Close)
	require.NoError(t, cfg.EnsureTopics(t.Context(), writer, topics.All()))
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	ingestv1.RegisterTailServiceServer(server, tail.New(cfg, quiet))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///tail", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return &scene{t: t, writer: writer, client: ingestv1.NewTailServiceClient(conn)}
}

// tail begins to look on; what is written afterwards is seen.
func (s *scene) tail(req *ingestv1.TailRequest) grpc.ServerStreamingClient[ingestv1.TailResponse] {
	s.t.Helper()
	stream, _ := s.tailUntil(req)
	return stream
}

// tailUntil looks on until the function that it returns is called.
func (s *scene) tailUntil(req *ingestv1.TailRequest) (grpc.ServerStreamingClient[ingestv1.TailResponse], context.CancelFunc) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	stream, err := s.client.Tail(ctx, req)
	require.NoError(s.t, err)
	_, err = stream.Header()
	require.NoError(s.t, err)
	return stream, cancel
}

type message interface{ MarshalVT() ([]byte, error) }

func (s *scene) send(topic, tenant string, m message) error {
	raw, err := m.MarshalVT()
	if err != nil {
		return err
	}
	return s.writer.ProduceSync(s.t.Context(), &kgo.Record{Topic: topic, Key: topics.Key(tenant, "x"), Value: raw}).FirstErr()
}

func (s *scene) write(topic, tenant string, m message) {
	s.t.Helper()
	require.NoError(s.t, s.send(topic, tenant, m))
}

func (s *scene) event(tenant, source, name, id string) {
	s.t.Helper()
	s.write(topics.Events, tenant, &eventv1.Event{
		Tenant: tenant, Source: source, Name: name, MessageId: id, Type: eventv1.EventType_EVENT_TYPE_TRACK, ReceivedAtMs: 7, UserId: "ada",
	})
}

func (s *scene) refusal(tenant, source, id string) {
	s.t.Helper()
	s.write(topics.Ledger, tenant, &ledgerv1.LedgerEntry{
		Tenant: tenant, Source: source, MessageId: id, Fate: ledgerv1.Fate_FATE_REJECTED, Reason: "no_event", Detail: "event: is missing", ReceivedAtMs: 8,
	})
}

func TestTailShowsOneTenant(t *testing.T) {
	s := newScene(t)
	s.event("bank", "web", "Before", "m0")
	all := s.tail(&ingestv1.TailRequest{Tenant: "bank"})
	whole := s.tail(&ingestv1.TailRequest{Tenant: "bank", Name: "Seen", Payload: true})
	refused := s.tail(&ingestv1.TailRequest{Tenant: "bank", Source: "web", RefusedOnly: true})
	s.event("shop", "web", "Seen", "other tenant")
	s.refusal("shop", "web", "other tenant")
	s.event("bank", "web", "Seen", "m1")
	s.refusal("bank", "app", "m2")
	s.refusal("bank", "web", "m3")

	got := map[string]*ingestv1.TailResponse{}
	for range 3 {
		entry, err := all.Recv()
		require.NoError(t, err)
		require.Nil(t, entry.GetEvent(), "personal data is shown only on demand")
		got[entry.GetMessageId()] = entry
	}
	require.Len(t, got, 3)
	require.Equal(t, ingestv1.TailFate_TAIL_FATE_ACCEPTED, got["m1"].GetFate())
	require.Equal(t, "Seen", got["m1"].GetName())
	require.Equal(t, ingestv1.TailFate_TAIL_FATE_REJECTED, got["m2"].GetFate())
	require.Equal(t, "no_event", got["m3"].GetReason())

	entry, err := whole.Recv()
	require.NoError(t, err)
	require.Contains(t, []string{"m1", "m2", "m3"}, entry.GetMessageId())
	for entry.GetMessageId() != "m1" { // the ledger does not know names
		entry, err = whole.Recv()
		require.NoError(t, err)
	}
	require.Equal(t, "ada", entry.GetEvent().GetUserId())

	entry, err = refused.Recv()
	require.NoError(t, err)
	require.Equal(t, "m3", entry.GetMessageId())
}

func TestTailIsBounded(t *testing.T) {
	s := newScene(t)
	slow := s.tail(&ingestv1.TailRequest{Tenant: "bank", PerSecond: 2})
	for i := range 500 {
		s.event("bank", "web", "Seen", fmt.Sprint("m", i))
	}
	// Once its second is over, the next entry says how many were left out.
	done := make(chan struct{})
	var later errgroup.Group
	var sent atomic.Int64
	sent.Store(500)
	later.Go(func() error {
		for again := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-done:
				return nil
			case <-again.C:
			}
			sent.Add(1)
			if err := s.send(topics.Events, "bank", &eventv1.Event{Tenant: "bank", Source: "web", Name: "Seen", MessageId: "later"}); err != nil {
				return err
			}
		}
	})
	received, skipped := int64(0), int64(0)
	for told := 0; told < 3; received++ {
		entry, err := slow.Recv()
		require.NoError(t, err)
		if entry.GetSkipped() > 0 {
			told++
			skipped += entry.GetSkipped()
		}
	}
	require.LessOrEqual(t, received+skipped, sent.Load(), "each is missed once")
	close(done)
	require.NoError(t, later.Wait())

	var last context.CancelFunc
	for range tail.MaxTails - 1 {
		_, last = s.tailUntil(&ingestv1.TailRequest{Tenant: "bank"})
	}
	stream, err := s.client.Tail(t.Context(), &ingestv1.TailRequest{Tenant: "bank"})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))

	last()
	require.Eventually(t, func() bool {
		stream, err := s.client.Tail(t.Context(), &ingestv1.TailRequest{Tenant: "bank"})
		if err != nil {
			return false
		}
		header, err := stream.Header()
		return err == nil && header != nil
	}, 30*time.Second, 50*time.Millisecond, "who goes makes room")
}

func TestWrongRequestsAreExplained(t *testing.T) {
	s := newScene(t)
	for want, req := range map[string]*ingestv1.TailRequest{
		"tenant": {}, "name of a tenant": {Tenant: "a/b"}, "per_second": {Tenant: "a", PerSecond: -1},
	} {
		stream, err := s.client.Tail(t.Context(), req)
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, want)
	}
}
