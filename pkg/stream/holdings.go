package stream

import (
	"maps"
	"sync"
)

// holdings knows which partitions this instance has on its disk and how far they are, for as long as the
// process lives. Members tell each other so when they join.
type holdings struct {
	mu        sync.Mutex // guards what follows; held for map accesses only
	positions map[int32]int64
	refused   map[int32]bool
}

func newHoldings() *holdings {
	return &holdings{positions: make(map[int32]int64), refused: make(map[int32]bool)}
}

// at notes the changelog offset that the store of a partition stands at.
func (h *holdings) at(partition int32, position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.positions[partition] = position
}

// gone notes that the store of a partition was removed.
func (h *holdings) gone(partition int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.positions, partition)
}

// refuse notes that this instance cannot work on a partition, for as long as it lives: its state is of a
// later version. It says whether that is news.
func (h *holdings) refuse(partition int32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	news := !h.refused[partition]
	h.refused[partition] = true
	return news
}

// report is what this member tells the others: the partitions with a store, on disk or open, and where
// they are known to stand.
func (h *holdings) report(stored []int32, standbys int) memberData {
	h.mu.Lock()
	defer h.mu.Unlock()
	data := memberData{standbys: standbys, stored: make(map[int32]int64), refused: maps.Clone(h.refused)}
	for _, p := range stored {
		data.stored[p] = h.positions[p]
	}
	return data
}

// memberData is what a member tells the leader of its group beside what it owns.
type memberData struct {
	standbys int             // copies that it wants of each partition, and takes part in keeping
	stored   map[int32]int64 // partitions that it has a store for, with the changelog offset, 0 if not known
	refused  map[int32]bool  // partitions that it cannot work on
}

func (d memberData) encode() []byte {
	w := writer{}
	w.byte(2)
	w.uint(uint64(max(d.standbys, 0)))
	w.uint(uint64(len(d.stored)))
	for _, p := range sortedKeys(d.stored) {
		w.uint(uint64(p))
		w.uint(uint64(max(d.stored[p], 0)))
	}
	w.uint(uint64(len(d.refused)))
	for _, p := range sortedKeys(d.refused) {
		w.uint(uint64(p))
	}
	return w.buf
}

// decodeMemberData reads what another member sent; what cannot be read is no hint.
func decodeMemberData(data []byte) memberData {
	r := reader{buf: data}
	d := memberData{stored: make(map[int32]int64), refused: make(map[int32]bool)}
	switch r.byte() {
	case 1: // only partitions with a store
		for range r.count() {
			d.stored[int32(r.uint())] = 0
		}
	case 2:
		d.standbys = int(min(r.uint(), maxStandbys))
		for range r.count() {
			p := int32(r.uint())
			d.stored[p] = int64(r.uint())
		}
		for range r.count() {
			d.refused[int32(r.uint())] = true
		}
	default:
		return memberData{}
	}
	if r.done() != nil {
		return memberData{}
	}
	return d
}

// encodeStandbys is what the leader tells a member beside what it is to own: the partitions to keep a copy of.
func encodeStandbys(partitions []int32) []byte {
	w := writer{}
	w.byte(1)
	w.uint(uint64(len(partitions)))
	for _, p := range partitions {
		w.uint(uint64(p))
	}
	return w.buf
}

func decodeStandbys(data []byte) []int32 {
	r := reader{buf: data}
	if r.byte() != 1 {
		return nil
	}
	var partitions []int32
	for range r.count() {
		partitions = append(partitions, int32(r.uint()))
	}
	if r.done() != nil {
		return nil
	}
	return partitions
}
