package stream

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// collector keeps the set of everything that a person did: values "e<n>" as names of state. Its Merge
// notes which transfers it saw, so that one that comes twice shows.
type collector struct{}

func (collector) Process(ctx *Context, rec Record) error {
	v := string(rec.Value)
	if strings.Contains(v, ":") {
		return nil // a merge
	}
	if _, ok := ctx.Get(v); ok {
		return fmt.Errorf("%s came twice", v)
	}
	ctx.Put(v, []byte{1})
	ctx.SetTimer(v, ctx.Now().Add(time.Hour), nil)
	return nil
}

func (collector) Timer(ctx *Context, timer Timer) error {
	ctx.Emit("fired", ctx.Key(), []byte(timer.ID))
	return nil
}

func (collector) Merge(dst *Context, src *Source) error {
	var err error
	src.Range("", func(name string, value []byte) bool {
		if _, ok := dst.Get(name); ok {
			err = errors.Join(err, fmt.Errorf("%s came twice", name))
		}
		dst.Put(name, value)
		return true
	})
	src.Timers(func(id string, due time.Time, payload []byte) bool {
		dst.SetTimer(id, due, payload)
		return true
	})
	return err
}

func collectTopology() Topology {
	return Topology{
		Name: "collect", Inputs: []string{"in"}, Outputs: []string{"fired"},
		New: func() Processor { return collector{} }, Merges: mergesOf,
	}
}

// people is the oracle: who is one person, known in advance.
type people map[string]string

func (p people) find(k string) string {
	for p[k] != "" && p[k] != k {
		k = p[k]
	}
	return k
}

// world runs tasks of the engine with queues between them that the test empties in any order: what the
// driver does not show, because it runs to rest after each record.
type world struct {
	top   Topology
	tasks []*task
	in    [][]Record // input queue of each partition
	hand  [][]Record // hand-over queue of each partition
	dead  []DeadLetter
	now   time.Time
	fired []string
	d     *Driver // for the hash of keys
}

func newWorld(top Topology, partitions int32) *world {
	w := &world{top: top, now: time.Unix(1_700_000_000, 0)}
	w.d, _ = NewDriver(DriverConfig{Partitions: partitions}, top)
	for p := range partitions {
		t := newTask(&w.top, p, newMemStore())
		t.limits.partBytes = 24 // several parts for every few entries
		t.dead = func(d DeadLetter) { w.dead = append(w.dead, cloneDeadLetter(d)) }
		w.tasks = append(w.tasks, t)
	}
	w.in = make([][]Record, partitions)
	w.hand = make([][]Record, partitions)
	return w
}

func (w *world) send(key, value string) {
	p := w.d.partition([]byte(key))
	w.in[p] = append(w.in[p], Record{Topic: "in", Partition: p, Offset: int64(len(w.in[p])), Key: []byte(key), Value: []byte(value)})
}

// step lets a partition take one record of a queue.
func (w *world) step(p int, queues [][]Record) {
	rec := queues[p][0]
	queues[p] = queues[p][1:]
	w.tasks[p].begin(w.now)
	w.tasks[p].process(&rec)
	w.commit(p)
}

func (w *world) commit(p int) {
	for _, out := range w.tasks[p].takeOutputs() {
		switch out.topic {
		case w.top.HandoverTopic():
			q := w.d.partition(out.key)
			w.hand[q] = append(w.hand[q], cloneRecord(Record{Topic: out.topic, Partition: q, Key: out.key, Value: out.value, Headers: out.headers}))
		case "fired":
			w.fired = append(w.fired, string(out.value))
		}
	}
	if err := w.tasks[p].commit(0); err != nil {
		panic(err)
	}
}

// busy lists what can happen next: queue and partition.
func (w *world) busy() (ways []func()) {
	for p := range w.tasks {
		if len(w.in[p]) > 0 {
			ways = append(ways, func() { w.step(p, w.in) })
		}
		if len(w.hand[p]) > 0 {
			ways = append(ways, func() { w.step(p, w.hand) })
		}
	}
	return ways
}

// advance moves the clock and fires everything due.
func (w *world) advance(d time.Duration) {
	w.now = w.now.Add(d)
	for p, t := range w.tasks {
		t.begin(w.now)
		for t.fireTimers(100) > 0 {
			w.commit(p)
			t.begin(w.now)
		}
		w.commit(p)
	}
}

