package oracle_test

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

var (
	names  = chain.NamesOf("t")
	events = workload.Generate(workload.NewDefaultOptions(7, 3000))
)

// outputs are what the stages make of the events when nothing goes wrong: run in memory.
func outputs(t *testing.T) map[string][]stream.Record {
	t.Helper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	driver, err := stream.NewDriver(stream.DriverConfig{Start: start, Partitions: 3}, names.FirstStage(), names.SecondStage())
	require.NoError(t, err)
	for _, e := range events {
		r := workload.Record(names, e)
		require.NoError(t, driver.Send(r.Topic, r.Key, r.Value))
	}
	require.NoError(t, driver.Advance(start.Add(time.Hour)))
	first, second := oracle.ExpectState(events)
	for entry, want := range first {
		if have, ok := driver.State(names.First, []byte(entry.Key), entry.Name); entry.Kind == 's' {
			require.True(t, ok, entry)
			require.Equal(t, want, have, entry)
		}
	}
	for entry, want := range second {
		have, ok := driver.State(names.Second, []byte(entry.Key), entry.Name)
		require.True(t, ok, entry)
		require.Equal(t, want, have, entry)
	}
	all := map[string][]stream.Record{}
	for _, topic := range []string{names.Mid, names.Out, names.Fired} {
		all[topic] = driver.Output(topic)
	}
	for _, dead := range driver.DeadLetters() {
		all[dead.Topology+".dlq"] = append(all[dead.Topology+".dlq"], dead.Record)
	}
	return all
}

func judge(all map[string][]stream.Record) (oracle.Verdict, int) {
	j := oracle.NewJudge(names, events)
	for topic, records := range all {
		for _, r := range records {
			j.Add(topic, r.Key, r.Value)
		}
	}
	missing, _ := j.Missing()
	return j.Verdict(), missing
}

// TestJudge: the judge agrees with the stages when nothing goes wrong, and counts each kind of difference
// exactly.
func TestJudge(t *testing.T) {
	chained := func(records []stream.Record) []int { // places of the records of one key
		var at []int
		for i, r := range records {
			if string(r.Key) == "mk1" {
				at = append(at, i)
			}
		}
		return at
	}
	for _, c := range []struct {
		name   string
		change func(out []stream.Record) []stream.Record
		want   oracle.Verdict
	}{
		{"nothing", func(out []stream.Record) []stream.Record { return out }, oracle.Verdict{}},
		{"lost", func(out []stream.Record) []stream.Record {
			i := chained(out)[3]
			return append(out[:i:i], out[i+1:]...)
		}, oracle.Verdict{Lost: 1}},
		{"doubled", func(out []stream.Record) []stream.Record { return append(out, out[5], out[5], out[9]) }, oracle.Verdict{Doubled: 3}},
		{"swapped", func(out []stream.Record) []stream.Record {
			at := chained(out)
			out[at[2]], out[at[3]] = out[at[3]], out[at[2]]
			return out
		}, oracle.Verdict{Swapped: 1}},
		{"wrong", func(out []stream.Record) []stream.Record {
			at := chained(out)
			last := at[len(at)-1]
			out[last].Value = append(out[last].Value[:len(out[last].Value)-1:len(out[last].Value)-1], 'x')
			return out
		}, oracle.Verdict{Wrong: 1}},
		{"unasked", func(out []stream.Record) []stream.Record {
			return append(out, stream.Record{Key: []byte("mk1"), Value: []byte("k1-99999 - -")})
		}, oracle.Verdict{Wrong: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := outputs(t)
			all[names.Out] = c.change(all[names.Out])
			have, missing := judge(all)
			require.Equal(t, c.want.Lost, missing)
			require.Greater(t, have.Checked, len(events))
			have.Checked, have.Examples = 0, nil
			require.Equal(t, c.want, have)
		})
	}
}

