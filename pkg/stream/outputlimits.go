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

// outputLimits knows what each output takes: the broker's max.message.bytes where it may be asked for,
// else what was learned from refusals.
type outputLimits struct {
	mu        sync.Mutex // guards what follows; held for map accesses only
	described map[string]int
	batches   map[string]int // learned
	records   map[string]int // learned
}

func newOutputLimits() *outputLimits {
	return &outputLimits{described: make(map[string]int), batches: make(map[string]int), records: make(map[string]int)}
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
			if n, err := strconv.Atoi(*c.Value); err == nil && n > 0 {
				l.described[topic.Name] = n
			}
		}
	}
	return nil
}

// refused learns from a record that the broker did not take. The first time its batch may have been too
// large, which is then made as small as the record; when that is refused, too, the record is.
func (l *outputLimits) refused(topic string, recordBytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.described[topic]; ok {
		return // the next session asks again
	}
	alone := max(minBatchBytes, recordBytes+batchOverhead)
	if have, ok := l.batches[topic]; !ok || have > alone {
		l.batches[topic] = alone
		return
	}
	if have, ok := l.records[topic]; !ok || recordBytes <= have {
		l.records[topic] = recordBytes - 1
	}
}

// batch is how large a batch for a topic may be.
func (l *outputLimits) batch(topic string) int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := maxBatchBytes
	if described, ok := l.described[topic]; ok {
		n = min(n, described)
	} else if learned, ok := l.batches[topic]; ok {
		n = min(n, learned)
	}
	return int32(max(n, minBatchBytes))
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
	for topic, n := range l.records {
		note(topic, n)
	}
	for topic, n := range l.described {
		note(topic, n-batchOverhead)
	}
	return lower
}

// outputLimit is what key and value of a record to an output may have.
func (t *task) outputLimit(topic string) int {
	if n, ok := t.limits.outputs[topic]; ok {
		return min(n, t.limits.recordBytes)
	}
	return t.limits.recordBytes
}
