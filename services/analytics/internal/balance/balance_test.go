package balance_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

// Events come in and are accounted for, in any order; some are lost, some accounted for twice, and the
// book names exactly those.
func TestPlantedLossesAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type booking struct {
			hour balance.Hour
			fate balance.Fate
			id   string
		}
		var all []booking
		want := map[balance.Loose]bool{}
		unbalanced := map[balance.Hour]bool{}
		for i := range rapid.IntRange(0, 60).Draw(t, "events") {
			h := balance.HourOf(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant"), "web", int64(rapid.IntRange(0, 3).Draw(t, "hour"))*3_600_000+int64(i))
			id := fmt.Sprint("m", i)
			all = append(all, booking{h, balance.Accepted, id})
			times := 1
			switch rapid.IntRange(0, 9).Draw(t, "luck") {
			case 0:
				times = 0
			case 1:
				times = 2
			}
			if times != 1 {
				want[balance.Loose{Hour: h, MessageID: id, Times: int64(1 - times)}] = true
				unbalanced[h] = true
			}
			for range times {
				all = append(all, booking{h, balance.Fate(rapid.IntRange(1, 5).Draw(t, "fate")), id})
			}
		}
		all = rapid.Permutation(all).Draw(t, "order")
		book := balance.NewBook()
		for _, b := range all {
			book.Add(b.hour, b.fate, b.id)
		}
		found := book.Unbalanced()
		require.Len(t, found, len(unbalanced))
		again := balance.NewBook(found...)
		for _, b := range all {
			again.Add(b.hour, b.fate, b.id)
		}
		got := map[balance.Loose]bool{}
		for _, l := range again.Loose() {
			got[l] = true
		}
		require.Equal(t, want, got)
	})
}

// Losses that the sum of hashes, or the number of events, does not show by itself.
func TestLossesThatHideAreFound(t *testing.T) {
	h := balance.HourOf("demo", "web", 5)
	const zero = "!0IC=VloaY" // its hash (FNV-1a, 64 bits) is 0
	for name, c := range map[string]struct {
		fates      map[balance.Fate][]string
		difference int64
	}{
		"one, of no weight in the sum":      {map[balance.Fate][]string{balance.Accepted: {zero, "m"}, balance.Stored: {"m"}}, 1},
		"accounted for, of no weight":       {map[balance.Fate][]string{balance.Rejected: {zero}}, -1},
		"one in many":                       {map[balance.Fate][]string{balance.Accepted: manyIDs(1000), balance.Stored: manyIDs(999)}, 1},
		"another was stored":                {map[balance.Fate][]string{balance.Accepted: {"a"}, balance.Stored: {"b"}}, 0},
		"ids that differ in a bit or two":   {map[balance.Fate][]string{balance.Accepted: {"m0", "m3"}, balance.Stored: {"m1", "m2"}}, 0},
		"one twice and another not at all":  {map[balance.Fate][]string{balance.Accepted: {"a", "b"}, balance.Deduplicated: {"a"}, balance.Suppressed: {"a"}}, 0},
		"more accounted for than there was": {map[balance.Fate][]string{balance.Accepted: {"a"}, balance.Stored: {"a"}, balance.DeadLetter: {"b"}}, -1},
	} {
		book := balance.NewBook()
		for fate, ids := range c.fates {
			for _, id := range ids {
				book.Add(h, fate, id)
			}
		}
		tally := book.Tally(h)
		require.Equal(t, c.difference, tally.Difference(), name)
		require.Equal(t, []balance.Hour{h}, book.Unbalanced(), name)
	}
}

func manyIDs(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint("m", i))
	}
	return ids
}

// An event is of the hour in which it came in, whatever its tenant and source; what is listed is in order.
func TestHours(t *testing.T) {
	const hour = int64(3_600_000)
	require.Equal(t, balance.Hour{Tenant: "a", Source: "web", Start: 7 * hour}, balance.HourOf("a", "web", 7*hour))
	require.Equal(t, balance.Hour{Tenant: "a", Source: "web", Start: 7 * hour}, balance.HourOf("a", "web", 8*hour-1))
	want := []balance.Hour{{"b", "app", hour}, {"a", "app", 2 * hour}, {"a", "web", 2 * hour}, {"b", "app", 2 * hour}}
	book := balance.NewBook(want...)
	for _, i := range []int{2, 0, 3, 1} {
		book.Add(want[i], balance.Accepted, "m")
	}
	require.Equal(t, want, book.Unbalanced(), "the same id of another source or hour is another event")
	var loose []balance.Loose
	for _, h := range want {
		loose = append(loose, balance.Loose{Hour: h, MessageID: "m", Times: 1})
	}
	require.Equal(t, loose, book.Loose())
}

func TestOffsets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOf(rapid.Int64Range(0, 500))
		a, b := numbers.Draw(t, "a"), numbers.Draw(t, "b")
		have, other := balance.NewOffsets(), balance.NewOffsets()
		seen := map[int64]bool{}
		for _, n := range a {
			require.Equal(t, seen[n], have.Has(n))
			require.Equal(t, !seen[n], have.Add(n))
			seen[n] = true
		}
		require.Equal(t, int64(len(seen)), have.Len())
		for _, n := range b {
			other.Add(n)
			delete(seen, n)
		}
		var want []int64
		for n := range seen {
			want = append(want, n)
		}
		slices.Sort(want)
		first, count := have.Missing(other, 5)
		require.Equal(t, int64(len(want)), count)
		require.Equal(t, want[:min(5, len(want))], first)
	})
}
