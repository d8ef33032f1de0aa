package condition

import (
	"slices"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/rule"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/abandon"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Kind is what a leaf looks at.
type Kind uint8

// The kinds of leaves.
const (
	// Performed counts events within a sliding window.
	Performed Kind = iota + 1
	// Abandoned is one event and then, within a time, not another.
	Abandoned
	// Inactive is nothing for a time.
	Inactive
	// Where is an expression on traits and consents.
	Where
)

// Role tells the lists of a leaf apart.
type Role uint8

const (
	// First is the list of most leaves, and of the starts of an abandonment.
	First Role = iota
	// Second is the list of the finishes of an abandonment.
	Second
)

// Data is the state of a leaf for one profile: instants of the events that counted.
type Data struct {
	First, Second window.Stamps
}

// Empty reports whether no event is remembered.
func (d *Data) Empty() bool { return len(d.First) == 0 && len(d.Second) == 0 }

// Leaf is a sub-condition with a state of its own.
type Leaf struct {
	// ID is the first eight bytes of the SHA-256 of the canonical form.
	ID uint64
	// Kind says which of the operators below is set.
	Kind Kind
	// Default is the answer for a profile of which nothing is known.
	Default bool

	count    window.Count
	inactive window.Inactive
	abandon  abandon.Rule
	where    *rule.Profile
}

// Observe notes an event at instant t that passed the filter of the given role, evaluated up to now. It
// reports whether the data changed.
func (l *Leaf) Observe(d *Data, role Role, t, now int64) bool {
	var changed bool
	switch {
	case role == Second:
		d.Second, changed = d.Second.InsertLatest(t, now)
	case l.Kind == Performed:
		d.First, changed = l.count.Insert(d.First, t, now)
	default:
		d.First, changed = d.First.InsertLatest(t, now)
	}
	return changed
}

// Join adds the data of another profile of the same person, as if its events had been this one's.
func (l *Leaf) Join(d, other *Data, now int64) {
	d.First = d.First.Merge(other.First)
	d.Second = d.Second.Merge(other.Second)
	l.Trim(d, now)
}

// Trim lets go of what no answer from now on can need.
func (l *Leaf) Trim(d *Data, now int64) {
	switch l.Kind {
	case Performed:
		d.First = l.count.Trim(d.First, now)
	case Abandoned:
		d.First, d.Second = l.abandon.Trim(d.First, d.Second, now)
	case Inactive:
		d.First = d.First.TrimLatest(now)
	case Where:
	}
}

// At is the verdict of a leaf over events at now. Where leaves are answered by Holds.
func (l *Leaf) At(d *Data, now int64) window.Verdict {
	switch l.Kind {
	case Performed:
		return l.count.At(d.First, now)
	case Abandoned:
		return l.abandon.At(d.First, d.Second, now)
	case Inactive:
		return l.inactive.At(d.First, now)
	default:
		return window.Verdict{Holds: l.Default, Since: window.Never, Next: window.Forever}
	}
}

// Holds is the answer of a Where leaf over a profile's traits and consents.
func (l *Leaf) Holds(p *profilev1.Profile) bool {
	return l.where.Match(rule.Vars{Traits: p.GetTraits(), Consents: p.GetConsents()})
}

// Op joins the children of a node.
type Op uint8

// The operators of nodes.
const (
	// Is takes the answer of a leaf.
	Is Op = iota + 1
	// All holds if every child holds.
	All
	// Any holds if a child holds.
	Any
	// Not holds if its only child does not.
	Not
)

// Node is a condition over leaves and other nodes.
type Node struct {
	Op Op
	// Of is the leaf of an Is, else the positions of the children, all smaller than the node's own.
	Of []int32
}

// Segment is a compiled segment.
type Segment struct {
	// Name is the segment's.
	Name string
	// Version is that of its definition.
	Version int64
	// Root is the position of its node.
	Root int32
	// Default is the answer for a profile of which nothing is known.
	Default bool
}

// Hit is a leaf that counts an event.
type Hit struct {
	// Leaf is its position.
	Leaf int32
	// Role is the list to which the event goes.
	Role Role
}

// filter is a compiled event filter with those who want its events.
type filter struct {
	match *rule.Filter
	hits  []Hit
}

// Program is the compiled form of all segments of a tenant.
type Program struct {
	// Revision identifies names and conditions of all segments: with the same revision, positions and
	// meanings are the same in every process.
	Revision uint64
	// Leaves are in ascending order of ID.
	Leaves []Leaf
	// Nodes stand after those that they need.
	Nodes []Node
	// Segments are in order of name.
	Segments []Segment
	// Wheres are the positions of the Where leaves.
	Wheres []int32
	// Defaults are the answers of the leaves for a profile of which nothing is known.
	Defaults []Answer
	// Entered tells that a profile of which nothing is known is in some segment.
	Entered bool
	// Broken holds the error of each segment that could not be compiled, by name.
	Broken map[string]error

	filters []filter
	byEvent map[string][]int32
	always  []int32
}

// Match appends to hits every leaf that counts the event.
func (p *Program) Match(hits []Hit, name string, ev *rule.Event) []Hit {
	for _, i := range p.byEvent[name] {
		if f := &p.filters[i]; f.match.MatchEvent(ev) {
			hits = append(hits, f.hits...)
		}
	}
	for _, i := range p.always {
		if f := &p.filters[i]; f.match.MatchEvent(ev) {
			hits = append(hits, f.hits...)
		}
	}
	return hits
}

// Answer is what a node says, and since when as far as known.
type Answer struct {
	Holds bool
	Since int64
}

// Evaluate computes the answer of every node from those of the leaves into nodes, which has the length
// of Nodes.
func (p *Program) Evaluate(nodes, leaves []Answer) {
	for i := range p.Nodes {
		node := &p.Nodes[i]
		switch node.Op {
		case Is:
			nodes[i] = leaves[node.Of[0]]
		case Not:
			child := nodes[node.Of[0]]
			nodes[i] = Answer{Holds: !child.Holds, Since: child.Since}
		case All:
			nodes[i] = join(nodes, node.Of, true)
		case Any:
			nodes[i] = join(nodes, node.Of, false)
		}
	}
}

// join answers `all` for unless true and `any` for unless false: the answer is unless, except a child
// says otherwise. It holds since the latest of its children if all say the same, else since the first of
// those that decided it.
func join(nodes []Answer, of []int32, unless bool) Answer {
	answer := Answer{Holds: unless, Since: window.Never}
	for _, c := range of {
		child := nodes[c]
		switch {
		case child.Holds == unless && answer.Holds == unless:
			answer.Since = max(answer.Since, child.Since)
		case child.Holds != unless && answer.Holds == unless:
			answer = child
		case child.Holds != unless:
			answer.Since = min(answer.Since, child.Since)
		}
	}
	return answer
}

// Knows reports whether a segment of this name is defined, be it broken.
func (p *Program) Knows(name string) bool {
	if _, broken := p.Broken[name]; broken {
		return true
	}
	_, found := slices.BinarySearchFunc(p.Segments, name, func(s Segment, name string) int {
		return strings.Compare(s.Name, name)
	})
	return found
}
