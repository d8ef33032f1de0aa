package follow_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/decision/internal/follow"
	"github.com/sillage-cdp/sillage/services/decision/internal/store"
	"github.com/sillage-cdp/sillage/services/decision/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	partitions = 3
	profiles   = 20
)

var logger = slog.New(slog.DiscardHandler)

func broker(t *testing.T) kafka.Config {
	t.Helper()
	return kafka.Config{Brokers: kafkatest.StartEmbedded(t, kfake.SeedTopics(partitions, view.Topics()...)), Partitions: partitions}
}

func record(t *testing.T, i int) *kgo.Record {
	t.Helper()
	id := fmt.Sprintf("p%d", i%profiles)
	raw, err := (&profilev1.ProfileRecord{Tenant: "demo", ProfileId: id, Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
		Event: &eventv1.Event{Tenant: "demo", TimestampMs: int64(i + 1)},
	}}}).MarshalVT()
	require.NoError(t, err)
	return &kgo.Record{Topic: topics.ProfileLog, Key: topics.Key("demo", id), Value: raw}
}

func records(t *testing.T, from, to int) []*kgo.Record {
	t.Helper()
	var out []*kgo.Record
	for i := from; i < to; i++ {
		out = append(out, record(t, i))
	}
	return out
}

func client(t *testing.T, k kafka.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(k.ProducerOptions(logger), opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func follower(t *testing.T, k kafka.Config, s *store.Store) *follow.Follower {
	t.Helper()
	f, err := follow.New(k, s, telemetry.Nop(), logger)
	require.NoError(t, err)
	return f
}

// copyOf follows until the copy is ready and returns the number of events of all profiles.
func copyOf(t *testing.T, k kafka.Config, dir string) int64 {
	t.Helper()
	s, err := store.Open(dir, 1<<20)
	require.NoError(t, err)
	f := follower(t, k, s)
	require.Error(t, f.Ready(t.Context()))
	require.NoError(t, f.Start(t.Context()))
	require.Eventually(t, func() bool { return f.Ready(t.Context()) == nil }, 20*time.Second, 5*time.Millisecond, "%v", f.Ready(t.Context()))
	require.NoError(t, f.Stop(t.Context()))
	require.NoError(t, f.Stop(t.Context()))
	var sum int64
	for i := range profiles {
		p, _, err := s.Get("demo", fmt.Sprintf("p%d", i))
		require.NoError(t, err)
		sum += p.GetProfile().GetEvents()
	}
	require.NoError(t, s.Close())
	return sum
}

// TestRestartNeitherLosesNorRepeats runs itself as a child that follows and kills itself with SIGKILL once
// it has read so far; in the end every event is counted once.
func TestRestartNeitherLosesNorRepeats(t *testing.T) {
	if os.Getenv("FOLLOW_CHILD") != "" {
		followUntilKilled(t)
	}
	const total = 20_000
	k, dir := broker(t), t.TempDir()
	require.NoError(t, client(t, k).ProduceSync(t.Context(), records(t, 0, total)...).FirstErr())
	for _, goal := range []int{1, total / 5, total / 3, total / 2, total * 3 / 4} {
		child := exec.Command(os.Args[0], "-test.run=^TestRestartNeitherLosesNorRepeats$")
		child.Env = append(os.Environ(), fmt.Sprintf("FOLLOW_CHILD=%s %d %s", dir, goal, k.Brokers[0]))
		out, err := child.CombinedOutput()
		require.Error(t, err, "the child must have been killed")
		require.NotContains(t, string(out), "FAIL")
	}
	require.EqualValues(t, total, copyOf(t, k, dir))
}

// followUntilKilled is the child.
func followUntilKilled(t *testing.T) {
	args := strings.Fields(os.Getenv("FOLLOW_CHILD"))
	goal, err := strconv.ParseInt(args[1], 10, 64)
	require.NoError(t, err)
	s, err := store.Open(args[0], 1<<20)
	require.NoError(t, err)
	f := follower(t, kafka.Config{Brokers: args[2:], Partitions: partitions}, s)
	require.NoError(t, f.Start(context.Background()))
	for {
		var sum int64
		for p := range int32(partitions) {
			offset, err := s.Offset(topics.ProfileLog, p)
			require.NoError(t, err)
			sum += offset
		}
		if sum >= goal {
			require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
		}
	}
}

// TestAbortedDataAndMarkersAtTheEnd: what was aborted does not count, and a topic that ends with it and
// with markers alone is read to its end.
func TestAbortedDataAndMarkersAtTheEnd(t *testing.T) {
	k := broker(t)
	c := client(t, k, kgo.TransactionalID("t"))
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		require.NoError(t, c.BeginTransaction())
		require.NoError(t, c.ProduceSync(t.Context(), records(t, 100*i, 100*(i+1))...).FirstErr())
		require.NoError(t, c.EndTransaction(t.Context(), commit))
	}
	dir := t.TempDir()
	require.EqualValues(t, 200, copyOf(t, k, dir))
	require.EqualValues(t, 200, copyOf(t, k, dir), "a second start has nothing to do")
}

// TestWhatRetentionTookIsNotWaitedFor: a partition that was emptied has an end that no record reaches.
func TestWhatRetentionTookIsNotWaitedFor(t *testing.T) {
	k := broker(t)
	c := client(t, k)
	require.NoError(t, c.ProduceSync(t.Context(), records(t, 0, 100)...).FirstErr())
	admin := kadm.NewClient(c)
	ends, err := admin.ListEndOffsets(t.Context(), topics.ProfileLog)
	require.NoError(t, err)
	_, err = admin.DeleteRecords(t.Context(), ends.Offsets())
	require.NoError(t, err)
	require.Zero(t, copyOf(t, k, t.TempDir()))
}

func TestACopyOfAnotherKafkaIsRefused(t *testing.T) {
	k := broker(t)
	s, err := store.Open(t.TempDir(), 1<<20)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	batch := s.NewBatch()
	batch.Read(topics.ProfileLog, 0, 1000)
	require.NoError(t, batch.Commit())
	f := follower(t, k, s)
	require.ErrorContains(t, f.Start(t.Context()), "delete its folder")
	require.NoError(t, f.Stop(t.Context()), "safe after a failed start")
}

// TestOneBadRecordDoesNotStopTheCopy: it is counted and passed over.
func TestOneBadRecordDoesNotStopTheCopy(t *testing.T) {
	k := broker(t)
	bad := &kgo.Record{Topic: topics.ProfileLog, Key: topics.Key("demo", "p0"), Value: []byte{0xff}}
	require.NoError(t, client(t, k).ProduceSync(t.Context(), append([]*kgo.Record{bad}, records(t, 0, 20)...)...).FirstErr())
	require.EqualValues(t, 20, copyOf(t, k, t.TempDir()))
}
