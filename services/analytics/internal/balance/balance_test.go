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

func TestOffsets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOf(rapid.Int64Range(0, 500))
		a, b := numbers.Draw(t, "a"), numbers.Draw(t, "b")
		have, other := balance.NewOffsets(), balance.NewOffsets()
		seen := map[int64]bool{}
		for _, n := range a {
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
