package stream

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
)

// slowGroup is a logger of the Kafka client that holds up the goroutine of the consumer group between the
// sync, which says what this member gets, and the callback that hands it out.
type slowGroup struct{}

func (slowGroup) Level() kgo.LogLevel { return kgo.LogLevelInfo }

func (slowGroup) Log(_ kgo.LogLevel, message string, _ ...any) {
	if message == "new group session begun" {
		<-time.After(500 * time.Millisecond) // a restore takes some milliseconds
	}
}

// TestPartitionsDoNotStayPaused: however long the client takes from the assignment to its callback, what
// the callback pauses is resumed.
func TestPartitionsDoNotStayPaused(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	deps := testDeps(t)
	deps.KafkaOptions = []kgo.Opt{kgo.WithLogger(slowGroup{})}
	r := startRunner(t, counterTopology(), quickConfig(brokers, t.TempDir()), deps)
	waitReady(t, r)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		produce(t, brokers, record("in", key, "x"))
	}
	startTail(t, brokers, "out").waitFor(t, 8)
}

// TestOpenTransactionOfADeadInstance: an instance that comes back ends what it left open when it died and
// does not wait for the time-out of the transaction.
func TestOpenTransactionOfADeadInstance(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		createTopics(t, brokers, "in", "out")
		top := counterTopology()
		top.Name = "dead-instance"
		cfg := quickConfig(brokers, t.TempDir())
		cfg.InstanceID, cfg.TransactionTimeout, cfg.SessionTimeout = "it", 10*time.Minute, 6*time.Second
		dieInTransaction(t, brokers, &top, cfg)

		produce(t, brokers, record("in", "dead", "x"))
		r := startRunner(t, top, cfg, testDeps(t))
		waitReady(t, r)
		out := startTail(t, brokers, "out")
		require.Eventually(t, func() bool {
			records := out.all()
			return len(records) > 0 && string(records[len(records)-1].Value) == "x=1"
		}, 60*time.Second, 5*time.Millisecond)
		for _, rec := range out.all() {
			require.NotEqual(t, "never committed", string(rec.Value))
		}
	})
}

// dieInTransaction leaves a transaction open that holds outputs and offsets of every partition.
func dieInTransaction(t *testing.T, brokers []string, top *Topology, cfg Config) {
	t.Helper()
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(top.Group()+"."+cfg.InstanceID), kgo.TransactionTimeout(cfg.TransactionTimeout))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.BeginTransaction())
	for p := range int32(testPartitions) {
		rec := record("out", "dead", "never committed")
		rec.Partition = p
		require.NoError(t, client.ProduceSync(ctx, rec).FirstErr())
	}
	id, epoch, err := client.ProducerID(ctx)
	require.NoError(t, err)
	txn := top.Group() + "." + cfg.InstanceID

	add := kmsg.NewAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = txn, id, epoch, top.Group()
	require.Eventually(t, func() bool { // a group coordinator may have to be made first
		resp, err := add.RequestWith(ctx, client)
		return err == nil && resp.ErrorCode == 0
	}, 30*time.Second, 20*time.Millisecond)
	commit := kmsg.NewTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group, commit.Generation = txn, id, epoch, top.Group(), -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = top.Inputs[0], topicID(t, client, top.Inputs[0])
	for p := range int32(testPartitions) {
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset = p, 1000
		topic.Partitions = append(topic.Partitions, part)
	}
	commit.Topics = append(commit.Topics, topic)
	resp, err := commit.RequestWith(ctx, client)
	require.NoError(t, err)
	for _, topic := range resp.Topics {
		for _, part := range topic.Partitions {
			require.NoError(t, kerr.ErrorForCode(part.ErrorCode))
		}
	}
}

func topicID(t *testing.T, client *kgo.Client, topic string) [16]byte {
	t.Helper()
	details, err := kadm.NewClient(client).ListTopics(context.Background(), topic)
	require.NoError(t, err)
	return details[topic].ID
}
