package stream

import (
	"context"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Limits of what is written to outputs. What a topic would refuse is found out before it is written and
// costs one record its way to the dead letters; found out by the broker, it would cost the transaction,
// for ever.
const (
	maxBatchBytes = 1 << 20
	// batchOverhead is more than what a batch of one record with a trace takes beside key and value.
	batchOverhead = 512
	minBatchBytes = 1024
)

// outputLimits knows what each output takes: the broker's max.message.bytes where it may be asked for.
// Where it may not, the first refusal has records written one by one, which shows what is too large.
type outputLimits struct {
	writing sync.Mutex // held while a record is written alone

	mu        sync.Mutex // guards what follows; held for map accesses only
	revision  int        // rises when described changes
	described map[string]int
	learned   map[string]int // what a record may have; topics in it are written one by one
}

func newOutputLimits() *outputLimits {
	return &outputLimits{described: make(map[string]int), learned: make(map[string]int)}
}

// describe asks the broker. Without the right to ask, what was known stays.
func (l *outputLimits) describe(ctx context.Context, admin *kadm.Client, topics []string) error {
	if len(topics) == 0 {
		return nil
	}
	configs, err := admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, topic := range configs {
		for _, c := range topic.Configs {
			if c.Key != "max.message.bytes" || topic.Err != nil || c.Value == nil {
				continue
			}
			if n, err := strconv.Atoi(*c.Value); err == nil && n > 0 && n != l.described[topic.Name] {
				l.described[topic.Name] = n
				l.revision++
			}
		}
	}
	return nil
}

// refused learns from a record that the broker did not take: the first time its batch may have been too
// large; when it was alone, it was.
func (l *outputLimits) refused(topic string, recordBytes int, alone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.described[topic]; ok {
		return // the next session asks again
	}
	switch have, ok := l.learned[topic]; {
	case alone:
		l.learned[topic] = min(have, recordBytes-1)
	case !ok:
		l.learned[topic] = maxRecordBytes
	}
}

// oneByOne says whether records of a topic are to be written alone.
func (l *outputLimits) oneByOne(topic string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.learned[topic]
	return ok
}

// batch is how large a batch for a topic may be.
func (l *outputLimits) batch(topic string) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := maxBatchBytes
	if described, ok := l.described[topic]; ok {
		n = min(n, described)
	}
	return int32(max(n, minBatchBytes))
}

// known is the revision of what is known.
func (l *outputLimits) known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.revision
}

// lower lists the outputs that take less than any record may have.
func (l *outputLimits) lower() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lower map[string]int
	note := func(topic string, n int) {
		if n >= maxRecordBytes {
			return
		}
		if lower == nil {
			lower = make(map[string]int)
		}
		lower[topic] = max(n, 0)
	}
	for topic, n := range l.learned {
		note(topic, n)
	}
	for topic, n := range l.described {
		note(topic, n-batchOverhead)
	}
	return lower
}

// refreshLimits gives the tasks what is known of the outputs by now: a limit that was raised lets through
// what is put back, one that was lowered refuses in time.
func (m *member) refreshLimits() {
	revision := m.outputs.known()
	if revision == m.limitsAt {
		return
	}
	m.limitsAt = revision
	lower := m.outputs.lower()
	for _, t := range m.tasks {
		if t.task != nil {
			t.task.limits.outputs = lower
		}
	}
}

// outputLimit is what key and value of a record to an output may have.
func (t *task) outputLimit(topic string) int {
	if n, ok := t.limits.outputs[topic]; ok {
		return min(n, t.limits.recordBytes)
	}
	return t.limits.recordBytes
}
