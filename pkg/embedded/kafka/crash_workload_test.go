package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	inTopic  = "in"
	outTopic = "out"
	logTopic = "changelog"
	crashers = "transformers"
	inParts  = 4
	outParts = 5
	logParts = 4
	payload  = 60
	maxLead  = 20_000 // keeps the input from outgrowing what the oracle must read
)

// workload is the exactly-once loop under test at full load: an idempotent
// producer of numbered records, and transformers that write two records for
// each, one for each of two topics, with the offsets in one transaction.
type workload struct {
	brokers []string
	next    atomic.Uint64
	acked   func(id uint64)

	commits atomic.Int64
	lead    atomic.Int64 // records produced and not yet transformed
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func newWorkload(brokers []string, from uint64) *workload {
	w := &workload{brokers: brokers, acked: func(uint64) {}}
	w.next.Store(from)
	return w
}

// quick are client options that lose little time over a restart.
func (w *workload) quick(opts ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.SeedBrokers(w.brokers...),
		kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond }),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)
}

// createTopics makes the topics, if they do not exist.
func (w *workload) createTopics(ctx context.Context) error {
	cl, err := kgo.NewClient(w.quick()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for topic, parts := range map[string]int32{inTopic: inParts, outTopic: outParts, logTopic: logParts} {
		if _, err := kadm.NewClient(cl).CreateTopic(ctx, parts, 1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return err
		}
	}
	return nil
}

// start begins the load; stop ends it.
func (w *workload) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	if err := w.createTopics(ctx); err != nil {
		cancel()
		return err
	}
	producer, err := kgo.NewClient(w.quick(kgo.MaxBufferedRecords(256), kgo.ProducerLinger(0))...)
	if err != nil {
		cancel()
		return err
	}
	w.wg.Go(func() { w.produce(ctx, producer) })
	for i := range 2 {
		w.wg.Go(func() { w.transform(ctx, fmt.Sprintf("transformer-%d", i)) })
	}
	return nil
}

func (w *workload) stop() {
	w.cancel()
	w.wg.Wait()
}

func (w *workload) produce(ctx context.Context, cl *kgo.Client) {
	defer cl.Close()
	for ctx.Err() == nil {
		if w.lead.Load() > maxLead {
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
			continue
		}
		w.lead.Add(1)
		id := w.next.Add(1) - 1
		value := make([]byte, payload)
		binary.LittleEndian.PutUint64(value, id)
		cl.Produce(ctx, &kgo.Record{Topic: inTopic, Partition: int32(id % inParts), Value: value}, func(_ *kgo.Record, err error) {
			if err == nil {
				w.acked(id)
			}
		})
	}
}

// transform runs sessions one after another: a session that fails in a way it
// cannot mend is replaced by one with the same transactional id, which fences
// it, as a restarted process would.
func (w *workload) transform(ctx context.Context, txid string) {
	for ctx.Err() == nil {
		session, err := kgo.NewGroupTransactSession(w.quick(
			kgo.TransactionalID(txid), kgo.ConsumerGroup(crashers), kgo.ConsumeTopics(inTopic),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(20*time.Millisecond),
			kgo.HeartbeatInterval(100*time.Millisecond), kgo.SessionTimeout(6*time.Second),
			kgo.TransactionTimeout(30*time.Second), kgo.ProducerLinger(0),
		)...)
		if err != nil {
			return
		}
		w.runSession(ctx, session)
		session.Client().CloseAllowingRebalance()
	}
}

func (w *workload) runSession(ctx context.Context, session *kgo.GroupTransactSession) {
	for {
		fetches := session.PollRecords(ctx, 300)
		if ctx.Err() != nil {
			return
		}
		if fetches.Empty() {
			continue
		}
		if err := session.Begin(); err != nil {
			return
		}
		var failed atomic.Bool
		promise := func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(true)
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			value := make([]byte, 16)
			binary.LittleEndian.PutUint64(value, uint64(r.Offset))
			binary.LittleEndian.PutUint64(value[8:], uint64(r.Partition))
			session.Produce(ctx, &kgo.Record{Topic: outTopic, Partition: int32(r.Offset % outParts), Value: value}, promise)
			session.Produce(ctx, &kgo.Record{Topic: logTopic, Partition: r.Partition, Value: value}, promise)
		})
		if err := session.Client().Flush(ctx); err != nil {
			failed.Store(true)
		}
		committed, err := session.End(ctx, kgo.TransactionEndTry(!failed.Load()))
		if err != nil {
			return
		}
		if committed {
			w.commits.Add(1)
			w.lead.Add(-int64(fetches.NumRecords()))
		}
	}
}
