package importer

import (
	"cmp"
	"slices"
	"sync"
)

// outcome is what became of a batch.
type outcome struct {
	last     int
	accepted int
	refusals []Refusal
}

// sequence brings the outcomes of batches, which end in any order, back into the order of the file.
type sequence struct {
	checkpoint func(Position, []Refusal) error

	mu      sync.Mutex // guards what follows, and makes checkpoints one at a time
	next    int
	waiting map[int]outcome
	res     Result
	failed  error // of a checkpoint: nothing after it counts
}

func newSequence(o Options) *sequence {
	return &sequence{checkpoint: o.Checkpoint, waiting: make(map[int]outcome), res: Result{Position: o.From}}
}

// finished takes the outcome of batch number n, from 0. A checkpoint that fails leaves the result where it
// was: what it was not told does not count as done.
func (s *sequence) finished(n int, out outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	s.waiting[n] = out
	at := s.res.Position
	var refusals []Refusal
	for {
		out, ok := s.waiting[s.next]
		if !ok {
			break
		}
		delete(s.waiting, s.next)
		s.next++
		slices.SortFunc(out.refusals, func(a, b Refusal) int { return cmp.Compare(a.Line, b.Line) })
		refusals = append(refusals, out.refusals...)
		at.Line = out.last
		at.Accepted += out.accepted
		at.Refused += len(out.refusals)
	}
	if s.failed = s.checkpoint(at, refusals); s.failed != nil {
		return s.failed
	}
	s.res.Position = at
	room := maxRefusals - len(s.res.Refusals)
	s.res.Refusals = append(s.res.Refusals, refusals[:min(len(refusals), room)]...)
	return nil
}

func (s *sequence) result() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.res
}