// TestCompare: differences of state are told apart.
func TestCompare(t *testing.T) {
	first, _ := oracle.ExpectState(events)
	copied := func() map[oracle.Entry][]byte {
		have := map[oracle.Entry][]byte{}
		for entry, value := range first {
			have[entry] = append([]byte(nil), value...)
		}
		return have
	}
	sum, chained := oracle.Entry{Kind: 's', Key: "k1", Name: "sum"}, oracle.Entry{Kind: 's', Key: "k1", Name: "chain"}
	require.Contains(t, first, sum)
	var far oracle.Entry
	for entry := range first {
		if entry.Kind == 't' {
			far = entry
		}
	}
	require.NotZero(t, far)
	for _, c := range []struct {
		name   string
		change func(have map[oracle.Entry][]byte)
		want   oracle.Verdict
	}{
		{"nothing", func(map[oracle.Entry][]byte) {}, oracle.Verdict{}},
		{"one event less", func(have map[oracle.Entry][]byte) { have[sum][7]-- }, oracle.Verdict{Lost: 1}},
		{"two events more", func(have map[oracle.Entry][]byte) { have[sum][7] += 2 }, oracle.Verdict{Doubled: 2}},
		{"an entry less", func(have map[oracle.Entry][]byte) { delete(have, chained) }, oracle.Verdict{Lost: 1}},
		{"another hash", func(have map[oracle.Entry][]byte) { have[chained][0]++ }, oracle.Verdict{Wrong: 1}},
		{"a timer that was cancelled", func(have map[oracle.Entry][]byte) {
			have[oracle.Entry{Kind: 't', Key: "k1", Name: "k1-0"}] = []byte("x")
		}, oracle.Verdict{Wrong: 1}},
		{"a timer less", func(have map[oracle.Entry][]byte) { delete(have, far) }, oracle.Verdict{Lost: 1}},
		{"as many events, others", func(have map[oracle.Entry][]byte) { have[sum][15]++ }, oracle.Verdict{Wrong: 1}},
		{"an entry more", func(have map[oracle.Entry][]byte) {
			have[oracle.Entry{Kind: 's', Key: "k1", Name: "more"}] = nil
		}, oracle.Verdict{Wrong: 1}},
		{"a part held back", func(have map[oracle.Entry][]byte) {
			have[oracle.Entry{Kind: 'r', Key: "p1", Name: "p1"}] = []byte("x")
		}, oracle.Verdict{Wrong: 1}},
		{"what the runtime remembers", func(have map[oracle.Entry][]byte) {
			have[oracle.Entry{Kind: 'r', Key: "p1", Name: "m"}] = []byte("x")
		}, oracle.Verdict{}},
		{"a record held back", func(have map[oracle.Entry][]byte) {
			have[oracle.Entry{Kind: 'r', Key: "p1", Name: "h1"}] = []byte("x")
		}, oracle.Verdict{Wrong: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := copied()
			c.change(have)
			verdict := first.Compare("first", have)
			require.Equal(t, len(first), verdict.Checked)
			verdict.Checked, verdict.Examples = 0, nil
			require.Equal(t, c.want, verdict)
		})
	}
}

// TestNothingIsOverlooked: one record less, more or other is noticed wherever it is.
func TestNothingIsOverlooked(t *testing.T) {
	whole := outputs(t)
	require.Len(t, whole, 5)
	for topic := range whole {
		for _, c := range []struct {
			name   string
			change func(out []stream.Record) []stream.Record
			want   oracle.Verdict
		}{
			{"lost", func(out []stream.Record) []stream.Record { return out[:len(out)-1] }, oracle.Verdict{Lost: 1}},
			{"doubled", func(out []stream.Record) []stream.Record { return append(out, out[0]) }, oracle.Verdict{Doubled: 1}},
			{"of another key", func(out []stream.Record) []stream.Record {
				last := out[len(out)-1]
				last.Key = append([]byte("other "), last.Key...)
				return append(out[:len(out)-1], last)
			}, oracle.Verdict{Lost: 1, Wrong: 1}},
		} {
			all := maps.Clone(whole)
			all[topic] = c.change(slices.Clone(whole[topic]))
			have, missing := judge(all)
			require.Equal(t, c.want.Lost, missing, "%s: %s", topic, c.name)
			require.False(t, have.Clean())
			have.Checked, have.Examples = 0, nil
			require.Equal(t, c.want, have, "%s: %s", topic, c.name)
		}
	}
}

// TestVerdict: any difference makes a verdict unclean, and none goes missing in a sum.
func TestVerdict(t *testing.T) {
	require.True(t, (&oracle.Verdict{Checked: 1}).Clean())
	one := []oracle.Verdict{{Lost: 1}, {Doubled: 1}, {Swapped: 1}, {Wrong: 1}}
	var sum oracle.Verdict
	for _, v := range one {
		require.False(t, v.Clean(), "%+v", v)
		sum.Add(v)
	}
	sum.Add(oracle.Verdict{Checked: 2, Examples: []string{"what"}})
	require.Equal(t, oracle.Verdict{Checked: 2, Lost: 1, Doubled: 1, Swapped: 1, Wrong: 1, Examples: []string{"what"}}, sum)
}

// key is a key of a changelog.
func key(kind byte, of, name string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(of))), of+name...)
}

func timer(due int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(due)) }

// index is the place of a timer in the due index.
func index(due int64, of, name string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{'d'}, uint64(due)^1<<63), key('t', of, name)[1:]...)
}

