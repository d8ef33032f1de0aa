// Package memstate is the keyed state of one key in memory, for the tests and benchmarks of the pure
// packages. It behaves as the runtime's: values are copied in, Range goes in name order, timers replace
// one another by id. Names are indexed by directory so that Range costs what it walks, not what is kept.
package memstate

import (
	"bytes"
	"slices"
	"strings"
	"time"
)

// Timer is a timer that is set.
type Timer struct {
	Due     time.Time
	Payload []byte
}

// State is the state of one key. The zero value is not ready; use New.
type State struct {
	values map[string][]byte
	byDir  map[string]map[string]struct{}
	Timers map[string]Timer
}

// New returns an empty state.
func New() *State {
	return &State{values: map[string][]byte{}, byDir: map[string]map[string]struct{}{}, Timers: map[string]Timer{}}
}

// dir is what Range may be asked for at least: `d/`, or `m/<profile>/`.
func dir(name string) string {
	first, rest, _ := strings.Cut(name, "/")
	if first == "m" {
		if second, _, ok := strings.Cut(rest, "/"); ok {
			return first + "/" + second + "/"
		}
	}
	return first + "/"
}

// Get returns the value of a name.
func (s *State) Get(name string) ([]byte, bool) {
	v, ok := s.values[name]
	return v, ok
}

// Put sets the value of a name.
func (s *State) Put(name string, value []byte) {
	s.values[name] = bytes.Clone(value)
	d := dir(name)
	if s.byDir[d] == nil {
		s.byDir[d] = map[string]struct{}{}
	}
	s.byDir[d][name] = struct{}{}
}

// Delete removes a name.
func (s *State) Delete(name string) {
	delete(s.values, name)
	d := dir(name)
	if delete(s.byDir[d], name); len(s.byDir[d]) == 0 {
		delete(s.byDir, d)
	}
}

// Range calls fn for the names that begin with prefix, in order.
func (s *State) Range(prefix string, fn func(name string, value []byte) bool) {
	var names []string
	for name := range s.byDir[dir(prefix)] {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if !fn(name, s.values[name]) {
			return
		}
	}
}

// SetTimer sets a timer.
func (s *State) SetTimer(id string, due time.Time, payload []byte) {
	s.Timers[id] = Timer{Due: due, Payload: bytes.Clone(payload)}
}

// CancelTimer cancels a timer.
func (s *State) CancelTimer(id string) { delete(s.Timers, id) }

// Len is the number of names.
func (s *State) Len() int { return len(s.values) }

// Count is the number of names under a prefix.
func (s *State) Count(prefix string) int {
	n := 0
	for name := range s.values {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}
