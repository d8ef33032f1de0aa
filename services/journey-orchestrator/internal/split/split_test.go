package split_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/split"
)

// TestVectors pins the hash (values computed apart, by a program in another language): another result would move every person of every running test to another arm.
func TestVectors(t *testing.T) {
	for key, want := range map[split.Key]uint64{
		{}: 0x8044259ac302db3e,
		{Tenant: "bank", Journey: "loan", Salt: "ab", Profile: "p1"}: 0xd0a3a9b2144580c8,
		{Tenant: "bank", Journey: "loan", Salt: "a", Profile: "bp1"}: 0x2afea67e07bb97dd,
	} {
		require.Equal(t, fmt.Sprintf("%#x", want), fmt.Sprintf("%#x", split.Hash(key)), "%+v", key)
	}
}

// TestProportions draws many profiles and compares the shares with the weights: with n draws the
// standard deviation of a share p is sqrt(p(1-p)/n), and six of them is a bound that chance does not break.
func TestProportions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Int32Range(1, 100), 2, 6).Draw(t, "weights")
		salt := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "salt")
		const n = 5_000
		counts := make([]int, len(weights))
		var total int32
		for _, w := range weights {
			total += w
		}
		for i := range n {
			h := split.Hash(split.Key{Tenant: "bank", Journey: "loan", Salt: salt, Profile: fmt.Sprintf("profile-%d", i)})
			counts[split.Arm(h, weights)]++
		}
		for i, w := range weights {
			p := float64(w) / float64(total)
			bound := 6*math.Sqrt(p*(1-p)*n) + 1
			require.InDelta(t, p*n, float64(counts[i]), bound, "arm %d of %v", i, weights)
		}
	})
}

// TestStickiness: the same key always has the same arm, whatever else was hashed, and growing the last
// arm takes people only from their arm into a later one, never back.
func TestStickiness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := split.Key{
			Tenant: rapid.String().Draw(t, "tenant"), Journey: rapid.String().Draw(t, "journey"),
			Salt: rapid.String().Draw(t, "salt"), Profile: rapid.String().Draw(t, "profile"),
		}
		weights := rapid.SliceOfN(rapid.Int32Range(0, 1000), 1, 6).Draw(t, "weights")
		first := split.Arm(split.Hash(key), weights)
		require.Equal(t, first, split.Arm(split.Hash(key), weights))
		require.Less(t, first, len(weights))
		grown := append([]int32(nil), weights...)
		grown[len(grown)-1] += rapid.Int32Range(0, 1000).Draw(t, "more")
		if total(weights) > 0 {
			require.GreaterOrEqual(t, split.Arm(split.Hash(key), grown), first)
		}
	})
}

func total(weights []int32) (sum int32) {
	for _, w := range weights {
		sum += w
	}
	return sum
}

// TestIndependence: the arms of two splits of one journey are independent, so that the effect of one
// does not hide in the other.
func TestIndependence(t *testing.T) {
	const n = 20_000
	var both [2][2]int
	for i := range n {
		profile := fmt.Sprintf("profile-%d", i)
		a := split.Arm(split.Hash(split.Key{Tenant: "bank", Journey: "loan", Salt: "one", Profile: profile}), []int32{1, 1})
		b := split.Arm(split.Hash(split.Key{Tenant: "bank", Journey: "loan", Salt: "two", Profile: profile}), []int32{1, 1})
		both[a][b]++
	}
	for _, row := range both {
		for _, count := range row {
			require.InDelta(t, n/4, count, 6*math.Sqrt(n*3.0/16))
		}
	}
}

// TestFNV holds the inner hash against the standard library's.
func TestFNV(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		h := fnv.New64a()
		for _, part := range []string{s, "", "x", s} {
			var length [8]byte
			for i := range length {
				length[i] = byte(len(part) >> (8 * i))
			}
			h.Write(length[:])
			h.Write([]byte(part))
		}
		want := h.Sum64()
		want ^= want >> 33
		want *= 0xff51afd7ed558ccd
		want ^= want >> 33
		want *= 0xc4ceb9fe1a85ec53
		want ^= want >> 33
		require.Equal(t, want, split.Hash(split.Key{Tenant: s, Salt: "x", Profile: s}))
	})
}
