package stream

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// alarm sets, moves and cancels timers: "<id> <seconds>", "<id> off".
type alarm struct{}

func (alarm) Process(ctx *Context, rec Record) error {
	var id, when string
	if _, err := fmt.Sscan(string(rec.Value), &id, &when); err != nil {
		return err
	}
	if when == "off" {
		ctx.CancelTimer(id)
		return nil
	}
	seconds, err := strconv.Atoi(when)
	if err != nil {
		return err
	}
	ctx.SetTimer(id, ctx.Now().Add(time.Duration(seconds)*time.Second), rec.Key)
	return nil
}

func (alarm) Timer(ctx *Context, timer Timer) error {
	if timer.Due.After(ctx.Now()) {
		return fmt.Errorf("fired %s before its time", timer.Due.Sub(ctx.Now()))
	}
	ctx.Emit("out", ctx.Key(), fmt.Appendf(nil, "%s %d", timer.ID, timer.Due.Unix()))
	return nil
}

func (alarm) Merge(*Context, *Source) error { return nil }

func alarmTopology() Topology {
	return Topology{Name: "alarm", Inputs: []string{"in"}, Outputs: []string{"out"}, New: func() Processor { return alarm{} }}
}

// TestTimersFireOnceInOrder compares random sets, moves, cancels and waits with a list.
func TestTimersFireOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1_700_000_000, 0)
		d, err := NewDriver(DriverConfig{Start: start, Partitions: int32(rapid.IntRange(1, 3).Draw(t, "partitions"))}, alarmTopology())
		require.NoError(t, err)
		due := make(map[string]int64) // key + id → due
		var want, got []string
		pass := func(to time.Time) {
			var now []string
			for name, at := range due {
				if at <= to.Unix() {
					now = append(now, fmt.Sprint(at, " ", name))
					delete(due, name)
				}
			}
			slices.Sort(now)
			want = append(want, now...)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key, id := fmt.Sprint("k", rapid.IntRange(0, 3).Draw(t, "key")), fmt.Sprint("t", rapid.IntRange(0, 3).Draw(t, "id"))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				require.NoError(t, d.Send("in", []byte(key), []byte(id+" off")))
				delete(due, key+" "+id)
			case 1:
				to := d.Now().Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "wait")) * time.Second)
				pass(to)
				require.NoError(t, d.Advance(to))
			default:
				in := rapid.IntRange(-5, 60).Draw(t, "in")
				due[key+" "+id] = d.Now().Unix() + int64(in)
				pass(d.Now())
				require.NoError(t, d.Send("in", []byte(key), fmt.Appendf(nil, "%s %d", id, in)))
			}
		}
		pass(d.Now().Add(time.Hour))
		require.NoError(t, d.Advance(d.Now().Add(time.Hour)))
		for _, rec := range d.Output("out") {
			var id string
			var at int64
			_, err := fmt.Sscan(string(rec.Value), &id, &at)
			require.NoError(t, err)
			got = append(got, fmt.Sprint(at, " ", string(rec.Key), " ", id))
		}
		slices.Sort(got) // of the same due time the order is by key, not by length of key
		slices.Sort(want)
		require.Equal(t, want, got)
		require.Empty(t, d.DeadLetters())
	})
}

// TestSweepsAreBounded: events wait for one sweep at most.
func TestSweepsAreBounded(t *testing.T) {
	top := alarmTopology()
	task := newTask(&top, 0, newMemStore())
	now := time.Unix(1_700_000_000, 0)
	task.begin(now)
	for i := range 5000 {
		task.process(&Record{Topic: "in", Key: []byte("k"), Value: fmt.Appendf(nil, "t%d %d", i, i%100)})
	}
	require.NoError(t, task.commit(0))
	task.begin(now.Add(time.Hour))
	var last int64
	for fired := 0; fired < 5000; {
		n := task.fireTimers(1000)
		require.Equal(t, 1000, n)
		fired += n
		for _, out := range task.takeOutputs() {
			var id string
			var at int64
			_, err := fmt.Sscan(string(out.value), &id, &at)
			require.NoError(t, err)
			require.GreaterOrEqual(t, at, last)
			last = at
		}
		require.NoError(t, task.commit(0))
		task.begin(now.Add(time.Hour))
	}
	require.Zero(t, task.fireTimers(1000))
	_, left := task.nextDue()
	require.False(t, left)
}

