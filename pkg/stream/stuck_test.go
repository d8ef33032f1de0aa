package stream

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// logLines keeps what was logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) with(what string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, what) {
			lines = append(lines, line)
		}
	}
	return lines
}

func logged(deps Deps) (Deps, *logLines) {
	lines := &logLines{}
	deps.Logger = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return deps, lines
}

// TestOutputDeleted: a stage whose output is gone says so, in metrics, one line of its log and Ready, and
// goes on by itself when the topic is there again, without loss or repetition.
func TestOutputDeleted(t *testing.T) {
	cluster := startKfake(t, "in", "out")
	brokers := cluster.ListenAddrs()
	deps, lines := logged(testDeps(t))
	deps, g := measured(deps)
	cfg := quickConfig(brokers, t.TempDir())
	cfg.StuckAfter = 500 * time.Millisecond
	r := startRunner(t, counterTopology(), cfg, deps)
	waitReady(t, r)
	produce(t, brokers, record("in", "k", "before"))
	g.has(t, map[string]float64{"records": 1})
	require.NoError(t, cluster.DeleteTopic("out"))
	produce(t, brokers, record("in", "k", "after"))
	require.Eventually(t, func() bool {
		err := r.Ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "nothing has committed") && strings.Contains(err.Error(), "create the topic again")
	}, 30*time.Second, 5*time.Millisecond)
	all := g.read(t)
	require.GreaterOrEqual(t, all["aborts{cause=topic_missing}"]+all["rebuilds{cause=topic_missing}"], 1.0, all)
	require.GreaterOrEqual(t, all["stalled"], 0.5)
	require.Len(t, lines.with("work does not commit"), 1, "one line, not one an attempt")
	require.Contains(t, lines.with("work does not commit")[0], "cause=topic_missing")

	require.NoError(t, cluster.CreateTopic("out", testPartitions, nil))
	require.Equal(t, []string{"k after=2"}, sortedOutputs(startTail(t, brokers, "out").waitFor(t, 1)))
	require.Eventually(t, func() bool { return r.Ready(context.Background()) == nil }, 30*time.Second, 5*time.Millisecond)
	g.has(t, map[string]float64{"records": 2, "stalled": 0})
}

// TestOutputTooLarge: what an output does not take goes to the dead letters, and nothing else does,
// whether the limit was known, has changed, or may not be asked for.
func TestOutputTooLarge(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit func(*kfake.Cluster)
		late  bool
	}{
		{name: "known"},
		{name: "changed at run time", late: true},
		{name: "secret", limit: func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cluster := startKfake(t, "in", "out")
			brokers := cluster.ListenAddrs()
			if test.limit != nil {
				test.limit(cluster)
			}
			lower := func() {
				client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
				require.NoError(t, err)
				defer client.Close()
				_, err = kadm.NewClient(client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: new("20000")}}, "out")
				require.NoError(t, err)
			}
			if !test.late {
				lower()
			}
			deps, g := measured(testDeps(t))
			r := startRunner(t, echoTopology(), quickConfig(brokers, t.TempDir()), deps)
			waitReady(t, r)
			if test.late {
				lower()
			}
			w := newWriter(t, brokers)
			noise := noisy(30_000)
			for i := range 200 { // together far more than one batch of the output takes
				w.send("in", "k", fmt.Sprintf("%03d %s", i, noise[i:i+4000]))
			}
			w.send("in", "k", "big "+noise)
			w.send("in", "k", "last")
			w.flush()
			out := startTail(t, brokers, "out").waitFor(t, 201)
			for i := range 200 {
				require.Equal(t, fmt.Sprintf("%03d", i), string(out[i].Value[:3]))
			}
			require.Equal(t, "last", string(out[200].Value))
			dead := startTail(t, brokers, "echo.dlq").waitFor(t, 1)
			require.Equal(t, "big ", string(dead[0].Value[:4]))
			g.has(t, map[string]float64{"records": 202, "dead_letters{class=misuse}": 1, "stalled": 0})
			waitReady(t, r)
		})
	}
}

// noisy is text that does not compress much.
func noisy(n int) string {
	var b strings.Builder
	x := uint64(88172645463325252)
	for b.Len() < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()[:n]
}

// echo emits what it gets.
type echo struct{ counter }

func (echo) Process(ctx *Context, rec Record) error {
	ctx.Emit("out", ctx.Key(), rec.Value)
	return nil
}

func echoTopology() Topology {
	return Topology{Name: "echo", Inputs: []string{"in"}, Outputs: []string{"out"}, New: func() Processor { return echo{} }, Merges: mergesOf}
}

