package resolve

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func anyRecord() *rapid.Generator[record] {
	return rapid.Custom(func(t *rapid.T) record {
		r := record{
			profile: rapid.String().Draw(t, "profile"), sinceMs: rapid.Int64().Draw(t, "since"),
			fresh: rapid.Bool().Draw(t, "fresh"), sweeping: rapid.Bool().Draw(t, "sweeping"),
			pending: rapid.String().Draw(t, "pending"), tries: rapid.Uint64().Draw(t, "tries"),
			head: rapid.Uint64().Draw(t, "head"), heldBytes: rapid.Uint64().Draw(t, "bytes"),
		}
		r.tail = rapid.Uint64Min(r.head).Draw(t, "tail")
		for _, id := range rapid.SliceOfNDistinct(rapid.String(), 0, maxLinked+10, rapid.ID).Draw(t, "linked") {
			r.link(id)
		}
		for range rapid.IntRange(0, maxRoutes+10).Draw(t, "routes") {
			var set setHash
			copy(set[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "set"))
			r.addRoute(route{set: set, profile: rapid.String().Draw(t, "to")}, 42)
		}
		return r
	})
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyRecord().Draw(t, "record")
		have, err := parseRecord(want.append(nil))
		require.NoError(t, err)
		require.Equal(t, want, have)
	})
}

func FuzzRecord(f *testing.F) {
	for seed := range 10 {
		r := anyRecord().Example(seed)
		f.Add(r.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := parseRecord(r.append(nil))
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func FuzzSweepCursor(f *testing.F) {
	f.Add(sweepCursor{shard: 7, oldestMs: 1 << 40}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseSweepCursor(b)
		if err != nil {
			return
		}
		again, err := parseSweepCursor(c.append(nil))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func FuzzArrival(f *testing.F) {
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseArrival(b); err == nil {
			require.NotEmpty(t, b)
		}
	})
}
