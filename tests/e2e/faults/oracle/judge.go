// Package oracle knows from the generated events alone what a read-committed reader of a run must see, and
// says of every difference whether something was lost, doubled, swapped or is wrong, with exact counts. It
// also knows what state must be left, and holds changelogs and local stores against each other. It shares
// no code with the runtime or with the processors under test.
package oracle

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// Verdict counts what was looked at and every kind of difference.
type Verdict struct {
	// Checked are the records or entries that had to be there.
	Checked int
	// Lost are those that are not there.
	Lost int
	// Doubled are those that are there once too often, counted each time.
	Doubled int
	// Swapped are the fewest that would have to move for the order of their key to be right.
	Swapped int
	// Wrong are those whose content is not what it must be, and those that nobody asked for.
	Wrong int
	// Examples describe the first few differences.
	Examples []string
}

// Clean says whether there is no difference.
func (v *Verdict) Clean() bool {
	return v.Lost == 0 && v.Doubled == 0 && v.Swapped == 0 && v.Wrong == 0
}

// String is one line for a log, with the examples.
func (v *Verdict) String() string {
	s := fmt.Sprintf("%d checked: %d lost, %d doubled, %d swapped, %d wrong", v.Checked, v.Lost, v.Doubled, v.Swapped, v.Wrong)
	if len(v.Examples) > 0 {
		s += "\n  " + strings.Join(v.Examples, "\n  ")
	}
	return s
}

// Add adds another verdict.
func (v *Verdict) Add(o Verdict) {
	v.Checked += o.Checked
	v.Lost += o.Lost
	v.Doubled += o.Doubled
	v.Swapped += o.Swapped
	v.Wrong += o.Wrong
	for _, e := range o.Examples {
		v.example(e)
	}
}

const maxExamples = 20

func (v *Verdict) example(text string) {
	if len(v.Examples) < maxExamples {
		v.Examples = append(v.Examples, text)
	}
}

func (v *Verdict) notef(count *int, n int, format string, args ...any) {
	*count += n
	v.example(fmt.Sprintf(format, args...))
}

// item is a record that must be there.
type item struct {
	key, text string
	index     int                          // its place among those of its key
	ordered   bool                         // its place counts
	after     func(previous string) string // the text that is right after another record than the expected one
}

// seen is a record that was there, for the first time.
type seen struct{ id, text string }

// output is what must come and what came of one topic.
type output struct {
	name     string
	want     map[string]item // by id of the event
	length   map[string]int  // items by key
	count    map[string]int  // how often an id was seen
	sequence map[string][]seen
	atOnce   Verdict // what can be told when a record comes
}

func newOutput(name string) *output {
	return &output{name: name, want: map[string]item{}, length: map[string]int{}, count: map[string]int{}, sequence: map[string][]seen{}}
}

func (o *output) expect(id string, i item) {
	i.index = o.length[i.key]
	o.length[i.key]++
	o.want[id] = i
}

// Judge takes the records of a run as a read-committed reader sees them and compares them with what the
// events ask for. It may be used from several goroutines.
type Judge struct {
	mu      sync.Mutex // guards what follows
	outputs map[string]*output
	wanted  int
	missing int
	records int
}

// NewJudge works out what must come of the events.
func NewJudge(names chain.Names, events []workload.Event) *Judge {
	mid, out, fired := newOutput(names.Mid), newOutput(names.Out), newOutput(names.Fired)
	dead1, dead2 := newOutput(names.FirstDead), newOutput(names.SecondDead)
	j := &Judge{outputs: map[string]*output{}}
	chains := map[string]string{} // of the first stage by key, of the second by "m" and key
	for _, e := range events {
		ordered, middle := e.Ordered(), "m"+e.Key
		switch e.Op {
		case workload.Into, workload.From:
			continue
		case workload.Poison:
			dead1.expect(e.ID, item{key: e.Key, text: string(e.Value()[len(e.ID)+1:]), ordered: ordered})
			continue
		case workload.Timer:
			fired.expect(e.ID, item{key: e.Key})
		default:
		}
		first, second := item{key: middle, text: "e -", ordered: ordered}, item{key: middle, text: "- -", ordered: ordered}
		link2 := e.ID + " -"
		if ordered {
			text := hash(chains[e.Key], e.ID)
			chains[e.Key] = text
			first.text, link2 = "e "+text, e.ID+" "+text
			first.after = func(previous string) string { return "e " + hash(last(previous), e.ID) }
		}
		if e.Op == workload.Poison2 {
			first.text = "poison" + first.text[1:]
			first.after = prefixed("poison", first.after)
			dead2.expect(e.ID, item{key: middle, text: first.text, ordered: ordered})
		} else {
			if ordered {
				chains[middle] = hash(chains[middle], link2)
				second.text = last(link2) + " " + chains[middle]
				second.after = func(previous string) string { return last(link2) + " " + hash(last(previous), link2) }
			}
			out.expect(e.ID, second)
		}
		mid.expect(e.ID, first)
	}
	for _, o := range []*output{mid, out, fired, dead1, dead2} {
		j.outputs[o.name] = o
		j.wanted += len(o.want)
	}
	j.missing = j.wanted
	return j
}

