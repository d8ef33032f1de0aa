package stream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/clock"
)

// abandoner fires "abandoned" for a key that started, unless it finishes in time; "ask" says what it knows.
type abandoner struct{}

func (abandoner) Process(ctx *Context, rec Record) error {
	switch value := string(rec.Value); {
	case rec.Topic == "asks":
		name, _ := ctx.Get("last")
		ctx.Emit("said", ctx.Key(), fmt.Appendf(nil, "knew %s", name))
	case value == "start":
		ctx.SetTimer("abandoned", ctx.Now().Add(time.Minute), nil)
	case value == "finish":
		ctx.CancelTimer("abandoned")
	default:
		name, _, _ := strings.Cut(value, " ")
		ctx.Put("last", []byte(name))
	}
	return nil
}

func (abandoner) Timer(ctx *Context, _ Timer) error {
	ctx.Emit("said", ctx.Key(), []byte("abandoned"))
	return nil
}

func (abandoner) Merge(*Context, *Source) error { return nil }

func abandonTopology() Topology {
	return Topology{
		Name: "abandon", Inputs: []string{"asks", "facts"}, First: "facts", Outputs: []string{"said"},
		New: func() Processor { return abandoner{} },
	}
}

// TestTimersWaitForTheBacklog: what happened while nobody worked counts before a timer that fell due in
// that time, however much there is to read.
func TestTimersWaitForTheBacklog(t *testing.T) {
	brokers := startKfake(t, "asks", "facts", "said").ListenAddrs()
	cfg, deps := quickConfig(brokers, t.TempDir()), testDeps(t)
	now := clock.NewManual(time.Unix(1_700_000_000, 0))
	deps.Clock = now
	r := startRunner(t, abandonTopology(), cfg, deps)
	out := startTail(t, brokers, "said")
	var keys []string
	for i := range 8 {
		keys = append(keys, fmt.Sprint("k", i))
		produce(t, brokers, record("facts", keys[i], "start"), record("facts", keys[i], "started "), record("asks", keys[i], ""))
	}
	out.waitFor(t, 8) // each "start" before: a produce waits for the one before it
	stopRunner(t, r)
	now.Advance(time.Hour)

	w := newWriter(t, brokers)
	filler := strings.Repeat("x", 1000)
	for i := range 10_000 {
		w.send("facts", keys[i%8], "filler "+filler)
	}
	w.flush()
	for _, key := range keys[1:] {
		w.send("facts", key, "finish")
	}
	w.flush()
	startRunner(t, abandonTopology(), cfg, deps)
	out.waitFor(t, 9) // the timer of the key that did not finish
	for _, rec := range out.all()[8:] {
		require.Equal(t, "k0", string(rec.Key), "%s was told %s", rec.Key, rec.Value)
	}
}

// TestFirstInputComesFirst: an input that follows from another waits for the backlog of that one, which
// takes many fetches here.
func TestFirstInputComesFirst(t *testing.T) {
	brokers := startKfake(t, "asks", "facts", "said").ListenAddrs()
	w := newWriter(t, brokers)
	for i := range 64 {
		w.send("asks", fmt.Sprint("k", i), "")
	}
	filler := strings.Repeat("x", 1000)
	for i := range 20_000 {
		w.send("facts", fmt.Sprint("k", i%64), "early "+filler)
	}
	for i := range 64 {
		w.send("facts", fmt.Sprint("k", i), "late ")
	}
	w.flush()
	startRunner(t, abandonTopology(), quickConfig(brokers, t.TempDir()), testDeps(t))
	for _, rec := range startTail(t, brokers, "said").waitFor(t, 64) {
		require.Equal(t, "knew late", string(rec.Value))
	}
}

// TestBacklogThatIsGone: records at the end of an input that were removed hold nothing up for good.
func TestBacklogThatIsGone(t *testing.T) {
	now := time.Unix(0, 0)
	at := map[string]kgo.EpochOffset{"a": {Offset: 3}, "b": {Offset: 7}}
	b := backlog{ends: map[string]int64{"a": 5, "b": 7}}
	require.True(t, b.update(at, now), "b is read")
	require.True(t, b.behind())
	require.False(t, b.update(at, now.Add(backlogPatience)))
	at["a"] = kgo.EpochOffset{Offset: 4}
	require.False(t, b.update(at, now.Add(2*backlogPatience)), "it gets on")
	require.True(t, b.update(at, now.Add(4*backlogPatience)))
	require.False(t, b.behind())
}