// TestStores: a store that lacks something, has too much, stands elsewhere than it says or behind the end is
// told from one that is right, the due index included.
func TestStores(t *testing.T) {
	log := oracle.Changelog{0: {
		{Offset: 0, Key: key('s', "a", "n"), Value: []byte("1")},
		{Offset: 1, Key: key('t', "a", "t1"), Value: timer(5)},
		{Offset: 3, Key: key('s', "b", "n"), Value: []byte("2")},
		{Offset: 4, Key: key('t', "a", "t1"), Value: timer(-7)},
		{Offset: 6, Key: key('s', "b", "n")},
	}, 1: nil}
	right := map[string][]byte{
		string(key('s', "a", "n")): []byte("1"), string(key('t', "a", "t1")): timer(-7), string(index(-7, "a", "t1")): timer(-7),
	}
	for name, c := range map[string]struct {
		change  func(map[string][]byte)
		at      int64
		loading byte
		want    oracle.Verdict
	}{
		"right":                       {func(map[string][]byte) {}, 8, 0, oracle.Verdict{}},
		"an entry less":               {func(m map[string][]byte) { delete(m, string(key('s', "a", "n"))) }, 8, 0, oracle.Verdict{Lost: 1}},
		"another value":               {func(m map[string][]byte) { m[string(key('s', "a", "n"))] = []byte("0") }, 8, 0, oracle.Verdict{Wrong: 1}},
		"what was deleted":            {func(m map[string][]byte) { m[string(key('s', "b", "n"))] = []byte("2") }, 8, 0, oracle.Verdict{Wrong: 1}},
		"no due entry":                {func(m map[string][]byte) { delete(m, string(index(-7, "a", "t1"))) }, 8, 0, oracle.Verdict{Lost: 1}},
		"a stale due entry":           {func(m map[string][]byte) { m[string(index(5, "a", "t1"))] = timer(5) }, 8, 0, oracle.Verdict{Wrong: 1}},
		"a due entry of another time": {func(m map[string][]byte) { m[string(index(-7, "a", "t1"))] = timer(5) }, 8, 0, oracle.Verdict{Wrong: 1}},
		"behind, and says so":         {func(m map[string][]byte) { m[string(key('s', "b", "n"))] = []byte("2") }, 6, 0, oracle.Verdict{Lost: 1}},
		"behind, and does not":        {func(m map[string][]byte) { m[string(key('s', "b", "n"))] = []byte("2") }, 7, 0, oracle.Verdict{Wrong: 1}},
		"still loading":               {func(m map[string][]byte) { delete(m, string(index(-7, "a", "t1"))) }, 8, 1, oracle.Verdict{Lost: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			entries, dir := maps.Clone(right), t.TempDir()
			c.change(entries)
			stamp := append(make([]byte, 17), binary.BigEndian.AppendUint64(nil, uint64(c.at))...)
			entries["m"] = append(append(stamp, c.loading), make([]byte, 8)...)
			path := filepath.Join(dir, "stage", "0")
			require.NoError(t, os.MkdirAll(path, 0o700))
			db, err := pebble.Open(path, &pebble.Options{FormatMajorVersion: pebble.FormatNewest})
			require.NoError(t, err)
			for k, v := range entries {
				require.NoError(t, db.Set([]byte(k), v, pebble.NoSync))
			}
			require.NoError(t, db.Close())
			have, err := log.Stores("stage", []string{t.TempDir(), dir})
			require.NoError(t, err)
			have.Checked, have.Examples = 0, nil
			require.Equal(t, c.want, have)
		})
	}
	none, err := log.Stores("stage", nil)
	require.NoError(t, err)
	require.Equal(t, 1, none.Lost, "no store at all")
}

// TestReplay: the state is what was written last and not deleted; what is in two partitions is an error.
func TestReplay(t *testing.T) {
	log := oracle.Changelog{
		0: {{Offset: 0, Key: key('s', "a", "n"), Value: []byte("1")}, {Offset: 1, Key: key('s', "b", "n"), Value: []byte("2")}, {Offset: 5, Key: key('s', "a", "n")}},
		1: {{Offset: 0, Key: key('t', "c", "t1"), Value: timer(1)}, {Offset: 9, Key: key('t', "c", "t1"), Value: timer(2)}},
	}
	state, err := log.Replay()
	require.NoError(t, err)
	require.Equal(t, map[oracle.Entry][]byte{{Kind: 's', Key: "b", Name: "n"}: []byte("2"), {Kind: 't', Key: "c", Name: "t1"}: timer(2)}, state)
	log[2] = []oracle.Change{{Key: key('s', "b", "n"), Value: []byte("2")}}
	_, err = log.Replay()
	require.ErrorContains(t, err, "two partitions")
	_, err = oracle.Changelog{0: {{Key: []byte("s\x00\x09a"), Value: []byte("1")}}}.Replay()
	require.ErrorContains(t, err, "no key of a changelog")
}
