package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counter is the processor of most tests here. Values are commands:
// "add", "fail", "panic", "late" (sets a timer in a minute), "range", "badtopic", anything else counts.
type counter struct{}

func (counter) Process(ctx *Context, rec Record) error {
	n := uint64(0)
	if v, ok := ctx.Get("n"); ok {
		n = binary.BigEndian.Uint64(v)
	}
	n++
	ctx.Put("n", binary.BigEndian.AppendUint64(nil, n))
	ctx.Emit("out", ctx.Key(), fmt.Appendf(nil, "%s=%d", rec.Value, n))
	switch string(rec.Value) {
	case "fail":
		return errors.New("told to")
	case "panic":
		panic("told to")
	case "badtopic":
		ctx.Emit("nowhere", nil, nil)
	case "late":
		ctx.SetTimer("late", ctx.Now().Add(time.Minute), []byte("pay"))
	case "cancel":
		ctx.CancelTimer("late")
	}
	return nil
}

func (counter) Timer(ctx *Context, timer Timer) error {
	ctx.Emit("out", ctx.Key(), fmt.Appendf(nil, "timer %s %s %s", timer.ID, timer.Payload, ctx.Now().Format("15:04:05")))
	if string(timer.Payload) == "fail" {
		return errors.New("told to")
	}
	return nil
}

func (counter) Merge(dst *Context, src *Source) error {
	var n uint64
	if v, ok := dst.Get("n"); ok {
		n = binary.BigEndian.Uint64(v)
	}
	if v, ok := src.Get("n"); ok {
		n += binary.BigEndian.Uint64(v)
	}
	dst.Put("n", binary.BigEndian.AppendUint64(nil, n))
	src.Timers(func(id string, due time.Time, payload []byte) bool {
		dst.SetTimer(id, due, payload)
		return true
	})
	dst.Emit("out", dst.Key(), fmt.Appendf(nil, "merged %s", src.Key()))
	return nil
}

// mergesOf reads "into:<other>:<id>" and "announce:<other>:<id>".
func mergesOf(rec Record) Merge {
	parts := strings.Split(string(rec.Value), ":")
	if len(parts) != 3 {
		return Merge{}
	}
	m := Merge{Other: []byte(parts[1]), ID: parts[2]}
	switch parts[0] {
	case "into":
		m.Kind = MergeInto
	case "announce":
		m.Kind = MergeAnnounced
	}
	return m
}

func counterTopology() Topology {
	return Topology{
		Name: "counter", Inputs: []string{"in"}, Outputs: []string{"out"},
		New: func() Processor { return counter{} }, Merges: mergesOf,
	}
}

func newCounterDriver(t *testing.T, partitions int32) *Driver {
	t.Helper()
	d, err := NewDriver(DriverConfig{Start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Partitions: partitions}, counterTopology())
	require.NoError(t, err)
	return d
}

func send(t *testing.T, d *Driver, key string, values ...string) {
	t.Helper()
	for _, v := range values {
		require.NoError(t, d.Send("in", []byte(key), []byte(v)))
	}
}

func outputs(records []Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Key)+" "+string(r.Value))
	}
	return out
}

func TestDriverKeepsStatePerKey(t *testing.T) {
	d := newCounterDriver(t, 3)
	send(t, d, "a", "x", "x")
	send(t, d, "b", "x")
	require.Equal(t, []string{"a x=1", "a x=2", "b x=1"}, outputs(d.Drain("out")))
	require.Empty(t, d.Drain("out"))
	v, ok := d.State("counter", []byte("a"), "n")
	require.True(t, ok)
	require.Equal(t, uint64(2), binary.BigEndian.Uint64(v))
	require.Error(t, d.Send("nowhere", nil, nil))
}

