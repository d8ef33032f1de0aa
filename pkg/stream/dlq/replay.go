package dlq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/stream"
)

// headerMark is the one header of a mark: the offset, in the same partition, of the letter that was put
// back.
const headerMark = "sillage-replayed"

// markOf returns the offset that a mark names, "" if the record is none.
func markOf(rec *kgo.Record) string {
	if len(rec.Headers) == 1 && rec.Headers[0].Key == headerMark && rec.Key == nil && rec.Value == nil {
		return string(rec.Headers[0].Value)
	}
	return ""
}

// marks lists the letters of a range that were put back.
func (b *Box) marks(ctx context.Context, r span) (map[int64]struct{}, error) {
	marked := make(map[int64]struct{})
	err := b.read(ctx, r, func(rec *kgo.Record) error {
		if offset, err := strconv.ParseInt(markOf(rec), 10, 64); err == nil {
			marked[offset] = struct{}{}
		}
		return nil
	})
	return marked, err
}

// Options say how letters are put back.
type Options struct {
	// DryRun only says what would be done; it disturbs no other replay.
	DryRun bool
	// Limit is how many letters are put back at most; 0: all.
	Limit int
	// Chunk is how many letters a transaction takes. Default 500. What is done when a replay dies stays
	// done, transaction by transaction.
	Chunk int
	// Progress, if set, is told after each transaction how many have been put back so far.
	Progress func(done int)
	// Refused, if set, is told of each letter that cannot be put back.
	Refused func(*Letter, error)
}

// Result counts what a replay did.
type Result struct {
	// Replayed were put back (or would have been, with DryRun), Before had been by an earlier replay, and
	// Refused cannot be.
	Replayed, Before, Refused int
}

// ErrOvertaken is the error of a replay that another one of the same stage has shut out. What it had not
// committed by then it has not done.
var ErrOvertaken = errors.New("another replay of this stage has begun")

// transactionTimeout is when Kafka aborts the transaction of a replay that died. The next replay does not
// wait for it.
const transactionTimeout = time.Minute

// Replay puts back the letters of a stage that the filter chooses and that have not been put back before,
// each exactly once. The stage handles them when it reads them: at once if it runs, else when it does.
func (b *Box) Replay(ctx context.Context, stage string, filter Filter, opts Options) (Result, error) {
	if opts.Chunk <= 0 {
		opts.Chunk = 500
	}
	filter.Waiting = false // those that were are counted
	r := &replay{stage: stage, opts: opts}
	var err error
	if r.partitions, err = b.replayPartitions(ctx, stage); err != nil {
		return r.result, err
	}
	if !opts.DryRun {
		if err := r.claim(ctx, b.opts); err != nil {
			return r.result, err
		}
		defer r.client.Close()
	}
	err = b.Scan(ctx, stage, filter, func(l *Letter) error { return r.take(ctx, l) })
	if err == nil && r.open > 0 {
		err = r.commit(ctx)
	}
	if err != nil && r.open > 0 {
		r.abort(ctx)
	}
	return r.result, err
}

// replay is one run of Replay.
type replay struct {
	stage      string
	opts       Options
	partitions int32 // of the replay topic
	client     *kgo.Client
	result     Result
	open       int // letters in the open transaction
	bytes      int // of these

	mu     sync.Mutex // guards failed; held for its access only
	failed error      // of a write of the open transaction
}

// chunkBytes bounds what a transaction holds in memory.
const chunkBytes = 16 << 20

// replayPartitions is the partition count of a stage's replay topic.
func (b *Box) replayPartitions(ctx context.Context, stage string) (int32, error) {
	topic := stream.Topology{Name: stage}.ReplayTopic()
	details, err := b.admin.ListTopics(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("looking up %s: %w", topic, err)
	}
	if d := details[topic]; d.Err == nil && len(d.Partitions) > 0 {
		return int32(len(d.Partitions)), nil
	}
	return 0, fmt.Errorf("there is no topic %s: no stage named %q has run here, or none that takes letters back", topic, stage)
}

// claim shuts every other replay of the stage out. From here on, what the marks say is all that was done.
func (r *replay) claim(ctx context.Context, opts []kgo.Opt) error {
	client, err := kgo.NewClient(append(slices.Clone(opts),
		kgo.TransactionalID("sillage."+r.stage+".replay"),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// As large as the dead letters that package stream writes.
		kgo.ProducerBatchMaxBytes(2<<20),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	if _, _, err := client.ProducerID(ctx); err != nil {
		client.Close()
		return fmt.Errorf("claiming the replay of %s: %w", r.stage, err)
	}
	r.client = client
	return nil
}

// take puts one letter back, in the open transaction.
func (r *replay) take(ctx context.Context, l *Letter) error {
	if l.Replayed {
		r.result.Before++
		return nil
	}
	rec, err := r.record(l)
	if err != nil {
		r.result.Refused++
		if r.opts.Refused != nil {
			r.opts.Refused(l, err)
		}
		return nil
	}
	if r.opts.Limit > 0 && r.result.Replayed+r.open >= r.opts.Limit {
		return ErrStop
	}
	if r.opts.DryRun {
		r.result.Replayed++
		return nil
	}
	if r.open == 0 {
		if err := r.client.BeginTransaction(); err != nil {
			return fmt.Errorf("beginning a transaction: %w", err)
		}
	}
	r.open++
	mark := &kgo.Record{
		Topic: l.Topology + suffix, Partition: l.Partition,
		Headers: []kgo.RecordHeader{{Key: headerMark, Value: strconv.AppendInt(nil, l.Offset, 10)}},
	}
	r.bytes += len(rec.Key) + len(rec.Value)
	r.client.Produce(ctx, rec, r.written)
	r.client.Produce(ctx, mark, r.written)
	if r.open >= r.opts.Chunk || r.bytes >= chunkBytes {
		return r.commit(ctx)
	}
	return nil
}

func (r *replay) written(rec *kgo.Record, err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = fmt.Errorf("writing to %s: %w", rec.Topic, err)
	}
}

func (r *replay) writeErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// record is what goes to the replay topic.
func (r *replay) record(l *Letter) (*kgo.Record, error) {
	if l.Unreadable != nil {
		return nil, l.Unreadable
	}
	again, err := l.Replay(l.Partition, l.Offset)
	if err != nil {
		return nil, err
	}
	if again.Partition < 0 || again.Partition >= r.partitions {
		return nil, fmt.Errorf("partition %d is not there: the topic has %d", again.Partition, r.partitions)
	}
	rec := &kgo.Record{Topic: again.Topic, Partition: again.Partition, Key: again.Key, Value: again.Value}
	for _, h := range again.Headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return rec, nil
}

func (r *replay) commit(ctx context.Context) error {
	// Interrupting must not leave open whether it was done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTimeout)
	defer cancel()
	if err := errors.Join(r.client.Flush(ctx), r.writeErr()); err != nil {
		return overtaken(err)
	}
	if err := r.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return overtaken(fmt.Errorf("committing a transaction: %w (whether it did shows in the next replay, which does nothing twice)", err))
	}
	r.result.Replayed += r.open
	r.open, r.bytes = 0, 0
	if r.opts.Progress != nil {
		r.opts.Progress(r.result.Replayed)
	}
	return nil
}

// abort ends the open transaction without effect. If it cannot, Kafka does, or the next replay.
func (r *replay) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if r.client.AbortBufferedRecords(ctx) == nil {
		_ = r.client.EndTransaction(ctx, kgo.TryAbort)
	}
}

// overtaken says so if an error means it.
func overtaken(err error) error {
	for _, e := range []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrOvertaken, err)
		}
	}
	return err
}
