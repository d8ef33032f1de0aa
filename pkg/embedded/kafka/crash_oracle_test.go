package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// oracle checks, from what a read-committed consumer sees and nothing else,
// that no acknowledged record is lost or doubled and that output and offsets
// agree.
type oracle struct {
	brokers []string
	// settle ends a reading when nothing came for so long. Zero demands that
	// every partition can be read to its end.
	settle time.Duration
}

// place is an input record's partition and offset.
type place struct {
	partition int32
	offset    int64
}

// check reads everything there is. acked tells which records were acknowledged.
func (o *oracle) check(ctx context.Context, acked []uint64) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics := []string{inTopic, outTopic, logTopic}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	stable, err := adm.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for _, end := range ends.Offsets().Sorted() {
		if s, ok := stable.Lookup(end.Topic, end.Partition); !ok || s.Offset != end.At {
			return fmt.Errorf("%s-%d hangs: last stable offset %d, end %d", end.Topic, end.Partition, s.Offset, end.At)
		}
	}
	if err := o.checkInput(ctx, ends, acked); err != nil {
		return err
	}
	committed, err := adm.FetchOffsets(ctx, crashers)
	if err != nil {
		return err
	}
	upto := make([]int64, inParts)
	for p := range upto {
		if c, ok := committed.Lookup(inTopic, int32(p)); ok {
			upto[p] = c.At
		}
	}
	for _, topic := range []string{outTopic, logTopic} {
		if err := o.checkOutput(ctx, topic, ends, upto); err != nil {
			return err
		}
	}
	return nil
}

func (o *oracle) checkInput(ctx context.Context, ends kadm.ListedOffsets, acked []uint64) error {
	seen := make(map[uint64]int)
	err := o.read(ctx, inTopic, ends, func(r *kgo.Record) { seen[binary.LittleEndian.Uint64(r.Value)]++ })
	if err != nil {
		return err
	}
	for _, id := range acked {
		if seen[id] == 0 {
			return fmt.Errorf("input: acknowledged record %d is lost", id)
		}
	}
	for id, n := range seen {
		if n > 1 {
			return fmt.Errorf("input: record %d is there %d times", id, n)
		}
	}
	return nil
}

// checkOutput compares a topic of output with the committed offsets: below them
// every input has its output once, at and above them none.
func (o *oracle) checkOutput(ctx context.Context, topic string, ends kadm.ListedOffsets, upto []int64) error {
	seen := make([][]uint8, len(upto))
	for p := range seen {
		seen[p] = make([]uint8, upto[p])
	}
	var early []place
	err := o.read(ctx, topic, ends, func(r *kgo.Record) {
		at := place{int32(binary.LittleEndian.Uint64(r.Value[8:])), int64(binary.LittleEndian.Uint64(r.Value))}
		if at.offset >= upto[at.partition] {
			early = append(early, at)
			return
		}
		seen[at.partition][at.offset]++
	})
	if err != nil {
		return err
	}
	var lost, doubled int
	var example place
	for p := range seen {
		for offset, n := range seen[p] {
			switch {
			case n == 0:
				lost++
				example = place{int32(p), int64(offset)}
			case n > 1:
				doubled++
				example = place{int32(p), int64(offset)}
			}
		}
	}
	if lost+doubled+len(early) > 0 {
		return fmt.Errorf("%s: %d inputs lost, %d doubled, %d outputs ahead of the committed offsets %v (example %v %v)",
			topic, lost, doubled, len(early), upto, example, early[:min(3, len(early))])
	}
	return nil
}

// read consumes a topic to the given ends, committed records only.
func (o *oracle) read(ctx context.Context, topic string, ends kadm.ListedOffsets, each func(*kgo.Record)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	from, left := make(map[int32]kgo.Offset), make(map[int32]int64)
	ends.Each(func(end kadm.ListedOffset) {
		if end.Topic == topic && end.Offset > 0 {
			from[end.Partition], left[end.Partition] = kgo.NewOffset().AtStart(), end.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches, settled := o.poll(ctx, cl)
		if settled {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading %s to its end (%v left): %w", topic, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				each(r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}

// poll fetches; settled says that nothing came in time and that is enough.
func (o *oracle) poll(ctx context.Context, cl *kgo.Client) (fetches kgo.Fetches, settled bool) {
	if o.settle == 0 {
		return cl.PollFetches(ctx), false
	}
	ctx, cancel := context.WithTimeout(ctx, o.settle)
	defer cancel()
	fetches = cl.PollFetches(ctx)
	return fetches, ctx.Err() != nil && fetches.NumRecords() == 0
}