func TestDriverDeadLettersUndoTheRecordAlone(t *testing.T) {
	d := newCounterDriver(t, 1)
	send(t, d, "a", "x", "fail", "panic", "badtopic", "x")
	require.Equal(t, []string{"a x=1", "a x=2"}, outputs(d.Drain("out")))
	dead := d.DeadLetters()
	require.Len(t, dead, 3)
	require.Equal(t, "told to", dead[0].Reason)
	require.Equal(t, "panic: told to", dead[1].Reason)
	require.Contains(t, dead[2].Reason, `"nowhere"`)
	require.Equal(t, int64(1), dead[0].Record.Offset)
	for i, rec := range d.Output("counter.dlq") {
		back, err := ParseDeadLetter("counter", rec)
		require.NoError(t, err)
		require.Equal(t, dead[i], back)
	}
}

func TestDriverFiresTimersInOrder(t *testing.T) {
	d := newCounterDriver(t, 2)
	send(t, d, "a", "late")
	send(t, d, "b", "late", "cancel")
	require.NoError(t, d.Advance(d.Now().Add(30*time.Second)))
	send(t, d, "c", "late")
	d.Drain("out")
	require.NoError(t, d.Advance(d.Now().Add(time.Hour)))
	require.Equal(t, []string{"a timer late pay 00:01:00", "c timer late pay 00:01:30"}, outputs(d.Drain("out")))
	require.NoError(t, d.Advance(d.Now().Add(time.Hour)))
	require.Empty(t, d.Drain("out"), "a timer fires once")
}

func TestDriverMergeHandsStateAndTimersOver(t *testing.T) {
	d := newCounterDriver(t, 4)
	send(t, d, "anon", "x", "x", "late")
	send(t, d, "known", "announce:anon:m1", "x")
	require.NotContains(t, outputs(d.Output("out")), "known x=2", "records wait for announced state")
	send(t, d, "anon", "into:known:m1")
	send(t, d, "anon", "x")
	out := outputs(d.Output("out"))
	require.Contains(t, out, "known merged anon")
	require.Equal(t, "known x=6", out[len(out)-2])
	require.Equal(t, "known x=7", out[len(out)-1], "late records follow the pointer")
	_, ok := d.State("counter", []byte("anon"), "n")
	require.False(t, ok)
	require.NoError(t, d.Advance(d.Now().Add(time.Hour)))
	require.Equal(t, "known timer late pay 00:01:00", outputs(d.Output("out"))[len(out)])
}

func TestDriverMergeWaitIsBounded(t *testing.T) {
	d := newCounterDriver(t, 1)
	send(t, d, "known", "announce:anon:m1", "x", "y")
	require.Equal(t, []string{"known announce:anon:m1=1"}, outputs(d.Drain("out")))
	require.NoError(t, d.Advance(d.Now().Add(9*time.Second)))
	require.Empty(t, d.Drain("out"))
	require.NoError(t, d.Advance(d.Now().Add(time.Second)))
	require.Equal(t, []string{"known x=2", "known y=3"}, outputs(d.Drain("out")))
	send(t, d, "anon", "z", "into:known:m1")
	out := outputs(d.Drain("out"))
	require.Equal(t, "known merged anon", out[len(out)-1], "state that comes late is merged all the same")
}

func TestDriverStateBeforeAnnouncement(t *testing.T) {
	d := newCounterDriver(t, 2)
	send(t, d, "anon", "x", "into:known:m1")
	send(t, d, "known", "announce:anon:m1", "x")
	out := outputs(d.Output("out"))
	require.Equal(t, "known x=4", out[len(out)-1], "nothing to wait for any more")
}

func TestDriverCrossingMergesEndInOnePlace(t *testing.T) {
	d := newCounterDriver(t, 4)
	send(t, d, "a", "x", "into:b:m1")
	send(t, d, "b", "into:a:m2")
	send(t, d, "b", "y")
	send(t, d, "a", "y")
	out := outputs(d.Output("out"))
	require.Equal(t, "a y=4", out[len(out)-2])
	require.Equal(t, "a y=5", out[len(out)-1])
	_, ok := d.State("counter", []byte("b"), "n")
	require.False(t, ok)
}
