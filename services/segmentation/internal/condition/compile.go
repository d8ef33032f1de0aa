package condition

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/rule"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/abandon"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// MaxDepth bounds how deep conditions may nest, references to other segments included.
const MaxDepth = 256

// MaxCount bounds the instants that one count may ask to be kept.
const MaxCount = 10_000

// Errors that Compile reports for a segment.
var (
	errCycle   = errors.New("the segment refers to itself through other segments (take one reference out)")
	errDepth   = fmt.Errorf("conditions nest deeper than %d levels", MaxDepth)
	errNothing = errors.New("the condition is empty (set exactly one of its fields)")
)

// Compile compiles the segments of one tenant. Definitions of other kinds are passed over. What cannot be
// compiled stands in Program.Broken.
func Compile(defs []*definitionv1.Definition) *Program {
	c := &compiler{
		defs:    map[string]*definitionv1.Definition{},
		roots:   map[string]root{},
		open:    map[string]bool{},
		nodes:   map[string]int32{},
		leaves:  map[string]int32{},
		filters: map[string]int32{},
		program: &Program{Broken: map[string]error{}, byEvent: map[string][]int32{}},
	}
	names := make([]string, 0, len(defs))
	for _, def := range defs {
		if def.GetSegment() != nil {
			c.defs[def.GetName()] = def
			names = append(names, def.GetName())
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		c.segment(name)
	}
	return c.finish()
}

// root is a compiled segment: its node and the node's canonical form.
type root struct {
	node int32
	form string
	err  error
}

type compiler struct {
	defs    map[string]*definitionv1.Definition
	roots   map[string]root
	open    map[string]bool // segments being compiled
	depth   int
	nodes   map[string]int32 // by canonical form
	leaves  map[string]int32
	filters map[string]int32
	program *Program
}

// segment compiles a segment once and adds it to the program.
func (c *compiler) segment(name string) root {
	if done, ok := c.roots[name]; ok {
		return done
	}
	def, ok := c.defs[name]
	if !ok {
		return root{err: fmt.Errorf("segment %q does not exist", name)}
	}
	if c.open[name] {
		return root{err: errCycle}
	}
	c.open[name] = true
	node, form, err := c.condition(def.GetSegment().GetCondition())
	delete(c.open, name)
	result := root{node: node, form: form, err: err}
	c.roots[name] = result
	if err != nil {
		c.program.Broken[name] = fmt.Errorf("segment %q: %w", name, err)
		return result
	}
	c.program.Segments = append(c.program.Segments, Segment{Name: name, Version: def.GetVersion(), Root: node})
	return result
}

// condition compiles a condition to the position of its node and its canonical form.
func (c *compiler) condition(def *definitionv1.Condition) (int32, string, error) {
	if c.depth >= MaxDepth {
		return 0, "", errDepth
	}
	c.depth++
	defer func() { c.depth-- }()
	switch {
	case len(def.GetAll()) > 0:
		return c.joined(All, "all", def.GetAll())
	case len(def.GetAny()) > 0:
		return c.joined(Any, "any", def.GetAny())
	case def.GetNot() != nil:
		return c.not(def.GetNot())
	case def.GetSegment() != "":
		referred := c.segment(def.GetSegment())
		return referred.node, referred.form, referred.err
	case def.GetWhere() != "":
		return c.where(def.GetWhere())
	case def.GetPerformed() != nil:
		return c.performed(def.GetPerformed())
	case def.GetAbandoned() != nil:
		return c.abandoned(def.GetAbandoned())
	case def.GetInactive() != nil:
		return c.inactive(def.GetInactive())
	default:
		return 0, "", errNothing
	}
}

func (c *compiler) joined(op Op, word string, defs []*definitionv1.Condition) (int32, string, error) {
	of := make([]int32, 0, len(defs))
	forms := make([]string, 0, len(defs))
	for i, def := range defs {
		node, form, err := c.condition(def)
		if err != nil {
			return 0, "", fmt.Errorf("%s[%d]: %w", word, i, err)
		}
		of, forms = append(of, node), append(forms, form)
	}
	slices.Sort(of)
	of = slices.Compact(of)
	if len(of) == 1 {
		return of[0], forms[0], nil
	}
	form := canonicalSet(word, forms)
	return c.node(form, Node{Op: op, Of: of}), form, nil
}

func (c *compiler) not(def *definitionv1.Condition) (int32, string, error) {
	node, form, err := c.condition(def)
	if err != nil {
		return 0, "", fmt.Errorf("not: %w", err)
	}
	form = canonical("not", form)
	return c.node(form, Node{Op: Not, Of: []int32{node}}), form, nil
}

// node adds a node unless one of the same form is there.
func (c *compiler) node(form string, node Node) int32 {
	if at, ok := c.nodes[form]; ok {
		return at
	}
	at := int32(len(c.program.Nodes)) // bounded by the size of definitions
	c.nodes[form] = at
	c.program.Nodes = append(c.program.Nodes, node)
	return at
}

// leaf adds a leaf, unless one of the same form is there, and the node that takes its answer.
func (c *compiler) leaf(form string, leaf Leaf) (at, node int32) {
	at, ok := c.leaves[form]
	if !ok {
		leaf.ID = digest(form)
		at = int32(len(c.program.Leaves)) // bounded by the size of definitions
		c.leaves[form] = at
		c.program.Leaves = append(c.program.Leaves, leaf)
	}
	return at, c.node(form, Node{Op: Is, Of: []int32{at}})
}

// filter compiles a filter once and notes who wants its events.
func (c *compiler) filter(def *definitionv1.EventFilter) (int32, string, error) {
	form := canonicalFilter(def)
	if at, ok := c.filters[form]; ok {
		return at, form, nil
	}
	match, err := rule.CompileFilter(def)
	if err != nil {
		return 0, "", err
	}
	at := int32(len(c.program.filters)) // bounded by the size of definitions
	c.filters[form] = at
	c.program.filters = append(c.program.filters, filter{match: match})
	if name := match.EventName(); name != "" {
		c.program.byEvent[name] = append(c.program.byEvent[name], at)
	} else {
		c.program.always = append(c.program.always, at)
	}
	return at, form, nil
}

func (c *compiler) want(filter, leaf int32, role Role) {
	f := &c.program.filters[filter]
	if hit := (Hit{Leaf: leaf, Role: role}); !slices.Contains(f.hits, hit) {
		f.hits = append(f.hits, hit)
	}
}

func (c *compiler) where(expression string) (int32, string, error) {
	compiled, err := rule.CompileProfile(expression)
	if err != nil {
		return 0, "", fmt.Errorf("where: %w", err)
	}
	leaf := Leaf{Kind: Where, where: compiled}
	leaf.Default = leaf.Holds(&profilev1.Profile{})
	form := canonical("where", expression)
	_, node := c.leaf(form, leaf)
	return node, form, nil
}

func (c *compiler) performed(def *definitionv1.Performed) (int32, string, error) {
	count, err := countOf(def)
	if err != nil {
		return 0, "", fmt.Errorf("performed: %w", err)
	}
	match, form, err := c.filter(cmp.Or(def.GetFilter(), &definitionv1.EventFilter{}))
	if err != nil {
		return 0, "", fmt.Errorf("performed.filter: %w", err)
	}
	form = canonical("performed", form, number(int64(count.AtLeast)), number(int64(count.AtMost)), number(count.Within))
	leaf := Leaf{Kind: Performed, count: count}
	leaf.Default = count.At(nil, 0).Holds
	at, node := c.leaf(form, leaf)
	c.want(match, at, First)
	return node, form, nil
}

func countOf(def *definitionv1.Performed) (window.Count, error) {
	count := window.Count{AtLeast: int(def.GetAtLeast()), AtMost: -1}
	if def.AtMost != nil {
		count.AtMost = int(def.GetAtMost())
	} else if count.AtLeast == 0 {
		count.AtLeast = 1
	}
	if count.AtLeast < 0 || (def.AtMost != nil && count.AtMost < 0) {
		return count, errors.New("at_least and at_most must not be negative")
	}
	if count.Keep() > MaxCount {
		return count, fmt.Errorf("at_least and at_most must be below %d", MaxCount)
	}
	if def.GetWithin() == "" {
		return count, nil
	}
	var err error
	count.Within, err = millis("within", def.GetWithin())
	return count, err
}

func (c *compiler) abandoned(def *definitionv1.Abandoned) (int32, string, error) {
	within, err := millis("within", def.GetWithin())
	var lasts int64
	if err == nil && def.GetLasts() != "" {
		lasts, err = millis("lasts", def.GetLasts())
	}
	if err != nil {
		return 0, "", fmt.Errorf("abandoned: %w", err)
	}
	started, startedForm, err := c.filter(cmp.Or(def.GetStarted(), &definitionv1.EventFilter{}))
	if err != nil {
		return 0, "", fmt.Errorf("abandoned.started: %w", err)
	}
	finished, finishedForm, err := c.filter(cmp.Or(def.GetFinished(), &definitionv1.EventFilter{}))
	if err != nil {
		return 0, "", fmt.Errorf("abandoned.finished: %w", err)
	}
	form := canonical("abandoned", startedForm, finishedForm, number(within), number(lasts))
	at, node := c.leaf(form, Leaf{Kind: Abandoned, abandon: abandon.Rule{Within: within, Lasts: lasts}})
	c.want(started, at, First)
	c.want(finished, at, Second)
	return node, form, nil
}

func (c *compiler) inactive(def *definitionv1.Inactive) (int32, string, error) {
	length, err := millis("for", def.GetFor())
	if err != nil {
		return 0, "", fmt.Errorf("inactive: %w", err)
	}
	activity := def.GetFilter()
	if activity.GetEvent() == "" && activity.GetType() == "" && activity.GetWhere() == "" {
		activity = nil // any event of the person's own
	}
	match, form, err := c.filter(activity)
	if err != nil {
		return 0, "", fmt.Errorf("inactive.filter: %w", err)
	}
	form = canonical("inactive", form, number(length))
	at, node := c.leaf(form, Leaf{Kind: Inactive, inactive: window.Inactive{For: length}})
	c.want(match, at, First)
	return node, form, nil
}

// finish puts leaves and segments in their order and computes what follows from them.
func (c *compiler) finish() *Program {
	p := c.program
	c.sortLeaves()
	slices.SortFunc(p.Segments, func(a, b Segment) int { return cmp.Compare(a.Name, b.Name) })
	forms := make([]string, 0, 2*len(p.Segments))
	for _, segment := range p.Segments {
		forms = append(forms, segment.Name, c.roots[segment.Name].form)
	}
	p.Revision = digest(canonical(forms...))
	p.Defaults = make([]Answer, len(p.Leaves))
	nodes := make([]Answer, len(p.Nodes))
	for i := range p.Leaves {
		p.Defaults[i] = Answer{Holds: p.Leaves[i].Default, Since: window.Never}
		if p.Leaves[i].Kind == Where {
			p.Wheres = append(p.Wheres, int32(i)) // bounded by the size of definitions
		}
	}
	p.Evaluate(nodes, p.Defaults)
	for i := range p.Segments {
		segment := &p.Segments[i]
		segment.Default = nodes[segment.Root].Holds
		p.Entered = p.Entered || segment.Default
	}
	return p
}

// sortLeaves orders leaves by ID and moves every position with them.
func (c *compiler) sortLeaves() {
	p := c.program
	order := make([]int32, len(p.Leaves))
	for i := range order {
		order[i] = int32(i) // bounded by the size of definitions
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(p.Leaves[a].ID, p.Leaves[b].ID) })
	sorted, moved := make([]Leaf, len(order)), make([]int32, len(order))
	for to, from := range order {
		sorted[to] = p.Leaves[from]
		moved[from] = int32(to) // bounded by the size of definitions
	}
	p.Leaves = sorted
	for i := range p.Nodes {
		if p.Nodes[i].Op == Is {
			p.Nodes[i].Of[0] = moved[p.Nodes[i].Of[0]]
		}
	}
	for i := range p.filters {
		for j := range p.filters[i].hits {
			p.filters[i].hits[j].Leaf = moved[p.filters[i].hits[j].Leaf]
		}
	}
}

func millis(field, text string) (int64, error) {
	d, err := definition.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", field, err)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%s: must be longer than nothing", field)
	}
	return d.Milliseconds(), nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
