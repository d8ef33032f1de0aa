// Package chain is the product under fault: two stateful stages in a row, so that what is doubled or lost
// between them shows as well as what is at the end.
//
// The first stage reads two topics, folds the events of a key into a chain of hashes (a lost, doubled or
// swapped event changes all that comes after it), keeps timers, merges keys and passes each event on under
// another key; the second stage chains what it gets once more. Both refuse poison after they have already
// acted on it. How the bytes look stands here and in package workload; what must come of them is the
// oracle's to know, which shares no code with this package.
package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/pkg/stream"
)

// Names are the topics and topologies of one run; runs on one broker differ in their prefix.
type Names struct {
	In, In2               string // inputs of the first stage; a key has one of them
	Mid                   string // from the first stage to the second
	Out                   string // of the second stage
	Fired                 string // ids of events whose timer has fired, from the first stage
	First, Second         string // the topologies
	FirstDead, SecondDead string // their dead letters
	FirstLog, SecondLog   string // their changelogs
}

// NamesOf are the names of a run: lower-case letters, digits and '-'.
func NamesOf(prefix string) Names {
	n := Names{
		In: prefix + ".in", In2: prefix + ".in2", Mid: prefix + ".mid", Out: prefix + ".out", Fired: prefix + ".fired",
		First: prefix + "-first", Second: prefix + "-second",
	}
	n.FirstDead, n.SecondDead = n.First+".dlq", n.Second+".dlq"
	n.FirstLog, n.SecondLog = n.First+".changelog", n.Second+".changelog"
	return n
}

// Made are the topics that somebody has to make before a stage starts.
func (n Names) Made() []string { return []string{n.In, n.In2, n.Mid, n.Out, n.Fired} }

// FirstStage is the topology of the first stage.
func (n Names) FirstStage() stream.Topology {
	return stream.Topology{
		Name: n.First, Inputs: []string{n.In, n.In2}, Outputs: []string{n.Mid, n.Fired},
		New: func() stream.Processor { return first{n} }, Merges: merges,
	}
}

// SecondStage is the topology of the second stage.
func (n Names) SecondStage() stream.Topology {
	return stream.Topology{
		Name: n.Second, Inputs: []string{n.Mid}, Outputs: []string{n.Out},
		New: func() stream.Processor { return second{n} },
	}
}

// farAway is a timer that does not fire during a run: it has to be in the state when the run is over,
// unless it was cancelled.
const farAway = 24 * time.Hour

var errPoison = errors.New("poison: told to fail")

// event is a record of the inputs: its id (unique; the key it was sent under, '-', a number), what to do,
// and with what.
type event struct {
	id, op string
	args   []string
}

func parse(value []byte) (event, error) {
	fields := strings.Fields(string(value))
	if len(fields) < 2 || !strings.Contains(fields[0], "-") {
		return event{}, fmt.Errorf("%q is no event", value)
	}
	return event{id: fields[0], op: fields[1], args: fields[2:]}, nil
}

// origin is the key that the event was sent under, whatever it has been merged into since.
func (e event) origin() string {
	key, _, _ := strings.Cut(e.id, "-")
	return key
}

// ordered says whether the events of the key stay in order and apart from others: it never merges.
func (e event) ordered() bool { return strings.HasPrefix(e.id, "k") }

func merges(rec stream.Record) stream.Merge {
	e, err := parse(rec.Value)
	if err != nil || len(e.args) != 2 {
		return stream.Merge{}
	}
	m := stream.Merge{Other: []byte(e.args[0]), ID: e.args[1]}
	switch e.op {
	case "into":
		m.Kind = stream.MergeInto
	case "from":
		m.Kind = stream.MergeAnnounced
	default:
		return stream.Merge{}
	}
	return m
}

// Names of state, and what they hold.
const (
	stateChain = "chain" // hash of the events in order
	stateSum   = "sum"   // number and sum of hashes of the events, in any order
	stateFired = "fired" // the same of the timers that fired
)

func link(chain, value []byte) []byte {
	h := fnv.New64a()
	_, _ = h.Write(chain)
	_, _ = h.Write(value)
	return binary.BigEndian.AppendUint64(nil, h.Sum64())
}