// TestNotAuthorizedToWrite: a right that is lost at run time stops the stage with an error that names it;
// only an operator can give it back.
func TestNotAuthorizedToWrite(t *testing.T) {
	cluster := startKfake(t, "in", "out")
	brokers := cluster.ListenAddrs()
	deps, g := measured(testDeps(t))
	cfg := quickConfig(brokers, t.TempDir())
	r := startRunner(t, counterTopology(), cfg, deps)
	waitReady(t, r)
	denied := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.TopicAuthorizationFailed, Count: -1})
	produce(t, brokers, record("in", "k", "x"))
	select {
	case err := <-r.Failed():
		require.ErrorIs(t, err, kerr.TopicAuthorizationFailed)
		require.ErrorContains(t, err, "writing to out")
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was said")
	}
	g.has(t, map[string]float64{"aborts{cause=not_authorized}": 1, "records": 0})
	stopRunner(t, r)
	denied.Remove()
	startRunner(t, counterTopology(), cfg, testDeps(t))
	require.Equal(t, []string{"k x=1"}, sortedOutputs(startTail(t, brokers, "out").waitFor(t, 1)))
}

// TestLargeInputThatFails: a record that is larger than the dead letters take does not stop the stage: it
// is named there, without its value.
func TestLargeInputThatFails(t *testing.T) {
	cluster := startKfake(t, "out")
	brokers := cluster.ListenAddrs()
	require.NoError(t, cluster.CreateTopic("in", testPartitions, map[string]string{"max.message.bytes": "20000000"}))
	deps, g := measured(testDeps(t))
	waitReady(t, startRunner(t, echoTopology(), quickConfig(brokers, t.TempDir()), deps))
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerBatchMaxBytes(10<<20))
	require.NoError(t, err)
	defer client.Close()
	large := record("in", "k", noisy(3<<20))
	require.NoError(t, client.ProduceSync(t.Context(), large, record("in", "k", "small")).FirstErr())
	require.Equal(t, []string{"k small"}, sortedOutputs(startTail(t, brokers, "out").waitFor(t, 1)))
	dead := startTail(t, brokers, "echo.dlq").waitFor(t, 1)
	letter, err := ParseDeadLetter("echo", fromKafka(dead[0]))
	require.NoError(t, err)
	require.Equal(t, int64(3<<20), letter.Dropped)
	require.Equal(t, "misuse", letter.Class)
	require.Equal(t, large.Offset, letter.Record.Offset)
	require.Empty(t, letter.Record.Value)
	_, err = letter.Replay(0, 0)
	require.ErrorContains(t, err, fmt.Sprintf("offset %d of in", large.Offset))
	g.has(t, map[string]float64{"records": 2, "aborts{cause=too_large}": 0})

	// A record that would have to wait for a merge, or follow one, is bounded by the runtime's own topics.
	require.NoError(t, client.ProduceSync(t.Context(), record("in", "b", "announce:a:m1"), record("in", "b", noisy(3<<20)), record("in", "b", "small")).FirstErr())
	g.has(t, map[string]float64{"records": 5, "dead_letters{class=size}": 1, "merge.held": 1})
}

func fromKafka(r *kgo.Record) Record {
	var rec Record
	toRecord(r, &rec)
	return rec
}

// TestHealth: the clockwork of what says that a stage is stuck.
func TestHealth(t *testing.T) {
	lines := &logLines{}
	now := time.Unix(1_700_000_000, 0)
	h := newHealth(slog.New(slog.NewTextHandler(lines, nil)), 30*time.Second)
	h.now = func() time.Time { return now }
	pass := func(d time.Duration) { now = now.Add(d) }
	gone := fmt.Errorf("writing to x: %w", kerr.UnknownTopicOrPartition)
	require.NoError(t, h.err())
	h.begin()
	h.fail(t.Context(), gone)
	pass(20 * time.Second)
	h.fail(t.Context(), gone)
	require.NoError(t, h.err())
	require.Len(t, lines.with("does not commit"), 1)
	pass(11 * time.Second)
	h.fail(t.Context(), gone)
	require.ErrorIs(t, h.err(), kerr.UnknownTopicOrPartition)
	require.ErrorContains(t, h.err(), "31s")
	require.Len(t, lines.with("does not commit"), 2)
	h.commit()
	require.NoError(t, h.err())
	require.Len(t, lines.with("commit again"), 1)

	h.fail(t.Context(), errRebalanced)
	lasting, _ := h.stalled()
	require.Zero(t, lasting, "a rebalance is no failure")

	h.begin()
	h.fail(t.Context(), gone)
	pass(time.Minute)
	require.Error(t, h.err())
	h.rest(true)
	require.Error(t, h.err())
	pass(restsAfter + time.Second)
	require.NoError(t, h.err(), "who waits for work has none: it is another's by now")
}
