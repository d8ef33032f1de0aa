package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// mended refuses what begins with "bad" until it is mended.
type mended struct {
	counter
	ok *atomic.Bool
}

func (m mended) Process(ctx *Context, rec Record) error {
	if string(rec.Value) == "bad" && !m.ok.Load() {
		return errors.New("not yet")
	}
	return m.counter.Process(ctx, rec)
}

func (m mended) Timer(ctx *Context, timer Timer) error {
	if !m.ok.Load() {
		return errors.New("not yet")
	}
	return m.counter.Timer(ctx, timer)
}

func (m mended) Merge(dst *Context, src *Source) error {
	if !m.ok.Load() {
		return errors.New("not yet")
	}
	return m.counter.Merge(dst, src)
}

func mendedTopology() (Topology, *atomic.Bool) {
	ok := &atomic.Bool{}
	top := counterTopology()
	top.New = func() Processor { return mended{ok: ok} }
	return top, ok
}

// putBack writes every dead letter of a driver's topology to its replay topic.
func putBack(t *testing.T, d *Driver) {
	t.Helper()
	for _, rec := range d.Drain("counter.dlq") {
		letter, err := ParseDeadLetter("counter", rec)
		require.NoError(t, err)
		again, err := letter.Replay(rec.Partition, rec.Offset)
		require.NoError(t, err)
		require.NoError(t, d.SendRecord(again))
	}
}

// TestReplay: records, timers and the state of merges that were refused are handled once more, where they
// belong by then.
func TestReplay(t *testing.T) {
	top, ok := mendedTopology()
	d, err := NewDriver(DriverConfig{Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Partitions: 1}, top)
	require.NoError(t, err)
	send(t, d, "a", "x", "bad", "late")
	require.NoError(t, d.Advance(d.Now().Add(2*time.Minute)))
	send(t, d, "a", "into:b:m1")
	classes := []string{}
	for _, l := range d.DeadLetters() {
		classes = append(classes, l.Class+" "+l.Reason)
	}
	require.Equal(t, []string{"error not yet", "error not yet", "merge merging: not yet"}, classes)
	d.Drain("out")

	putBack(t, d)
	require.Empty(t, d.Drain("out"), "nothing is mended yet")
	require.Len(t, d.DeadLetters(), 6)
	require.Equal(t, "0/0", header(d.DeadLetters()[3].Record, HeaderReplayed), "it says where it comes from")

	ok.Store(true)
	putBack(t, d)
	// The record and the timer were of a key that has ended since: the record follows it; the timer has no
	// key any more. The state comes after the record, in the order in which all was put back.
	require.Equal(t, []string{"b bad=1", "b merged a"}, outputs(d.Drain("out")))
	n, _ := d.State("counter", []byte("b"), "n")
	require.Equal(t, uint64(4), binary.BigEndian.Uint64(n), "x, late and into of a, and bad")
	last := d.DeadLetters()[len(d.DeadLetters())-1]
	require.Equal(t, "replay", last.Class)
	require.Equal(t, "late", last.TimerID)
	require.Len(t, d.DeadLetters(), 7)
}

func header(rec Record, key string) string {
	for _, h := range rec.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// TestReplayOfTimer: a timer fires once more, with its own due time and payload, and leaves alone what
// was set since.
func TestReplayOfTimer(t *testing.T) {
	top, ok := mendedTopology()
	d, err := NewDriver(DriverConfig{Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Partitions: 1}, top)
	require.NoError(t, err)
	send(t, d, "a", "late")
	require.NoError(t, d.Advance(d.Now().Add(90*time.Second)))
	send(t, d, "a", "late")
	d.Drain("out")
	ok.Store(true)
	putBack(t, d)
	require.Equal(t, []string{"a timer late pay 00:01:30"}, outputs(d.Drain("out")))
	require.NoError(t, d.Advance(d.Now().Add(time.Hour)))
	require.Equal(t, []string{"a timer late pay 00:02:30"}, outputs(d.Drain("out")))
	require.Len(t, d.DeadLetters(), 1)
}

// TestReplayOfWhatDoesNotFitAnyMore: what is put back for another shape of the stage is refused by name.
func TestReplayOfWhatDoesNotFitAnyMore(t *testing.T) {
	d := newCounterDriver(t, 1)
	for i, rec := range []Record{
		{Topic: "counter.replay", Key: []byte("a"), Value: []byte("x"), Headers: []Header{{HeaderTopic, []byte("gone")}, {HeaderOffset, []byte("7")}}},
		{Topic: "counter.replay", Key: []byte("a"), Value: []byte("x"), Headers: []Header{{HeaderTopic, []byte("in")}, {HeaderOffset, []byte("seven")}}},
		{Topic: "counter.replay", Key: make([]byte, maxKeyBytes+1), Headers: []Header{{HeaderTimer, []byte("t")}}},
	} {
		require.NoError(t, d.SendRecord(rec))
		require.Equal(t, []string{"replay", "internal", "size"}[i], d.DeadLetters()[i].Class)
	}
	require.Empty(t, d.Drain("out"))
}

// TestReplayOnKafka: the stage alone reads what is put back, and counts it.
func TestReplayOnKafka(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	top, ok := mendedTopology()
	deps, g := measured(testDeps(t))
	waitReady(t, startRunner(t, top, quickConfig(brokers, t.TempDir()), deps))
	for i := range 20 {
		produce(t, brokers, record("in", fmt.Sprint("k", i), "bad"))
	}
	dead := startTail(t, brokers, "counter.dlq").waitFor(t, 20)
	ok.Store(true)
	for _, rec := range dead {
		letter, err := ParseDeadLetter("counter", fromKafka(rec))
		require.NoError(t, err)
		again, err := letter.Replay(rec.Partition, rec.Offset)
		require.NoError(t, err)
		out := record(again.Topic, string(again.Key), string(again.Value))
		for _, h := range again.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		produce(t, brokers, out)
	}
	require.Len(t, startTail(t, brokers, "out").waitFor(t, 20), 20)
	g.has(t, map[string]float64{"records": 40, "replays": 20, "dead_letters{class=error}": 20, "lag{topic=counter.replay}": 0})
}
