package oracle_test

import (
	"testing"
	"time"

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
