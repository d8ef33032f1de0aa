package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

// silence is how long Kafka may give nothing before a read is given up.
const silence = 30 * time.Second

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// span is what is read of a partition: from begin, below end.
type span struct{ begin, end int64 }

// log is what is read of Kafka.
type log struct {
	spans map[place]span
	book  *balance.Book
	// rows are the records that make a row of a table, by the table's topic and partition.
	rows map[place]*balance.Offsets
	// unreadable counts records that could not be decoded.
	unreadable int
	// newest is the last time at which an event came in; floor, the time before which events may be gone
	// from Kafka already.
	newest, floor int64
}

// spansOf is where the topics begin and how far they stand, open transactions left out. A topic that is not
// there has no span; a partition that cannot be looked up is an error, since what it holds would pass as lost
// or, worse, as never sent.
func spansOf(ctx context.Context, admin *kadm.Client, topics ...string) (map[place]span, error) {
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("looking up where topics begin: %w", err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("looking up where topics end: %w", err)
	}
	spans := make(map[place]span)
	for topic, partitions := range ends {
		for partition, end := range partitions {
			start, _ := starts.Lookup(topic, partition)
			if errors.Is(end.Err, kerr.UnknownTopicOrPartition) && partition < 0 {
				continue
			}
			if err := errors.Join(start.Err, end.Err); err != nil {
				return nil, fmt.Errorf("looking up partition %d of %s: %w", partition, topic, err)
			}
			spans[place{topic, partition}] = span{start.Offset, end.Offset}
		}
	}
	return spans, nil
}

// read hands every committed record of the spans to take. Records of one partition come in order.
func (c *Check) read(ctx context.Context, spans map[place]span, take func(*kgo.Record)) error {
	wanted := make(map[string]map[int32]kgo.Offset)
	open := make(map[place]int64)
	for p, s := range spans {
		if s.begin >= s.end {
			continue
		}
		if wanted[p.topic] == nil {
			wanted[p.topic] = make(map[int32]kgo.Offset)
		}
		wanted[p.topic][p.partition] = kgo.NewOffset().At(s.begin)
		open[p] = s.end
	}
	if len(open) == 0 {
		return nil
	}
	// With the markers of transactions every offset is seen, also the last.
	client, err := kgo.NewClient(append(c.cfg.Kafka.Options(c.cfg.Logger),
		kgo.ConsumePartitions(wanted), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	for len(open) > 0 {
		fetches, err := poll(ctx, client)
		if err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := place{r.Topic, r.Partition}
			end, wanted := open[p]
			if !wanted {
				return
			}
			if r.Offset >= end-1 {
				delete(open, p)
			}
			if r.Offset < end && !r.Attrs.IsControl() {
				take(r)
			}
			c.cfg.Progress(1)
		})
	}
	return nil
}

func poll(ctx context.Context, client *kgo.Client) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	fetches := client.PollRecords(ctx, 10_000)
	if err := fetches.Err(); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("reading Kafka: nothing came for %s", silence)
		}
		return nil, fmt.Errorf("reading Kafka: %w", err)
	}
	return fetches, nil
}