func (w *world) state() map[string][]string {
	out := make(map[string][]string)
	for _, t := range w.tasks {
		_ = t.store.scan([]byte{kindState}, []byte{kindState + 1}, func(k, _ []byte) bool {
			_, key, name, _ := splitStoreKey(k)
			out[string(key)] = append(out[string(key)], string(name))
			return true
		})
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// TestMergesEndInOnePlace makes random merges, chains, crossings and cycles among a few keys, delivers
// everything in random order between partitions, and compares with people known in advance.
func TestMergesEndInOnePlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := []string{"a", "b", "c", "d", "e", "f"}[:rapid.IntRange(2, 6).Draw(t, "keys")]
		w := newWorld(collectTopology(), int32(rapid.IntRange(1, 4).Draw(t, "partitions")))
		one := make(people)
		events := make(map[string]string) // event → key
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for i := range steps {
			a, b := rapid.SampledFrom(keys).Draw(t, "a"), rapid.SampledFrom(keys).Draw(t, "b")
			if a != b && rapid.IntRange(0, 3).Draw(t, "merge") == 0 {
				id := fmt.Sprint("m", i)
				if rapid.Bool().Draw(t, "announced") {
					w.send(b, "announce:"+a+":"+id)
				}
				w.send(a, "into:"+b+":"+id)
				if x, y := one.find(a), one.find(b); x != y {
					one[x] = y
				}
			} else {
				e := fmt.Sprint("e", i)
				events[e] = a
				w.send(a, e)
			}
			for range rapid.IntRange(0, 4).Draw(t, "deliver") {
				if ways := w.busy(); len(ways) > 0 {
					rapid.SampledFrom(ways).Draw(t, "way")()
				}
			}
		}
		rest := func() {
			for n := 0; ; n++ {
				ways := w.busy()
				if len(ways) == 0 {
					return
				}
				require.Less(t, n, 100_000, "records go round for ever")
				ways[n%len(ways)]()
			}
		}
		rest()
		w.advance(11 * time.Second) // nobody waits longer than MergeWait
		rest()
		require.Empty(t, w.dead)

		want := make(map[string][]string) // person → events
		for e, k := range events {
			want[one.find(k)] = append(want[one.find(k)], e)
		}
		var people, places []string
		for _, list := range want {
			slices.Sort(list)
			people = append(people, strings.Join(list, " "))
		}
		for _, list := range w.state() {
			places = append(places, strings.Join(list, " "))
		}
		slices.Sort(people)
		slices.Sort(places)
		require.Equal(t, people, places, "each person's history is in one place")

		w.advance(2 * time.Hour)
		slices.Sort(w.fired)
		require.Equal(t, slices.Sorted(maps.Keys(events)), w.fired, "every timer fires once, wherever its key went")
		for p, task := range w.tasks {
			_, left := task.nextDue()
			require.False(t, left, "partition %d has timers left", p)
		}
	})
}

func TestMergeSplitsLargeState(t *testing.T) {
	w := newWorld(collectTopology(), 1)
	w.tasks[0].limits.partBytes = 1000
	for i := range 300 {
		w.send("a", fmt.Sprint("e", i))
	}
	w.send("a", "into:b:m")
	for len(w.in[0]) > 0 {
		w.step(0, w.in)
	}
	require.Greater(t, len(w.hand[0]), 5)
	for _, rec := range w.hand[0] {
		require.Less(t, len(rec.Value), 2000)
	}
	for len(w.hand[0]) > 1 {
		w.step(0, w.hand)
	}
	require.Empty(t, w.state()["b"], "not before the last part is there")
	w.step(0, w.hand)
	require.Len(t, w.state()["b"], 300)
	require.Empty(t, w.dead)
}

func TestMergeHoldsNoMoreThanItsLimit(t *testing.T) {
	w := newWorld(collectTopology(), 1)
	w.tasks[0].limits.held = 5
	w.send("b", "announce:a:m")
	for i := range 5 {
		w.send("b", fmt.Sprint("e", i))
	}
	for len(w.in[0]) > 0 {
		w.step(0, w.in)
	}
	require.Empty(t, w.state()["b"])
	w.send("b", "e5")
	w.step(0, w.in)
	require.Len(t, w.state()["b"], 6, "the wait is over, nothing is lost")
}

func TestMergeErrorIsDeadLetteredWithItsState(t *testing.T) {
	w := newWorld(collectTopology(), 1)
	w.tasks[0].limits.partBytes = 1 << 20
	w.send("a", "e1")
	w.send("b", "e1") // the merge of both will find it twice
	w.send("a", "into:b:m")
	w.send("b", "e2")
	for len(w.in[0]) > 0 {
		w.step(0, w.in)
	}
	w.step(0, w.hand)
	require.Len(t, w.dead, 1)
	require.Contains(t, w.dead[0].Reason, "e1 came twice")
	p, err := decodePart(w.dead[0].Record.Value)
	require.NoError(t, err)
	require.Equal(t, "e1", p.state[0].name)
	require.Equal(t, []string{"e1", "e2"}, w.state()["b"])
}

func FuzzDecodeHandover(f *testing.F) {
	f.Add(encodeEnvelope(&envelope{rec: Record{Topic: "t", Key: []byte("k"), Value: []byte("v"), Headers: []Header{{"h", nil}}}, path: []hop{{"a", 1}}}))
	f.Add(encodePart(&part{merge: "m", key: "k", count: 1, waits: []wait{{"x", 1}}, done: []string{"y"}, state: []named{{"n", []byte{1}}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := decodeEnvelope(data); err == nil {
			again, err := decodeEnvelope(encodeEnvelope(e))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		if p, err := decodePart(data); err == nil {
			again, err := decodePart(encodePart(p))
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		w := newWorld(collectTopology(), 1)
		rec := Record{Topic: "collect.handover", Key: []byte("k"), Value: data}
		w.tasks[0].begin(w.now)
		w.tasks[0].process(&rec)
		require.NoError(t, w.tasks[0].fault())
	})
}
