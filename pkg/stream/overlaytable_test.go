package stream

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTableKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tab table
		var want []string
		for round := range 2 { // the second round uses the memory of the first
			for range rapid.IntRange(0, 600).Draw(t, "operations") {
				name := fmt.Sprintf("%03d", rapid.IntRange(0, 700).Draw(t, "name"))
				at, found := tab.find(name)
				i, there := slices.BinarySearch(want, name)
				require.Equal(t, there, found)
				switch {
				case !found:
					require.Equal(t, name, tab.insert(at, entry{name: name}).name)
					want = slices.Insert(want, i, name)
				case rapid.IntRange(0, 2).Draw(t, "remove") == 0:
					tab.remove(at)
					want = slices.Delete(want, i, i+1)
				default:
					require.Equal(t, name, tab.at(at).name)
				}
			}
			var walked, all []string
			first, _ := tab.find("")
			for p := first; tab.at(p) != nil; p = tab.next(p) {
				walked = append(walked, tab.at(p).name)
			}
			tab.each(func(e *entry) { all = append(all, e.name) })
			require.True(t, slices.Equal(want, walked), "%v instead of %v", walked, want)
			require.True(t, slices.Equal(want, all), "%v instead of %v", all, want)
			if round == 0 {
				tab.reset()
				want = nil
				require.Nil(t, tab.at(place{}))
			}
		}
	})
}
