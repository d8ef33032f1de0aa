package oracle

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// Entry names an entry of state: what kind it is ('s' state, 't' timer, 'r' the runtime's own), whose, and
// under which name.
type Entry struct {
	Kind      byte
	Key, Name string
}

// Expected is the state that a stage must have when everything has been handled.
type Expected map[Entry][]byte

// total is a number of events and the sum of their hashes.
type total struct{ count, sum uint64 }

func (t total) plus(id string) total {
	return total{t.count + 1, t.sum + fnv(fnvOffset, []byte(id))}
}

func (t total) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, t.count), t.sum)
}

// ExpectState works out the state of both stages from the events. Timers have no value: when they are due
// depends on when they were set.
func ExpectState(events []workload.Event) (first, second Expected) {
	first, second = Expected{}, Expected{}
	goes := map[string]string{} // key that ended → key that goes on
	sums, fired := map[string]total{}, map[string]total{}
	chains := map[string]string{}
	for _, e := range events {
		switch e.Op {
		case workload.Into:
			goes[e.Key] = e.Other
			continue
		case workload.From, workload.Poison:
			continue
		case workload.Timer:
			fired[e.Key] = fired[e.Key].plus(e.ID)
		case workload.Far:
			first[Entry{'t', e.Key, e.ID}] = nil
		case workload.Cancel:
			delete(first, Entry{'t', e.Key, e.Target})
		default:
		}
		sums[e.Key] = sums[e.Key].plus(e.ID)
		link2 := e.ID + " -"
		if e.Ordered() {
			chains[e.Key] = hash(chains[e.Key], e.ID)
			link2 = e.ID + " " + chains[e.Key]
		}
		if e.Op == workload.Poison2 {
			continue
		}
		middle := "m" + e.Key
		sums[middle] = sums[middle].plus(e.ID)
		if e.Ordered() {
			chains[middle] = hash(chains[middle], link2)
		}
	}
	put := func(key, name string, value []byte) {
		if strings.HasPrefix(key, "m") {
			second[Entry{'s', key, name}] = value
		} else {
			first[Entry{'s', key, name}] = value
		}
	}
	for key, chain := range chains {
		put(key, "chain", fromHex(chain))
	}
	for name, totals := range map[string]map[string]total{"sum": sums, "fired": fired} {
		for key, t := range follow(totals, goes) {
			put(key, name, t.bytes())
		}
	}
	return first, second
}

// follow adds what ended to what goes on.
func follow(totals map[string]total, goes map[string]string) map[string]total {
	merged := map[string]total{}
	for key, t := range totals {
		for goes[key] != "" {
			key = goes[key]
		}
		m := merged[key]
		merged[key] = total{m.count + t.count, m.sum + t.sum}
	}
	return merged
}

// Compare holds the state of a stage against what it must be.
func (x Expected) Compare(stage string, have map[Entry][]byte) Verdict {
	v := Verdict{Checked: len(x)}
	for _, e := range slices.SortedFunc(maps.Keys(x), compareEntries) {
		value, ok := have[e]
		switch {
		case !ok:
			v.notef(&v.Lost, 1, "state of %s: %c %s %s is not there", stage, e.Kind, e.Key, e.Name)
		case e.Kind == 't' || bytes.Equal(value, x[e]):
		case e.Name == "chain" || len(value) != 16:
			v.notef(&v.Wrong, 1, "state of %s: %s of key %s is %x and should be %x", stage, e.Name, e.Key, value, x[e])
		default:
			v.total(stage, e, binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(x[e]))
		}
	}
	for _, e := range slices.SortedFunc(maps.Keys(have), compareEntries) {
		if _, ok := x[e]; ok {
			continue
		}
		switch {
		case e.Kind == 's', e.Kind == 't':
			v.notef(&v.Wrong, 1, "state of %s: nothing asks for %c %s %s", stage, e.Kind, e.Key, e.Name)
		case strings.HasPrefix(e.Name, "h"), strings.HasPrefix(e.Name, "p"):
			v.notef(&v.Wrong, 1, "state of %s: key %s still holds something back (%q)", stage, e.Key, e.Name)
		}
	}
	return v
}

// total tells a count that is off.
func (v *Verdict) total(stage string, e Entry, have, want uint64) {
	switch {
	case have < want:
		v.notef(&v.Lost, int(want-have), "state of %s: %s of key %s counts %d events of %d", stage, e.Name, e.Key, have, want)
	case have > want:
		v.notef(&v.Doubled, int(have-want), "state of %s: %s of key %s counts %d events, %d there were", stage, e.Name, e.Key, have, want)
	default:
		v.notef(&v.Wrong, 1, "state of %s: %s of key %s counts the right number of events and others than there were", stage, e.Name, e.Key)
	}
}

func compareEntries(a, b Entry) int {
	return strings.Compare(string(a.Kind)+a.Key+"\x00"+a.Name, string(b.Kind)+b.Key+"\x00"+b.Name)
}
