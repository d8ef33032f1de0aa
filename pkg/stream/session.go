package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// session is one membership of the group, with or without transactions.
type session interface {
	client() *kgo.Client
	// open takes the place of an instance of the same id that died: its transaction ends at once instead of
	// after its time-out, for which everybody who reads what it wrote would wait, this member first.
	open(ctx context.Context) error
	begin() error
	// end flushes and tries to commit or aborts. committed false without an error: the transaction was
	// aborted and the session can go on. After an error it cannot, and what happened is not known.
	end(ctx context.Context, commit bool, fence []fenceOffset) (committed bool, err error)
	close()
}

// fenceOffset is where a task stands in a topic. It takes the place of what the client would commit, and is
// committed even if nothing was read: so the group coordinator checks that this member still owns the
// partition, and whoever owns it next waits for the transaction to end.
type fenceOffset struct {
	topic     string
	partition int32
	offset    kgo.EpochOffset
}

// endTimeout bounds flush and end of a transaction. A broker that is away longer has aborted it anyway.
const endTimeout = 20 * time.Second

// memberOptions are the settings of a member's client, transactional or not.
func memberOptions(top *Topology, cfg Config, base []kgo.Opt, balancer kgo.GroupBalancer, outputs *outputLimits) []kgo.Opt {
	return append(base,
		kgo.ConsumerGroup(top.Group()),
		kgo.ConsumeTopics(top.consumed()...),
		kgo.Balancers(balancer),
		// A static member comes back after a crash without waiting for its own time-out.
		kgo.InstanceID(cfg.InstanceID),
		kgo.SessionTimeout(cfg.SessionTimeout),
		// Three beats before the time-out: one may be lost.
		kgo.HeartbeatInterval(cfg.SessionTimeout/4),
		kgo.RebalanceTimeout(cfg.SessionTimeout*2),
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers of transactions count for the position: without them an idle stage would look behind for ever.
		kgo.KeepControlRecords(),
		// What is fetched ahead is bounded: many stages share a process.
		kgo.FetchMaxBytes(8<<20),
		kgo.FetchMaxPartitionBytes(2<<20),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.MaxConcurrentFetches(2),
		kgo.RecordPartitioner(partitioner{top: top}),
		kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if topic == top.ChangelogTopic() || topic == top.HandoverTopic() || topic == top.DeadLetterTopic() {
				return internalRecordBytes
			}
			return outputs.batch(topic)
		}),
	)
}

// partitioner keeps the changelog beside its task; everything else goes by the hash of its key.
type partitioner struct{ top *Topology }

// ForTopic returns the partitioner of a topic.
func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.top.ChangelogTopic() {
		return kgo.ManualPartitioner().ForTopic(topic)
	}
	return kgo.StickyKeyPartitioner(nil).ForTopic(topic)
}

// exactlyOnce is a session in which input offsets, outputs and changelog commit together.
type exactlyOnce struct {
	session *kgo.GroupTransactSession
}

func newExactlyOnce(top *Topology, cfg Config, opts []kgo.Opt) (*exactlyOnce, error) {
	s, err := kgo.NewGroupTransactSession(append(opts,
		kgo.TransactionalID(top.Group()+"."+cfg.InstanceID),
		kgo.TransactionTimeout(cfg.TransactionTimeout),
	)...)
	if err != nil {
		return nil, fmt.Errorf("configuring the transactional client: %w", err)
	}
	return &exactlyOnce{session: s}, nil
}

func (s *exactlyOnce) client() *kgo.Client { return s.session.Client() }
func (s *exactlyOnce) begin() error        { return s.session.Begin() }
func (s *exactlyOnce) close()              { s.session.Close() }

func (s *exactlyOnce) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	// The client would ask for its producer id with its first record. The asking is what ends the transaction.
	if _, _, err := s.session.Client().ProducerID(ctx); err != nil {
		return fmt.Errorf("taking over the transactional id: %w", err)
	}
	return nil
}

func (s *exactlyOnce) end(ctx context.Context, commit bool, fence []fenceOffset) (bool, error) {
	if commit {
		ctx = kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
			addFence(req, fence)
			return nil
		})
	}
	committed, err := s.session.End(ctx, kgo.TransactionEndTry(commit))
	if err != nil {
		return false, fmt.Errorf("ending a transaction: %w", err)
	}
	return committed, nil
}

func addFence(req *kmsg.TxnOffsetCommitRequest, fence []fenceOffset) {
	for _, f := range fence {
		t := topicOf(req, f.topic)
		if t != nil {
			if p := partitionOf(t, f.partition); p != nil {
				p.Offset, p.LeaderEpoch = f.offset.Offset, f.offset.Epoch
				continue
			}
		}
		if t == nil {
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic = f.topic
			req.Topics = append(req.Topics, topic)
			t = &req.Topics[len(req.Topics)-1]
		}
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset, part.LeaderEpoch = f.partition, f.offset.Offset, f.offset.Epoch
		part.Metadata = &req.MemberID
		t.Partitions = append(t.Partitions, part)
	}
}

func topicOf(req *kmsg.TxnOffsetCommitRequest, name string) *kmsg.TxnOffsetCommitRequestTopic {
	for i := range req.Topics {
		if req.Topics[i].Topic == name {
			return &req.Topics[i]
		}
	}
	return nil
}

func partitionOf(t *kmsg.TxnOffsetCommitRequestTopic, partition int32) *kmsg.TxnOffsetCommitRequestTopicPartition {
	for i := range t.Partitions {
		if t.Partitions[i].Partition == partition {
			return &t.Partitions[i]
		}
	}
	return nil
}

// atLeastOnce commits offsets after the outputs are written, without a transaction.
type atLeastOnce struct {
	kafka *kgo.Client
}

func newAtLeastOnce(opts []kgo.Opt) (*atLeastOnce, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("configuring the client: %w", err)
	}
	return &atLeastOnce{kafka: client}, nil
}

func (s *atLeastOnce) client() *kgo.Client        { return s.kafka }
func (s *atLeastOnce) open(context.Context) error { return nil }
func (s *atLeastOnce) begin() error               { return nil }
func (s *atLeastOnce) close()                     { s.kafka.Close() }

func (s *atLeastOnce) end(ctx context.Context, commit bool, fence []fenceOffset) (bool, error) {
	if !commit {
		return false, s.kafka.AbortBufferedRecords(ctx)
	}
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	for _, f := range fence {
		if offsets[f.topic] == nil {
			offsets[f.topic] = make(map[int32]kgo.EpochOffset)
		}
		offsets[f.topic][f.partition] = f.offset
	}
	var err error
	s.kafka.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, failed error) {
		err = errors.Join(failed, offsetErrors(resp))
	})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.UnknownMemberID):
		return false, nil
	default:
		return false, fmt.Errorf("committing offsets: %w", err)
	}
}

func offsetErrors(resp *kmsg.OffsetCommitResponse) error {
	if resp == nil {
		return nil
	}
	var errs []error
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			errs = append(errs, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	return errors.Join(errs...)
}