// requireDueIndex compares the due index of a store with its timers.
func requireDueIndex(t require.TestingT, s store) {
	want, have := []string{}, []string{}
	require.NoError(t, s.scan([]byte{kindTimer}, []byte{kindTimer + 1}, func(key, value []byte) bool {
		_, k, id, err := splitStoreKey(key)
		require.NoError(t, err)
		timer, err := parseTimerValue(value)
		require.NoError(t, err)
		want = append(want, string(appendDueKey(nil, timer.due, k, string(id)))+string(value))
		return true
	}))
	require.NoError(t, s.scan([]byte{kindDue}, []byte{kindDue + 1}, func(key, value []byte) bool {
		have = append(have, string(key)+string(value))
		return true
	}))
	slices.Sort(want)
	require.Equal(t, want, have)
}

// TestDueIndexIsExact: whatever is set, moved and cancelled between sweeps and within them, however many are
// due at the same time, wherever a sweep ends and whether its batch is kept, the index has each timer of the
// store once, and a sweep fires what is due first, up to its limit.
func TestDueIndexIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top := alarmTopology()
		s := newMemStore()
		task := newTask(&top, 0, s)
		now := time.Unix(1_700_000_000, 0)
		due := map[string]int64{} // key + id → due
		committed := map[string]int64{}
		change := func() {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				key, from := fmt.Sprint("k", rapid.IntRange(0, 1).Draw(t, "key")), rapid.IntRange(0, 400).Draw(t, "from")
				in, off := rapid.IntRange(-3, 3).Draw(t, "in"), rapid.IntRange(0, 4).Draw(t, "off") == 0
				many := rapid.IntRange(1, 300).Draw(t, "many")
				for id := from; id < from+many; id++ {
					value := fmt.Sprintf("t%03d %d", id, in)
					name := fmt.Sprintf("%s t%03d", key, id)
					if due[name] = now.Unix() + int64(in); off {
						value = fmt.Sprintf("t%03d off", id)
						delete(due, name)
					}
					task.process(&Record{Topic: "in", Key: []byte(key), Value: []byte(value)})
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "wait")) * time.Second)
			task.begin(now)
			change()
			limit := rapid.IntRange(1, 400).Draw(t, "limit")
			fired := task.fireTimers(limit)
			last := int64(0)
			outputs := task.takeOutputs()
			require.Len(t, outputs, fired)
			for _, out := range outputs {
				var id string
				var at int64
				_, err := fmt.Sscan(string(out.value), &id, &at)
				require.NoError(t, err)
				require.GreaterOrEqual(t, at, last)
				require.Equal(t, due[string(out.key)+" "+id], at, "fired as it was set last, and once")
				delete(due, string(out.key)+" "+id)
				last = at
			}
			for name, at := range due {
				require.GreaterOrEqual(t, at, last, name)
				require.True(t, fired == limit || at > now.Unix(), "%s was due", name)
			}
			change()
			if rapid.IntRange(0, 3).Draw(t, "end") == 0 {
				task.abort()
				due = maps.Clone(committed)
			} else {
				require.NoError(t, task.commit(0))
				committed = maps.Clone(due)
			}
			requireDueIndex(t, s)
			first, ok := task.nextDue()
			require.Equal(t, len(due) > 0, ok)
			if ok {
				require.Equal(t, slices.Min(slices.Collect(maps.Values(due))), first.Unix())
			}
		}
	})
}

// TestATimerThatIsSetBackFires: a timer that a sweep passes, because it was moved or has fired, and that is set
// in the same batch as it was before, is due as before. Many at once are cleared as a range.
func TestATimerThatIsSetBackFires(t *testing.T) {
	top := alarmTopology()
	for _, many := range []int{1, 2 * sweptRange} {
		s := newMemStore()
		task := newTask(&top, 0, s)
		now := time.Unix(1_700_000_000, 0)
		set := func(seconds int) {
			for i := range many {
				task.process(&Record{Topic: "in", Key: []byte("k"), Value: fmt.Appendf(nil, "t%d %d", i, seconds)})
			}
		}
		task.begin(now)
		set(0)
		require.NoError(t, task.commit(0))
		task.begin(now)
		set(5)
		require.Zero(t, task.fireTimers(1000))
		set(0)
		require.NoError(t, task.commit(0))
		requireDueIndex(t, s)
		for range 2 {
			task.begin(now)
			require.Equal(t, many, task.fireTimers(1000))
			set(0) // what has fired is set once more, for the same time
			require.NoError(t, task.commit(0))
			requireDueIndex(t, s)
		}
	}
}

