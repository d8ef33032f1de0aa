package dispatch

import "sort"

// watermark follows which records of a partition are done. Deliveries end in any order; the offset that
// may be committed is the one below which all have ended. It takes 24 bytes for each record of the span.
type watermark struct {
	entries []entry // offsets received from the first that is not done on, ascending
	next    int64   // the offset that may be committed; 0 before the first record was done
}

type entry struct {
	offset int64
	// reports is an offset of the reports' partition: no report of this send or of a later one stands
	// below it.
	reports int64
	done    bool
}

// add notes a record that was received. Offsets ascend; gaps are what transactions leave.
func (w *watermark) add(offset, reports int64) {
	w.entries = append(w.entries, entry{offset: offset, reports: reports})
}

// span is how many records are held because the first of them is not done.
func (w *watermark) span() int { return len(w.entries) }

// finish notes that a record is done and returns the offset to commit, if it moved.
func (w *watermark) finish(offset int64) (commit int64, moved bool) {
	at := sort.Search(len(w.entries), func(i int) bool { return w.entries[i].offset >= offset })
	if at == len(w.entries) || w.entries[at].offset != offset {
		return 0, false
	}
	w.entries[at].done = true
	ended := 0
	for ended < len(w.entries) && w.entries[ended].done {
		ended++
	}
	if ended == 0 {
		return 0, false
	}
	w.next = w.entries[ended-1].offset + 1
	w.entries = w.entries[ended:]
	return w.next, true
}

// reportsFrom is where the reports begin that somebody who goes on from the watermark has to know;
// otherwise says so if nothing is under way.
func (w *watermark) reportsFrom(otherwise int64) int64 {
	if len(w.entries) == 0 {
		return otherwise
	}
	return w.entries[0].reports
}
