package balance

import "math/bits"

// block is how many offsets are one word of a set.
const block = 64

// Offsets is a set of offsets of one partition; a million that follow one another take 130 kB.
type Offsets struct {
	words map[int64]uint64
	count int64
}

// NewOffsets returns an empty set.
func NewOffsets() *Offsets { return &Offsets{words: make(map[int64]uint64)} }

// Add adds an offset; false if it was there.
func (o *Offsets) Add(offset int64) bool {
	bit := uint64(1) << (offset % block)
	word := o.words[offset/block]
	if word&bit != 0 {
		return false
	}
	o.words[offset/block] = word | bit
	o.count++
	return true
}

// Has says whether an offset is in the set.
func (o *Offsets) Has(offset int64) bool { return o.words[offset/block]&(1<<(offset%block)) != 0 }

// Len is how many offsets are in the set.
func (o *Offsets) Len() int64 { return o.count }

// Missing returns up to limit offsets of o, in order, that other has not, and how many there are.
func (o *Offsets) Missing(other *Offsets, limit int) (first []int64, count int64) {
	for index, word := range o.words {
		lost := word &^ other.words[index]
		count += int64(bits.OnesCount64(lost))
		for ; lost != 0; lost &= lost - 1 {
			first = insert(first, index*block+int64(bits.TrailingZeros64(lost)), limit)
		}
	}
	return first, count
}

// insert keeps the smallest limit values in order.
func insert(list []int64, v int64, limit int) []int64 {
	i := len(list)
	for i > 0 && list[i-1] > v {
		i--
	}
	if i == limit {
		return list
	}
	list = append(list, 0)
	copy(list[i+1:], list[i:])
	list[i] = v
	return list[:min(len(list), limit)]
}
