package stream

import (
	"maps"
	"slices"
)

// balanceMember is what the plan needs to know of a member.
type balanceMember struct {
	id         string
	topics     []string
	generation int32
	owned      []int32
	memberData
}

func (m *balanceMember) holds(task int32) bool {
	_, ok := m.stored[task]
	return ok
}

// taskPlan says who gets what. Members are given by index and are in a fixed order, so every leader comes
// to the same plan.
type taskPlan struct {
	// owner of each task; -1 for a task that has to be given up by another member first.
	owner []int
	// standbys of each member.
	standbys [][]int32
}

// planTasks makes the plan. Fair shares come first: they differ by one task at most. Within them members
// keep what they have, and a free task goes to the member whose copy of its state is the most recent.
// Nobody is given a task that it refuses as long as another does not.
func planTasks(members []balanceMember, tasks int32) taskPlan {
	plan := taskPlan{owner: make([]int, tasks), standbys: make([][]int32, len(members))}
	for i := range plan.owner {
		plan.owner[i] = -1
	}
	if len(members) == 0 {
		return plan
	}
	p := planner{members: members, before: currentOwners(members, tasks), owner: plan.owner, load: make([]int, len(members))}
	p.floor, p.extra = int(tasks)/len(members), int(tasks)%len(members)
	p.keep()
	p.toCopies()
	p.toLightest()
	plan.standbys = p.placeStandbys()
	for task := range plan.owner {
		if p.before[task] >= 0 && p.before[task] != plan.owner[task] {
			plan.owner[task] = -1
		}
	}
	return plan
}

// planner is a plan in the making.
type planner struct {
	members []balanceMember
	before  []int // who has each task now
	owner   []int
	load    []int
	floor   int // the smaller of the two shares
	extra   int // how many members may have one more
}

// currentOwners says who has each task now; the claim of the newest generation counts.
func currentOwners(members []balanceMember, tasks int32) []int {
	owner := make([]int, tasks)
	for i := range owner {
		owner[i] = -1
	}
	for m := range members {
		for _, task := range members[m].owned {
			if task < 0 || task >= tasks {
				continue
			}
			if was := owner[task]; was < 0 || members[m].generation > members[was].generation {
				owner[task] = m
			}
		}
	}
	return owner
}

// accepts says whether a member may be given a task: it does not refuse it, or everybody does.
func (p *planner) accepts(m int, task int) bool {
	if !p.members[m].refused[int32(task)] {
		return true
	}
	for i := range p.members {
		if !p.members[i].refused[int32(task)] {
			return false
		}
	}
	return true
}

func (p *planner) give(task, m int) {
	p.owner[task] = m
	p.load[m]++
}

// keep leaves every member what it has, up to its share. The shares with one task more go to the members
// that have most.
func (p *planner) keep() {
	have := make([]int, len(p.members))
	for task, m := range p.before {
		if m >= 0 && p.accepts(m, task) {
			have[m]++
		}
	}
	byLoad := make([]int, len(p.members))
	for i := range byLoad {
		byLoad[i] = i
	}
	slices.SortStableFunc(byLoad, func(a, b int) int { return have[b] - have[a] })
	share := make([]int, len(p.members))
	for rank, m := range byLoad {
		share[m] = p.floor
		if rank < p.extra {
			share[m]++
		}
	}
	for task, m := range p.before {
		if m >= 0 && p.accepts(m, task) && p.load[m] < share[m] {
			p.give(task, m)
		}
	}
}

// room says whether a member can take one task more without making shares unfair.
func (p *planner) room(m int) bool {
	if p.load[m] != p.floor {
		return p.load[m] < p.floor
	}
	more := 0
	for _, n := range p.load {
		if n > p.floor {
			more++
		}
	}
	return more < p.extra
}

// toCopies gives free tasks to members that have a copy: the most recent first, and where that member has
// no room it passes on another task that it was given for its copy, if somebody else has one of that, too.
func (p *planner) toCopies() {
	free := make(map[int]bool)
	for task, m := range p.owner {
		if m < 0 {
			free[task] = true
		}
	}
	for task := range p.owner {
		if free[task] {
			p.place(task, free, make(map[int]bool))
		}
	}
}

