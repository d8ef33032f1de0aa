// Package dlq reads the dead letters of stages that run on package stream, and puts them back.
//
// What is promised, and which test would catch its loss: a letter is put back at most once, whoever asks
// how often and wherever it is interrupted (TestReplayIsExactlyOnce, TestReplayThatDies, TestTwoReplays);
// it goes to the stage that gave up on it and to nobody else who reads the topic that it came from; what
// cannot be put back is named, with the reason, and holds up nothing else (TestReplayRefuses).
//
// That a letter was put back is noted in the dead-letter topic itself, beside the letter, by a mark: a
// record without key and value whose header names the letter. Letter and mark are written in one
// transaction. Marks are younger than their letters and so live as long; there is no further topic to
// keep. Whoever replays a stage first claims its transactional id, which ends what another replay of the
// stage has open and shuts that one out, then reads the marks to the end, and only then writes.
//
// Reading takes a topic as it stood at the beginning, and waits for transactions that are open in it: by
// default of package stream, ten seconds at most.
package dlq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/stream"
)

// suffix ends the name of every dead-letter topic.
const suffix = ".dlq"

// Box is access to the dead letters of a Kafka cluster.
type Box struct {
	opts  []kgo.Opt
	admin *kadm.Client
}

// Open returns access with the given client options, among them the seed brokers. Nothing is connected.
func Open(opts ...kgo.Opt) (*Box, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	return &Box{opts: slices.Clone(opts), admin: kadm.NewClient(client)}, nil
}

// Close ends the connections.
func (b *Box) Close() { b.admin.Close() }

// Stages lists, by name, the stages that have a dead-letter topic.
func (b *Box) Stages(ctx context.Context) ([]string, error) {
	topics, err := b.admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	var stages []string
	for _, topic := range topics.Sorted() {
		if stage, ok := strings.CutSuffix(topic.Topic, suffix); ok && topic.Err == nil {
			stages = append(stages, stage)
		}
	}
	return stages, nil
}

// Letter is a dead letter with its place.
type Letter struct {
	stream.DeadLetter
	// Partition and Offset are its place in the dead-letter topic; At is when it was written there.
	Partition int32
	Offset    int64
	At        time.Time
	// Replayed says that it has been put back already.
	Replayed bool
	// Unreadable is why its headers could not be read; nil for every letter of package stream.
	Unreadable error
}

// Place is partition/offset, as in the header of what is put back.
func (l *Letter) Place() string { return fmt.Sprintf("%d/%d", l.Partition, l.Offset) }

// Filter chooses letters; its zero value chooses all.
type Filter struct {
	// KeyPrefix begins the record's key.
	KeyPrefix []byte
	// Reason is part of the reason, Class the whole class.
	Reason, Class string
	// Since and Until bound when the letter was written; Until is not in.
	Since, Until time.Time
	// Places are single letters, as of [Letter.Place].
	Places []string
	// Waiting leaves out those that have been put back.
	Waiting bool
}

func (f *Filter) matches(l *Letter) bool {
	return bytes.HasPrefix(l.Record.Key, f.KeyPrefix) &&
		strings.Contains(l.Reason, f.Reason) && (f.Class == "" || f.Class == l.Class) &&
		(f.Since.IsZero() || !l.At.Before(f.Since)) && (f.Until.IsZero() || l.At.Before(f.Until)) &&
		(len(f.Places) == 0 || slices.Contains(f.Places, l.Place())) && (!f.Waiting || !l.Replayed)
}

// ErrStop ends a Scan without an error.
var ErrStop = errors.New("stop")

// Scan calls fn for every letter of a stage that the filter chooses, by partition and offset. The letter
// is valid during the call. An error of fn ends the scan; ErrStop ends it well.
func (b *Box) Scan(ctx context.Context, stage string, filter Filter, fn func(*Letter) error) error {
	err := b.scan(ctx, stage, filter, fn)
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

func (b *Box) scan(ctx context.Context, stage string, filter Filter, fn func(*Letter) error) error {
	ranges, err := b.ranges(ctx, stage)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		marked, err := b.marks(ctx, r)
		if err != nil {
			return err
		}
		err = b.read(ctx, r, func(rec *kgo.Record) error {
			if markOf(rec) != "" {
				return nil
			}
			l := newLetter(stage, rec)
			_, l.Replayed = marked[rec.Offset]
			if !filter.matches(l) {
				return nil
			}
			return fn(l)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func newLetter(stage string, rec *kgo.Record) *Letter {
	in := stream.Record{
		Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Key: rec.Key, Value: rec.Value, Timestamp: rec.Timestamp,
	}
	for _, h := range rec.Headers {
		in.Headers = append(in.Headers, stream.Header{Key: h.Key, Value: h.Value})
	}
	letter, err := stream.ParseDeadLetter(stage, in)
	return &Letter{DeadLetter: letter, Partition: rec.Partition, Offset: rec.Offset, At: rec.Timestamp, Unreadable: err}
}

// span is a partition from its start to its end at one moment.
type span struct {
	topic      string
	partition  int32
	start, end int64
}

// ranges looks up the partitions of a stage's letters as they stand now, open transactions included.
func (b *Box) ranges(ctx context.Context, stage string) ([]span, error) {
	topic := stage + suffix
	starts, err := b.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("looking up the dead letters of %s: %w", stage, err)
	}
	ends, err := b.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("looking up the dead letters of %s: %w", stage, err)
	}
	var ranges []span
	for partition, end := range ends[topic] {
		start, _ := starts.Lookup(topic, partition)
		if err := errors.Join(end.Err, start.Err); err != nil {
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				return nil, fmt.Errorf("there is no topic %s: no stage named %q has run here", topic, stage)
			}
			return nil, fmt.Errorf("looking up the dead letters of %s: %w", stage, err)
		}
		if start.Offset < end.Offset {
			ranges = append(ranges, span{topic: topic, partition: partition, start: start.Offset, end: end.Offset})
		}
	}
	slices.SortFunc(ranges, func(a, b span) int { return int(a.partition - b.partition) })
	return ranges, nil
}

// read calls fn for every committed record of a range. It waits for transactions that are open in it.
func (b *Box) read(ctx context.Context, r span, fn func(*kgo.Record) error) error {
	client, err := kgo.NewClient(append(slices.Clone(b.opts),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: {r.partition: kgo.NewOffset().At(r.start)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The end may be a marker, which says that all before it has been read.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(500*time.Millisecond),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	for at := r.start; at < r.end; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading partition %d of %s: %w", r.partition, r.topic, err)
		}
		for _, rec := range fetches.Records() {
			at = rec.Offset + 1
			if rec.Offset >= r.end || rec.Attrs.IsControl() {
				continue
			}
			if err := fn(rec); err != nil {
				return err
			}
		}
	}
	return nil
}
