package dlq_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/stream/dlq"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/sillage-cdp/sillage/pkg/kafkatest.(*Apache).reap"))
}

const partitions = 3

// shop refuses orders until it is mended, and counts those that it takes.
type shop struct{ ok *atomic.Bool }

func (s shop) Process(ctx *stream.Context, rec stream.Record) error {
	if !s.ok.Load() {
		return fmt.Errorf("order %q cannot be taken: 42 are", rec.Value)
	}
	n, _ := ctx.Get("n")
	ctx.Put("n", append(n, 'x'))
	ctx.Emit("taken", ctx.Key(), fmt.Appendf(nil, "%s %d", rec.Value, len(n)+1))
	return nil
}

func (shop) Timer(*stream.Context, stream.Timer) error   { return nil }
func (shop) Merge(*stream.Context, *stream.Source) error { return nil }

func shopTopology(ok *atomic.Bool) stream.Topology {
	return stream.Topology{Name: "shop", Inputs: []string{"orders"}, Outputs: []string{"taken"}, New: func() stream.Processor { return shop{ok} }}
}

// scene is a shop that runs, and a box on its cluster.
type scene struct {
	t       *testing.T
	cluster *kfake.Cluster
	box     *dlq.Box
	ok      *atomic.Bool
	client  *kgo.Client
	orders  int // sent of each tenant
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, ok: &atomic.Bool{}}
	s.cluster = kafkatest.StartCluster(t, kfake.SeedTopics(partitions, "orders", "taken"), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	runner, err := stream.NewRunner(shopTopology(s.ok), stream.Config{
		Kafka: kafka.Config{Brokers: s.cluster.ListenAddrs(), Partitions: partitions, Replication: -1}, DataDir: t.TempDir(), CommitInterval: 10 * time.Millisecond,
	}, stream.Deps{Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), Telemetry: telemetry.Nop()})
	require.NoError(t, err)
	require.NoError(t, runner.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, runner.Stop(context.WithoutCancel(t.Context()))) })
	s.box = s.open()
	s.client, err = kgo.NewClient(kgo.SeedBrokers(s.cluster.ListenAddrs()...))
	require.NoError(t, err)
	t.Cleanup(s.client.Close)
	return s
}

func (s *scene) open(opts ...kgo.Opt) *dlq.Box {
	box, err := dlq.Open(append(opts, kgo.SeedBrokers(s.cluster.ListenAddrs()...))...)
	require.NoError(s.t, err)
	s.t.Cleanup(box.Close)
	return box
}

// order sends n orders of each of two tenants.
func (s *scene) order(n int) {
	for range n {
		i := s.orders
		s.orders++
		for _, tenant := range []string{"a", "b"} {
			s.client.Produce(s.t.Context(), &kgo.Record{
				Topic: "orders", Key: fmt.Appendf(nil, "%s/%d", tenant, i%5), Value: fmt.Appendf(nil, "%s-%d", tenant, i),
				Headers: []kgo.RecordHeader{{Key: "own", Value: []byte("header")}},
			}, nil)
		}
	}
	require.NoError(s.t, s.client.Flush(s.t.Context()))
}

func (s *scene) count(filter dlq.Filter) (n int) {
	require.NoError(s.t, s.box.Scan(s.t.Context(), "shop", filter, func(*dlq.Letter) error { n++; return nil }))
	return n
}

func (s *scene) waitDead(n int) {
	require.Eventually(s.t, func() bool { return s.count(dlq.Filter{}) == n }, 30*time.Second, 20*time.Millisecond)
}

// taken reads all orders that were taken until there are n, and makes sure that none comes twice.
func (s *scene) taken(n int) map[string]*kgo.Record {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.cluster.ListenAddrs()...), kgo.ConsumeTopics("taken"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond))
	require.NoError(s.t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	got := make(map[string]*kgo.Record)
	for len(got) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(s.t, fetches.Err(), "%d of %d", len(got), n)
		for _, rec := range fetches.Records() {
			var order string
			var nth int
			_, err := fmt.Sscan(string(rec.Value), &order, &nth)
			require.NoError(s.t, err)
			require.NotContains(s.t, got, order, "taken twice")
			got[order] = rec
		}
	}
	return got
}

func TestReadAndFilter(t *testing.T) {
	s := newScene(t)
	s.order(10)
	s.waitDead(20)
	stages, err := s.box.Stages(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"shop"}, stages)
	require.Equal(t, 10, s.count(dlq.Filter{KeyPrefix: []byte("a/")}))
	require.Equal(t, 1, s.count(dlq.Filter{Reason: `"b-7"`}))
	require.Equal(t, 20, s.count(dlq.Filter{Class: "error", Until: time.Now().Add(time.Hour)}))
	require.Zero(t, s.count(dlq.Filter{Class: "panic"}))
	require.Zero(t, s.count(dlq.Filter{Since: time.Now().Add(time.Hour)}))
	require.Equal(t, 2, s.count(dlq.Filter{Places: []string{"0/0", "1/0", "9/9"}}))
	seen := 0
	require.NoError(t, s.box.Scan(t.Context(), "shop", dlq.Filter{}, func(l *dlq.Letter) error {
		seen++
		require.NoError(t, l.Unreadable)
		require.Equal(t, "orders", l.Record.Topic)
		require.Equal(t, []stream.Header{{Key: "own", Value: []byte("header")}}, l.Record.Headers)
		if seen == 3 {
			return dlq.ErrStop
		}
		return nil
	}))
	require.Equal(t, 3, seen)

	sum, err := s.box.Summarize(t.Context(), "shop")
	require.NoError(t, err)
	require.Equal(t, map[string]int{`error: order "…" cannot be taken: # are`: 20}, sum.Reasons)
	require.False(t, sum.Oldest.After(sum.Newest))
	require.ErrorContains(t, s.box.Scan(t.Context(), "none", dlq.Filter{}, nil), `no stage named "none"`)
}

