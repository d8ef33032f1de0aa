package stream

import (
	"slices"
	"strings"
)

// table holds the entries of one kind of a key in order of name. It is cut into runs, so that a key with
// very many names (a whole tenant's identity graph stands under one) does not move all of them for each
// that comes: an insert moves at most a run. Most keys have one run. TestTableKeepsOrder compares it with
// a sorted map; BenchmarkWideKey shows the loss of the runs.
type table struct{ runs [][]entry }

// maxRun is where a run is cut in two: 128 entries are 9 kB to move.
const maxRun = 128

// place is where a name stands, or would stand.
type place struct{ run, at int }

// find returns the place of a name and whether it is there.
func (t *table) find(name string) (place, bool) {
	// Names often come in rising order (times, sequence numbers): look at the end first.
	last := len(t.runs) - 1
	if last < 0 {
		return place{}, false
	}
	if run := t.runs[last]; run[len(run)-1].name < name {
		return place{last, len(run)}, false
	}
	r, _ := slices.BinarySearchFunc(t.runs, name, func(run []entry, n string) int { return strings.Compare(run[len(run)-1].name, n) })
	at, found := slices.BinarySearchFunc(t.runs[r], name, func(e entry, n string) int { return strings.Compare(e.name, n) })
	return place{r, at}, found
}

// at is the entry of a place; nil behind the last. The pointer is valid until the next insert or remove.
func (t *table) at(p place) *entry {
	if p.run >= len(t.runs) || p.at >= len(t.runs[p.run]) {
		return nil
	}
	return &t.runs[p.run][p.at]
}

// next is the place after p.
func (t *table) next(p place) place {
	if p.at++; p.run < len(t.runs) && p.at >= len(t.runs[p.run]) {
		return place{run: p.run + 1}
	}
	return p
}

// insert puts an entry at the place that find gave for its name.
func (t *table) insert(p place, e entry) *entry {
	if len(t.runs) == 0 {
		// What an earlier batch left serves again.
		if cap(t.runs) > 0 {
			t.runs = t.runs[:1]
		} else {
			t.runs = make([][]entry, 1)
		}
	}
	if len(t.runs[p.run]) >= maxRun {
		p = t.cut(p)
	}
	t.runs[p.run] = slices.Insert(t.runs[p.run], p.at, e)
	return &t.runs[p.run][p.at]
}

// cut makes room in the run of a place and returns where the place is now. A run that only grows at its
// end stays full.
func (t *table) cut(p place) place {
	run := t.runs[p.run]
	if p.at == len(run) && p.run == len(t.runs)-1 {
		t.runs = append(t.runs, make([]entry, 0, maxRun))
		return place{run: p.run + 1}
	}
	const half = maxRun / 2
	upper := append(make([]entry, 0, maxRun), run[half:]...)
	clear(run[half:])
	t.runs[p.run] = run[:half]
	t.runs = slices.Insert(t.runs, p.run+1, upper)
	if p.at > half {
		return place{p.run + 1, p.at - half}
	}
	return p
}

// remove takes the entry of a place out.
func (t *table) remove(p place) {
	t.runs[p.run] = slices.Delete(t.runs[p.run], p.at, p.at+1)
	if len(t.runs[p.run]) == 0 {
		t.runs = slices.Delete(t.runs, p.run, p.run+1)
	}
}

// each calls fn for all entries in order.
func (t *table) each(fn func(*entry)) {
	for _, run := range t.runs {
		for i := range run {
			fn(&run[i])
		}
	}
}

// reset forgets all entries. Of a small table the memory is kept.
func (t *table) reset() {
	const keep = 64
	if len(t.runs) != 1 || cap(t.runs[0]) > keep {
		t.runs = nil
		return
	}
	clear(t.runs[0])
	t.runs[0] = t.runs[0][:0]
	t.runs = t.runs[:0]
}