// add adds to a count and sum; a sum does not depend on the order.
func add(ctx *stream.Context, name string, count, sum uint64) {
	if old, ok := ctx.Get(name); ok && len(old) == 16 {
		count += binary.BigEndian.Uint64(old)
		sum += binary.BigEndian.Uint64(old[8:])
	}
	ctx.Put(name, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, count), sum))
}

func addOne(ctx *stream.Context, name, id string) {
	add(ctx, name, 1, binary.BigEndian.Uint64(link(nil, []byte(id))))
}

// first is the processor of the first stage.
type first struct{ Names }

// Process handles one event.
func (p first) Process(ctx *stream.Context, rec stream.Record) error {
	e, err := parse(rec.Value)
	if err != nil {
		return err
	}
	if e.op == "into" || e.op == "from" {
		return nil
	}
	text := "-"
	if e.ordered() {
		old, _ := ctx.Get(stateChain)
		next := link(old, []byte(e.id))
		ctx.Put(stateChain, next)
		text = fmt.Sprintf("%x", next)
	}
	addOne(ctx, stateSum, e.id)
	op := "e"
	if e.op == "poison2" {
		op = "poison"
	}
	ctx.Emit(p.Mid, []byte("m"+e.origin()), []byte(e.id+" "+op+" "+text))
	return p.act(ctx, e)
}

func (p first) act(ctx *stream.Context, e event) error {
	switch e.op {
	case "poison":
		return errPoison
	case "timer":
		if len(e.args) != 1 {
			return fmt.Errorf("event %s: a timer has one delay", e.id)
		}
		ms, err := strconv.Atoi(e.args[0])
		if err != nil {
			return fmt.Errorf("event %s: %w", e.id, err)
		}
		ctx.SetTimer(e.id, ctx.Now().Add(time.Duration(ms)*time.Millisecond), []byte(e.id))
	case "far":
		ctx.SetTimer(e.id, ctx.Now().Add(farAway), []byte(e.id))
	case "cancel":
		for _, id := range e.args {
			ctx.CancelTimer(id)
		}
	}
	return nil
}

// Timer tells that a timer fired.
func (p first) Timer(ctx *stream.Context, timer stream.Timer) error {
	addOne(ctx, stateFired, timer.ID)
	key, _, _ := strings.Cut(timer.ID, "-")
	ctx.Emit(p.Fired, []byte(key), timer.Payload)
	return nil
}

// Merge adds up what both keys have and takes the timers over.
func (first) Merge(dst *stream.Context, src *stream.Source) error {
	for _, name := range []string{stateSum, stateFired} {
		if v, ok := src.Get(name); ok && len(v) == 16 {
			add(dst, name, binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]))
		}
	}
	src.Timers(func(id string, due time.Time, payload []byte) bool {
		dst.SetTimer(id, due, payload)
		return true
	})
	return nil
}

// second is the processor of the second stage.
type second struct{ Names }

// Process chains what the first stage has passed on.
func (p second) Process(ctx *stream.Context, rec stream.Record) error {
	e, err := parse(rec.Value)
	if err != nil || len(e.args) != 1 {
		return errors.Join(err, fmt.Errorf("%q did not come from the first stage", rec.Value))
	}
	text := "-"
	if e.ordered() {
		old, _ := ctx.Get(stateChain)
		next := link(old, []byte(e.id+" "+e.args[0]))
		ctx.Put(stateChain, next)
		text = fmt.Sprintf("%x", next)
	}
	addOne(ctx, stateSum, e.id)
	ctx.Emit(p.Out, ctx.Key(), []byte(e.id+" "+e.args[0]+" "+text))
	if e.op == "poison" {
		return errPoison
	}
	return nil
}

// Timer is never called: the second stage sets none.
func (second) Timer(_ *stream.Context, timer stream.Timer) error {
	return fmt.Errorf("timer %s was never set", timer.ID)
}

// Merge is never called: the keys of the second stage do not merge.
func (second) Merge(*stream.Context, *stream.Source) error {
	return errors.New("keys of the second stage do not merge")
}