// TestReplayIsExactlyOnce: what is chosen is handled once, however often it is asked for.
func TestReplayIsExactlyOnce(t *testing.T) {
	s := newScene(t)
	s.order(25)
	s.waitDead(50)
	s.ok.Store(true)
	dry, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, dlq.Result{Replayed: 50}, dry)
	var told []int
	chosen, err := s.box.Replay(t.Context(), "shop", dlq.Filter{KeyPrefix: []byte("a/")}, dlq.Options{Chunk: 10, Progress: func(n int) { told = append(told, n) }})
	require.NoError(t, err)
	require.Equal(t, dlq.Result{Replayed: 25}, chosen)
	require.Equal(t, []int{10, 20, 25}, told)
	require.Equal(t, 25, s.count(dlq.Filter{Waiting: true}))
	few, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{Limit: 5})
	require.NoError(t, err)
	require.Equal(t, 5, few.Replayed)
	rest, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{})
	require.NoError(t, err)
	require.Equal(t, dlq.Result{Replayed: 20, Before: 30}, rest)
	again, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{})
	require.NoError(t, err)
	require.Equal(t, dlq.Result{Before: 50}, again)
	s.order(1) // comes after all that was put back, key by key
	require.Len(t, s.taken(52), 52)
	sum, err := s.box.Summarize(t.Context(), "shop")
	require.NoError(t, err)
	require.Equal(t, 50, sum.Letters)
	require.Equal(t, 50, sum.Replayed)
	require.Empty(t, sum.Reasons)
}

// TestReplayThatDies: whatever request it dies at, what it did is done once, and the rest is left to the
// next replay.
func TestReplayThatDies(t *testing.T) {
	s := newScene(t)
	const orders = 40
	s.order(orders / 2)
	s.waitDead(orders)
	s.ok.Store(true)
	for round, key := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.AddPartitionsToTxn, kmsg.EndTxn, kmsg.Produce} {
		var seen atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		faults := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, TopLevel: true, TxnID: "sillage.shop.replay", Observe: true, Count: -1, When: func(kmsg.Request) bool {
			if seen.Add(1) == int32(round+1) {
				cancel() // the command is interrupted here
			}
			return true
		}})
		_, err := s.box.Replay(ctx, "shop", dlq.Filter{}, dlq.Options{Chunk: 4, Limit: 4 * (round + 1)})
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		faults.Remove()
		cancel()
	}
	_, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{})
	require.NoError(t, err)
	require.Zero(t, s.count(dlq.Filter{Waiting: true}))
	require.Len(t, s.taken(orders), orders)
}

// TestTwoReplays: one that is overtaken by another does no harm.
func TestTwoReplays(t *testing.T) {
	s := newScene(t)
	s.order(20)
	s.waitDead(40)
	s.ok.Store(true)
	overtaken := false
	_, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{Chunk: 10, Progress: func(int) {
		if overtaken {
			return
		}
		overtaken = true
		other, err := s.open().Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{})
		require.NoError(t, err)
		require.Equal(t, dlq.Result{Before: 10, Replayed: 30}, other)
	}})
	require.ErrorIs(t, err, dlq.ErrOvertaken)
	require.Len(t, s.taken(40), 40)
}

// TestReplayRefuses names what cannot be put back and puts back the rest.
func TestReplayRefuses(t *testing.T) {
	s := newScene(t)
	s.order(1)
	s.waitDead(2)
	s.ok.Store(true)
	letter := func(headers ...kgo.RecordHeader) {
		require.NoError(t, s.client.ProduceSync(t.Context(), &kgo.Record{Topic: "shop.dlq", Key: []byte("c/1"), Value: []byte("c-1"), Headers: headers}).FirstErr())
	}
	header := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	letter(header(stream.HeaderTopic, "orders"), header(stream.HeaderPartition, "77"), header(stream.HeaderOffset, "1"))
	letter(header(stream.HeaderTopic, "orders"), header(stream.HeaderPartition, "x"))
	letter(header(stream.HeaderTopic, "orders"), header(stream.HeaderPartition, "1"), header(stream.HeaderOffset, "5"), header(stream.HeaderDropped, "3000000"))
	var reasons []string
	result, err := s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{Refused: func(_ *dlq.Letter, err error) { reasons = append(reasons, err.Error()) }})
	require.NoError(t, err)
	require.Equal(t, dlq.Result{Replayed: 2, Refused: 3}, result)
	require.Len(t, reasons, 3)
	require.Contains(t, fmt.Sprint(reasons), "partition 77 is not there: the topic has 3")
	require.Contains(t, fmt.Sprint(reasons), "partition 1, offset 5 of orders")
	require.Len(t, s.taken(2), 2)

	_, err = s.box.Replay(t.Context(), "none", dlq.Filter{}, dlq.Options{})
	require.ErrorContains(t, err, `no stage named "none"`)
	denied := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "shop.replay", Err: kerr.TopicAuthorizationFailed, Count: -1})
	s.ok.Store(false)
	s.order(1)
	s.waitDead(7)
	_, err = s.box.Replay(t.Context(), "shop", dlq.Filter{}, dlq.Options{})
	require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
	denied.Remove()
	require.NotErrorIs(t, err, dlq.ErrOvertaken)
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`field "email": "a@b.example" is not 12 of 3456`: `field "…": "…" is not # of #`,
		"`x` open \"never closed":                        "`…` open \"…",
		"plain":                                          "plain",
		"":                                               "",
	} {
		require.Equal(t, want, dlq.Redact(in))
	}
}
