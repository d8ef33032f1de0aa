package table

import (
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// emptyAnswers is how many answered fetches within one poll that brought no record tell that there was
// nothing to read. One is not enough: its records may be about to be handed over. But the client asks the
// broker again only when what it has buffered was taken, so a second answer proves the first one empty,
// however slowly anything runs.
const emptyAnswers = 2

// fetchCounter counts answered fetches. A compacted topic can end in offsets that hold no record any
// more, so that the position never comes to the end: then polls that bring nothing tell that it is reached.
type fetchCounter struct {
	answered atomic.Int64
}

var _ kgo.HookBrokerE2E = (*fetchCounter)(nil)

// OnBrokerE2E is called by the client for each request that was answered or failed.
func (f *fetchCounter) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if kmsg.Key(key) == kmsg.Fetch && e2e.Err() == nil {
		f.answered.Add(1)
	}
}