func prefixed(word string, after func(string) string) func(string) string {
	if after == nil {
		return nil
	}
	return func(previous string) string { return word + after(previous)[1:] }
}

// Topics are those whose records the judge wants.
func (j *Judge) Topics() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.outputs))
}

// Add takes a record. Records of a partition come in order.
func (j *Judge) Add(topic string, key, value []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o := j.outputs[topic]
	if o == nil {
		return
	}
	j.records++
	id, text, _ := strings.Cut(string(value), " ")
	want, ok := o.want[id]
	if !ok || want.key != string(key) {
		o.atOnce.notef(&o.atOnce.Wrong, 1, "%s: nothing asks for %q under key %q", topic, value, key)
		return
	}
	o.count[id]++
	if o.count[id] > 1 {
		o.atOnce.notef(&o.atOnce.Doubled, 1, "%s: %q is there for the %d. time", topic, value, o.count[id])
		return
	}
	j.missing--
	o.sequence[want.key] = append(o.sequence[want.key], seen{id: id, text: text})
}

// Wanted is how many records must come in all.
func (j *Judge) Wanted() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wanted
}

// Missing is how many records have not come yet, and how many came, doubled ones included.
func (j *Judge) Missing() (missing, came int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.missing, j.records
}

// Came is how many of the records that must come to a topic have come.
func (j *Judge) Came(topic string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.outputs[topic].count)
}

// Verdict compares everything that came so far.
func (j *Judge) Verdict() Verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	var v Verdict
	for _, name := range slices.Sorted(maps.Keys(j.outputs)) {
		v.Add(j.outputs[name].verdict())
	}
	return v
}

func (o *output) verdict() Verdict {
	v := o.atOnce
	v.Examples = slices.Clone(o.atOnce.Examples)
	v.Checked = len(o.want)
	for id := range o.want {
		if o.count[id] == 0 {
			v.notef(&v.Lost, 1, "%s: %s is not there", o.name, id)
		}
	}
	for key, sequence := range o.sequence {
		o.compare(&v, key, sequence)
	}
	return v
}

// compare holds the order and the content of one key against what must be.
func (o *output) compare(v *Verdict, key string, sequence []seen) {
	places := make([]int, 0, len(sequence))
	previous := ""
	for _, s := range sequence {
		want := o.want[s.id]
		if want.ordered {
			places = append(places, want.index)
		}
		// After a loss every hash differs. Only where a record follows neither from what should have been
		// before it nor from what was is something new wrong.
		if s.text != want.text && (want.after == nil || s.text != want.after(previous)) {
			v.notef(&v.Wrong, 1, "%s: %s of key %s is %q and should be %q", o.name, s.id, key, s.text, want.text)
		}
		previous = s.text
	}
	if swapped := len(places) - longestRise(places); swapped > 0 {
		v.notef(&v.Swapped, swapped, "%s: %d records of key %s are out of order", o.name, swapped, key)
	}
}

// longestRise is the length of the longest increasing subsequence (patience sorting).
func longestRise(places []int) int {
	var tops []int
	for _, p := range places {
		at, _ := slices.BinarySearch(tops, p)
		if at == len(tops) {
			tops = append(tops, p)
		} else {
			tops[at] = p
		}
	}
	return len(tops)
}

// last is the last field of a text.
func last(text string) string { return text[strings.LastIndexByte(text, ' ')+1:] }

// hash is FNV-1a, 64 bits, over the eight bytes that previous spells in hexadecimal (none if empty) and
// over text, in hexadecimal.
func hash(previous, text string) string {
	return fmt.Sprintf("%016x", fnv(fnv(fnvOffset, fromHex(previous)), []byte(text)))
}

const fnvOffset uint64 = 0xcbf29ce484222325

func fnv(h uint64, data []byte) uint64 {
	for _, b := range data {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	return h
}

func fromHex(text string) []byte {
	data, err := hex.DecodeString(text)
	if err != nil {
		return nil // no hash: it matches nothing
	}
	return data
}
