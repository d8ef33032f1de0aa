package table

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// idleFetches is how many answered fetches in a row must bring nothing before the end counts as reached.
// One would do if no answer were ever about to be handed over; more are a margin for leaders that move.
const idleFetches = 4

// fetchCounter counts answered fetches. A compacted topic can end in offsets that hold no record any
// more, so that the position never comes to the end: then fetches that bring nothing tell that it is reached.
type fetchCounter struct {
	mu       sync.Mutex // guards the fields below
	answered int64
	// last is the value of answered when records were last delivered.
	last int64
	tick chan struct{}
}

var _ kgo.HookBrokerE2E = (*fetchCounter)(nil)

func newFetchCounter() *fetchCounter { return &fetchCounter{tick: make(chan struct{})} }

// OnBrokerE2E is called by the client for each request that was answered or failed.
func (f *fetchCounter) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if kmsg.Key(key) != kmsg.Fetch || e2e.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered++
	close(f.tick)
	f.tick = make(chan struct{})
}

func (f *fetchCounter) count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answered
}

// delivered notes that the answers so far were not all empty.
func (f *fetchCounter) delivered() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = f.answered
}

// idle says whether idleFetches answers brought nothing since answer number begun.
func (f *fetchCounter) idle(begun int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answered-max(begun, f.last) >= idleFetches
}

// next is closed at the next answer.
func (f *fetchCounter) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tick
}
