package journey

// Set is the journeys of a tenant that are in force, indexed by what starts them. It is immutable and
// safe for concurrent use.
type Set struct {
	byName  map[string]*Graph
	byEvent map[string][]*Graph
	anyName []*Graph
	byFlip  map[flip][]*Graph
}

type flip struct {
	segment string
	entered bool
}

// NewSet indexes graphs, of which no two have the same name. The order of the list is the order in which
// one event or flip starts several.
func NewSet(graphs []*Graph) *Set {
	s := &Set{byName: map[string]*Graph{}, byEvent: map[string][]*Graph{}, byFlip: map[flip][]*Graph{}}
	for _, g := range graphs {
		s.byName[g.Name] = g
		switch {
		case g.Entry.Event == nil:
			key := flip{g.Entry.Segment, g.Entry.Entered}
			s.byFlip[key] = append(s.byFlip[key], g)
		case g.Entry.Event.EventName() == "":
			s.anyName = append(s.anyName, g)
		default:
			name := g.Entry.Event.EventName()
			s.byEvent[name] = append(s.byEvent[name], g)
		}
	}
	return s
}

// Get is the journey of this name that is in force; nil if there is none.
func (s *Set) Get(name string) *Graph {
	if s == nil {
		return nil
	}
	return s.byName[name]
}

// ByEvent lists the journeys that an event of this name may start, in two lists: those that name it and
// those that take any name.
func (s *Set) ByEvent(name string) (named, anyName []*Graph) {
	if s == nil {
		return nil, nil
	}
	return s.byEvent[name], s.anyName
}

// ByFlip lists the journeys that a flip starts.
func (s *Set) ByFlip(segment string, entered bool) []*Graph {
	if s == nil {
		return nil
	}
	return s.byFlip[flip{segment, entered}]
}
