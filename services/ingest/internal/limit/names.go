package limit

import (
	"sync"
	"time"
)

// nameLife is how long a name that is not used stays known: between one and two of these.
const nameLife = 24 * time.Hour

// Names bounds the distinct event names of each source. A name stays known while it is used once a day, so
// that neither a burst of made-up names shuts out those in use, nor do the made-up ones stay for ever. It
// keeps a 64-bit hash of each name. It is safe for concurrent use; the zero value is ready.
type Names struct {
	mu       sync.Mutex // guards bySource
	bySource map[string]*NameSet
}

// NameSet is the names of one source.
type NameSet struct {
	mu          sync.Mutex // guards the rest
	now, before map[uint64]struct{}
	turned      time.Time
}

// For is the set of a source. Sources are those of definitions; sets outlive a change of them.
func (n *Names) For(source string) *NameSet {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.bySource[source]
	if s == nil {
		if n.bySource == nil {
			n.bySource = make(map[string]*NameSet)
		}
		s = &NameSet{}
		n.bySource[source] = s
	}
	return s
}

// Admit says whether a name, given as its hash, is known or there is room for it among limit names. Two
// names of one hash count as one.
func (s *NameSet) Admit(now time.Time, name uint64, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	if _, known := s.now[name]; known {
		return true
	}
	_, known := s.before[name]
	switch {
	case known:
		delete(s.before, name)
	case len(s.now)+len(s.before) >= limit:
		return false
	}
	s.now[name] = struct{}{}
	return true
}

// turn makes the names of this day those of the day before. A clock that goes back turns nothing.
func (s *NameSet) turn(now time.Time) {
	switch {
	case s.now == nil:
		s.now, s.turned = make(map[uint64]struct{}), now
	case now.Sub(s.turned) >= 2*nameLife:
		s.now, s.before, s.turned = make(map[uint64]struct{}), nil, now
	case now.Sub(s.turned) >= nameLife:
		s.now, s.before, s.turned = make(map[uint64]struct{}), s.now, now
	}
}

// Len is how many names are known.
func (s *NameSet) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.now) + len(s.before)
}