// place finds an owner with a copy for a task, by augmenting paths (Kuhn's algorithm for matchings).
func (p *planner) place(task int, free, tried map[int]bool) bool {
	candidates := p.copies(task)
	for _, m := range candidates {
		if p.room(m) {
			p.give(task, m)
			return true
		}
	}
	for _, m := range candidates {
		if tried[m] {
			continue
		}
		tried[m] = true
		for other := range p.owner {
			if !free[other] || p.owner[other] != m {
				continue
			}
			p.owner[other] = -1
			p.load[m]--
			p.give(task, m) // it may not go back to m meanwhile
			if p.place(other, free, tried) {
				return true
			}
			p.owner[task] = -1
			p.owner[other] = m
		}
	}
	return false
}

// copies are the members that have a store for a task, the most recent first.
func (p *planner) copies(task int) []int {
	var holders []int
	for m := range p.members {
		if p.members[m].holds(int32(task)) && p.accepts(m, task) {
			holders = append(holders, m)
		}
	}
	slices.SortStableFunc(holders, func(a, b int) int {
		x, y := p.members[a].stored[int32(task)], p.members[b].stored[int32(task)]
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		default:
			return p.load[a] - p.load[b]
		}
	})
	return holders
}

// toLightest gives what is left to the members with the fewest tasks.
func (p *planner) toLightest() {
	for task, owner := range p.owner {
		if owner >= 0 {
			continue
		}
		best := -1
		for m := range p.members {
			if p.accepts(m, task) && (best < 0 || p.load[m] < p.load[best]) {
				best = m
			}
		}
		p.give(task, best)
	}
}

// placeStandbys gives every task as many standbys as the members want, never its owner. Copies that are
// there stay, and what is missing goes to the members with the fewest; then a copy moves as long as another
// member has at least two fewer. So a plan that is carried out is kept as it is. Members that want none keep
// none.
func (p *planner) placeStandbys() [][]int32 {
	placing := &standbyPlan{planner: p, of: make([][]int32, len(p.members)), on: make([]map[int]bool, len(p.owner))}
	for i := range p.members {
		placing.wanted = max(placing.wanted, p.members[i].standbys)
	}
	if placing.wanted = min(placing.wanted, len(p.members)-1); placing.wanted <= 0 {
		return placing.of
	}
	for task := range p.owner {
		placing.on[task] = make(map[int]bool)
		for _, m := range p.copies(task) {
			if placing.eligible(m, task) && len(placing.on[task]) < placing.wanted {
				placing.add(m, task)
			}
		}
	}
	for task := range p.owner {
		for len(placing.on[task]) < placing.wanted {
			m := placing.idlest(task)
			if m < 0 {
				break
			}
			placing.add(m, task)
		}
	}
	for placing.spread() {
	}
	for m := range placing.of {
		slices.Sort(placing.of[m])
	}
	return placing.of
}

// standbyPlan is a placing of standbys on the way.
type standbyPlan struct {
	*planner
	wanted int
	of     [][]int32      // the tasks of each member
	on     []map[int]bool // the members of each task
}

func (s *standbyPlan) eligible(m, task int) bool {
	return s.members[m].standbys > 0 && s.owner[task] != m && !s.on[task][m]
}

func (s *standbyPlan) add(m, task int) {
	s.of[m] = append(s.of[m], int32(task))
	s.on[task][m] = true
}

// idlest is the member with the fewest standbys that may take the task, -1 if none may.
func (s *standbyPlan) idlest(task int) int {
	best := -1
	for m := range s.members {
		if s.eligible(m, task) && (best < 0 || len(s.of[m]) < len(s.of[best])) {
			best = m
		}
	}
	return best
}

// spread moves one copy to a member that has at least two fewer than the one that has it; false if there is
// none. Each move makes the sum of the squares of what members have smaller, so that it comes to an end.
func (s *standbyPlan) spread() bool {
	for task := range s.owner {
		to := s.idlest(task)
		if to < 0 {
			continue
		}
		for _, from := range slices.Sorted(maps.Keys(s.on[task])) {
			if len(s.of[to])+2 > len(s.of[from]) {
				continue
			}
			s.of[from] = slices.DeleteFunc(s.of[from], func(t int32) bool { return t == int32(task) })
			delete(s.on[task], from)
			s.add(to, task)
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[int32]V) []int32 { return slices.Sorted(maps.Keys(m)) }
