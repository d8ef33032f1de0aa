package definition

import (
	"fmt"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// way is one way out of a step.
type way struct {
	// field is where the definition says so.
	field string
	// to is the id of the step; empty for `next`, and empty there for the step that follows in the list.
	to string
}

// waysOf lists the ways out of a step as they are written. `next` counts only where a way falls back to it.
func waysOf(step *definitionv1.Step) []way {
	next := way{"next", step.GetNext()}
	switch {
	case step.GetExit() != nil:
		return nil
	case step.GetWaitFor() != nil:
		return withNext(next, way{"wait_for.then", step.GetWaitFor().GetThen()}, way{"wait_for.otherwise", step.GetWaitFor().GetOtherwise()})
	case step.GetBranch() != nil:
		return withNext(next, way{"branch.then", step.GetBranch().GetThen()}, way{"branch.otherwise", step.GetBranch().GetOtherwise()})
	case step.GetSplit() != nil:
		var arms []way
		for i, arm := range step.GetSplit().GetArms() {
			arms = append(arms, way{fmt.Sprintf("split.arms[%d].next", i), arm.GetNext()})
		}
		return withNext(next, arms...)
	case step.GetSend() != nil && step.GetSend().GetOtherwise() != "":
		return []way{next, {"send.otherwise", step.GetSend().GetOtherwise()}}
	default:
		return []way{next}
	}
}

// withNext leaves out the ways that fall back to next, and adds next if there are any or if it is written.
func withNext(next way, ways ...way) []way {
	var out []way
	needed := next.to != ""
	for _, w := range ways {
		if w.to == "" {
			needed = true
			continue
		}
		out = append(out, w)
	}
	if needed {
		out = append(out, next)
	}
	return out
}

// journeyGraph is the steps of a journey and the ways between them, by place in the list.
type journeyGraph struct {
	ids   []string
	index map[string]int
	ways  [][]int
	waits []bool
}

func newJourneyGraph(steps []*definitionv1.Step) *journeyGraph {
	g := &journeyGraph{index: map[string]int{}}
	for i, step := range steps {
		g.ids = append(g.ids, step.GetId())
		g.waits = append(g.waits, step.GetWait() != nil || step.GetWaitFor() != nil)
		if _, twice := g.index[step.GetId()]; !twice {
			g.index[step.GetId()] = i
		}
	}
	for i, step := range steps {
		var ways []int
		for _, w := range waysOf(step) {
			to, known := g.index[w.to]
			if w.to == "" {
				to, known = i+1, i+1 < len(steps)
			}
			if known {
				ways = append(ways, to)
			}
		}
		g.ways = append(g.ways, ways)
	}
	return g
}

// loopWithoutWait is the ids of a loop in which no step waits, nil if there is none: a depth-first search
// over the steps that do not wait, in which a way to a step on the current path closes a loop.
func (g *journeyGraph) loopWithoutWait() []string {
	state := make([]visit, len(g.ids))
	for i := range g.ids {
		if loop := g.search(i, state, nil); loop != nil {
			return loop
		}
	}
	return nil
}

type visit int

const (
	unseen visit = iota
	onPath
	done
)

func (g *journeyGraph) search(i int, state []visit, path []int) []string {
	if g.waits[i] || state[i] == done {
		return nil
	}
	if state[i] == onPath {
		return g.loop(path, i)
	}
	state[i] = onPath
	path = append(path, i)
	for _, to := range g.ways[i] {
		if loop := g.search(to, state, path); loop != nil {
			return loop
		}
	}
	state[i] = done
	return nil
}

// loop names the part of path from step i on, and i again.
func (g *journeyGraph) loop(path []int, i int) []string {
	var names []string
	for _, at := range path {
		if at == i || len(names) > 0 {
			names = append(names, g.ids[at])
		}
	}
	return append(names, g.ids[i])
}

// unreached is the places of the steps to which no way leads from the first.
func (g *journeyGraph) unreached() []int {
	reached := make([]bool, len(g.ids))
	queue := []int{0}
	reached[0] = true
	for len(queue) > 0 {
		for _, to := range g.ways[queue[0]] {
			if !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
		queue = queue[1:]
	}
	var out []int
	for i, ok := range reached {
		if !ok {
			out = append(out, i)
		}
	}
	return out
}
