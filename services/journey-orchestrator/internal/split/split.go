// Package split assigns people to the arms of a split by a hash, the same for ever.
//
// It promises: the arm depends only on tenant, journey, salt, profile and the weights, so any node and
// any replay gives the same one; two splits with different salts are independent of each other; over
// many people the shares follow the weights. Changing a weight moves only the people next to the moved
// boundary. TestProportions, TestIndependence and TestVectors would catch the loss of these.
package split

import (
	"encoding/binary"
	"math/bits"
)

// Key is what a person is hashed by.
type Key struct {
	Tenant  string
	Journey string
	// Salt is the split's salt, or the id of its step.
	Salt    string
	Profile string
}

// Hash is 64-bit FNV-1a (Fowler, Noll, Vo; RFC 9923) over the four parts, each preceded by its length as
// eight bytes little-endian so that no two keys share an input, followed by the 64-bit finalizer of
// MurmurHash3 (Appleby), since the high bits of FNV-1a alone are biased for short inputs.
func Hash(k Key) uint64 {
	h := uint64(offset64)
	h = add(h, k.Tenant)
	h = add(h, k.Journey)
	h = add(h, k.Salt)
	h = add(h, k.Profile)
	return finalize(h)
}

// Arm is the index of the arm for hash h, given the arms' weights. The hash space is cut into as many
// adjacent parts as there are arms, in order, in proportion to their weights. Weights that are not
// positive have no share; with no positive weight the answer is 0.
func Arm(h uint64, weights []int32) int {
	var total uint64
	for _, w := range weights {
		total += share(w)
	}
	if total == 0 {
		return 0
	}
	// The high word of h*total is uniform over [0, total), without the bias of a remainder (Lemire).
	point, _ := bits.Mul64(h, total)
	for i, w := range weights {
		if point < share(w) {
			return i
		}
		point -= share(w)
	}
	return len(weights) - 1
}

const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

func add(h uint64, part string) uint64 {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(part)))
	for _, b := range length {
		h = (h ^ uint64(b)) * prime64
	}
	for i := range len(part) {
		h = (h ^ uint64(part[i])) * prime64
	}
	return h
}

func finalize(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func share(w int32) uint64 {
	if w <= 0 {
		return 0
	}
	return uint64(w)
}
