package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/topics"
)

// fetch reads again, in the background, what a lane had put off. offsets ascend; none is nothing to do.
func (d *Dispatcher) fetch(p *partition, lane string, offsets []int64) {
	if len(offsets) == 0 {
		return
	}
	p.jobs.Go(func() {
		for len(offsets) > 0 {
			rest, err := d.fetchSome(p, lane, offsets)
			offsets = rest
			if err == nil {
				continue
			}
			if p.ctx.Err() != nil {
				return
			}
			d.logger.WarnContext(p.ctx, "reading sends that were put off failed and is tried again", slog.Int("partition", int(p.number)), slog.Any("error", err))
			if !sleep(p.ctx, time.Second) {
				return
			}
		}
		p.mu.Lock()
		more := p.fetched(lane)
		p.mu.Unlock()
		d.fetch(p, lane, more)
	})
}

// fetchSome starts the sends at the offsets and returns those that it did not come to.
func (d *Dispatcher) fetchSome(p *partition, lane string, offsets []int64) ([]int64, error) {
	err := d.read(p.ctx, topics.Sends, map[int32]int64{p.number: offsets[0]}, func(rec *kgo.Record) bool {
		for len(offsets) > 0 && offsets[0] < rec.Offset {
			// Only retention takes a record away: the lane was closed for longer than sends are kept.
			d.logger.ErrorContext(p.ctx, "a send was put off for longer than its topic keeps it, and is lost", slog.Int("partition", int(p.number)), slog.Int64("offset", offsets[0]))
			d.finish(p, lane, offsets[0])
			offsets = offsets[1:]
		}
		if len(offsets) > 0 && offsets[0] == rec.Offset {
			offsets = offsets[1:]
			if c, ok := d.open(p, rec); ok {
				p.jobs.Go(func() { d.handle(p, c) })
			} else {
				d.finish(p, lane, rec.Offset)
			}
		}
		return len(offsets) > 0
	})
	return offsets, err
}

// read reads partitions of a topic from the given offsets on, markers included, until fn wants no more.
func (d *Dispatcher) read(ctx context.Context, topic string, from map[int32]int64, fn func(*kgo.Record) bool) error {
	positions := make(map[int32]kgo.Offset, len(from))
	for number, offset := range from {
		positions[number] = kgo.NewOffset().At(offset)
	}
	client, err := kgo.NewClient(append(d.cfg.Kafka.Options(d.logger),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: positions}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(4<<20),
		kgo.FetchMaxPartitionBytes(1<<20),
	)...)
	if err != nil {
		return fmt.Errorf("configuring a reader of %s: %w", topic, err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("reading %s: %w", topic, err)
		}
		for records := fetches.RecordIter(); !records.Done(); {
			if !fn(records.Next()) {
				return nil
			}
		}
	}
}
