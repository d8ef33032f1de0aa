package dispatch

import "container/list"

// watermark follows which records of a partition are done. Deliveries end in any order; the offset that
// may be committed is the one below which all have ended.
type watermark struct {
	order   *list.List // offsets received, ascending, not all done
	done    map[int64]bool
	pending int
}

func newWatermark() *watermark {
	return &watermark{order: list.New(), done: map[int64]bool{}}
}

// add notes a record that was received. Offsets ascend; gaps are what transactions leave.
func (w *watermark) add(offset int64) {
	w.order.PushBack(offset)
	w.pending++
}

// finish notes that a record is done and returns the offset to commit, if it moved.
func (w *watermark) finish(offset int64) (commit int64, moved bool) {
	w.pending--
	w.done[offset] = true
	for front := w.order.Front(); front != nil; front = w.order.Front() {
		first, ok := front.Value.(int64)
		if !ok || !w.done[first] {
			break
		}
		w.order.Remove(front)
		delete(w.done, first)
		commit, moved = first+1, true
	}
	return commit, moved
}