// TestSweepsAreBoundedInTime: when its time is over a sweep ends with the timer in hand, wherever that came
// from, and the next goes on after it.
func TestSweepsAreBoundedInTime(t *testing.T) {
	top := alarmTopology()
	task := newTask(&top, 0, newMemStore())
	now := time.Unix(1_700_000_000, 0)
	set := func(from, to, shift int) {
		for i := from; i < to; i++ {
			task.process(&Record{Topic: "in", Key: []byte("k"), Value: fmt.Appendf(nil, "t%02d %d", i, i+shift)})
		}
	}
	task.begin(now)
	set(0, 40, 0)
	require.NoError(t, task.commit(0))
	var fired []string
	for sweep := 0; len(fired) < 60; sweep++ {
		task.begin(now.Add(time.Hour))
		if sweep == 0 {
			set(40, 60, -3600) // due later than the others, and not in the store yet
		}
		looks := 0
		task.late = func() bool { looks++; return looks >= 7 }
		n := task.fireTimers(1000)
		require.LessOrEqual(t, n, 7)
		require.Positive(t, n, "a sweep gets on, however slow: %v", fired)
		for _, out := range task.takeOutputs() {
			fired = append(fired, string(out.value[:3]))
		}
		require.NoError(t, task.commit(0))
	}
	require.True(t, slices.IsSorted(fired), fired)
	require.Len(t, slices.Compact(fired), 60)
}

// TestTimersOfAnEarlierRunAreNotSkipped: a task that opens a store knows nothing of its timers, and
// setting a later one must not make it think that there is none before.
func TestTimersOfAnEarlierRunAreNotSkipped(t *testing.T) {
	top := alarmTopology()
	s := newMemStore()
	now := time.Unix(1_700_000_000, 0)
	run := func(value string) *task {
		task := newTask(&top, 0, s)
		task.begin(now)
		task.process(&Record{Topic: "in", Key: []byte("k"), Value: []byte(value)})
		require.NoError(t, task.commit(0))
		return task
	}
	run("a 10")
	run("b 20")
	task := run("c 30")
	due, ok := task.nextDue()
	require.True(t, ok)
	require.Equal(t, now.Add(10*time.Second).UTC(), due)
	task.begin(now.Add(25 * time.Second))
	require.Equal(t, 2, task.fireTimers(10))
	require.NoError(t, task.commit(0))
	task.begin(now.Add(25 * time.Second))
	task.process(&Record{Topic: "in", Key: []byte("k"), Value: []byte("d -100")})
	require.NoError(t, task.commit(0))
	require.Equal(t, 1, task.fireTimers(10), "one set before the sweep's place is met, too")
}

// TestAbortLeavesNoTrace: a batch that is dropped is as if it had never been, timers included.
func TestAbortLeavesNoTrace(t *testing.T) {
	top := alarmTopology()
	s := newMemStore()
	task := newTask(&top, 0, s)
	now := time.Unix(1_700_000_000, 0)
	set := func(value string) {
		task.process(&Record{Topic: "in", Key: []byte("k"), Value: []byte(value)})
	}
	task.begin(now)
	set("a 10")
	set("b 20")
	require.NoError(t, task.commit(7))
	size := s.size()
	for range 3 {
		task.begin(now.Add(time.Minute))
		set("a off")
		set("b 5")
		set("c 0")
		require.Equal(t, 1, task.fireTimers(10))
		task.abort()
		require.Empty(t, task.takeOutputs())
		require.Equal(t, size, s.size())
		due, ok := task.nextDue()
		require.True(t, ok)
		require.Equal(t, now.Add(10*time.Second).UTC(), due)
	}
	task.begin(now.Add(time.Minute))
	require.Equal(t, 2, task.fireTimers(10))
	require.Len(t, task.takeOutputs(), 2)
	require.NoError(t, task.commit(8))
	require.Zero(t, s.size())
}
