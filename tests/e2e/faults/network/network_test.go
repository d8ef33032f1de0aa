package network

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
)

// TestFates makes topics: whether one is there tells whether the broker handled the request.
func TestFates(t *testing.T) {
	for _, c := range []struct {
		name    string
		verdict Verdict
		done    bool
		err     error
	}{
		{"pass", Verdict{}, true, nil},
		{"lose request", Verdict{Fate: LoseRequest}, false, errTorn},
		{"lose answer", Verdict{Fate: LoseAnswer}, true, errTorn},
		{"silence", Verdict{Fate: Silence}, true, os.ErrDeadlineExceeded},
		{"rewrite", Verdict{Fate: Rewrite, Error: kerr.PolicyViolation}, true, kerr.PolicyViolation},
	} {
		t.Run(c.name, func(t *testing.T) {
			brokers := kafkatest.StartEmbedded(t)
			n := New(func(r Request) Verdict {
				if r.Key == kmsg.CreateTopics && r.Index >= 1 { // a client may try again at once
					return c.verdict
				}
				return Verdict{}
			})
			client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.Dialer(n.Dial), kgo.RequestTimeoutOverhead(200*time.Millisecond), kgo.RequestRetries(0))
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, create(client, "first"))
			err = create(client, "second")
			if c.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.err)
			}
			require.GreaterOrEqual(t, n.Seen(kmsg.CreateTopics), 2)

			direct, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
			require.NoError(t, err)
			defer direct.Close()
			topics, err := kadm.NewClient(direct).ListTopics(context.Background())
			require.NoError(t, err)
			require.True(t, topics.Has("first"))
			require.Equal(t, c.done, topics.Has("second"))
		})
	}
}

func create(client *kgo.Client, topic string) error {
	admin := kadm.NewClient(client)
	admin.SetTimeoutMillis(100)
	resp, err := admin.CreateTopic(context.Background(), 1, 1, nil, topic)
	if err != nil {
		return err
	}
	return resp.Err
}

func TestCut(t *testing.T) {
	brokers := kafkatest.StartEmbedded(t, kfake.SeedTopics(1, "t"))
	n := New(nil)
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.Dialer(n.Dial), kgo.RequestRetries(0), kgo.RetryTimeout(time.Second))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Ping(context.Background()))
	n.Cut()
	require.Error(t, client.Ping(context.Background()))
	n.Mend()
	require.NoError(t, client.Ping(context.Background()))
}

// TestRefuse: an error for every partition that was asked for.
func TestRefuse(t *testing.T) {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = "t"
	topic.Partitions = []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: 3}, {Partition: 5}}
	req.Topics = append(req.Topics, topic)
	resp, ok := Refuse(req, kerr.IllegalGeneration).(*kmsg.TxnOffsetCommitResponse)
	require.True(t, ok)
	require.Len(t, resp.Topics[0].Partitions, 2)
	for _, p := range resp.Topics[0].Partitions {
		require.Equal(t, kerr.IllegalGeneration.Code, p.ErrorCode)
	}
	end, ok := Refuse(kmsg.NewPtrEndTxnRequest(), kerr.ProducerFenced).(*kmsg.EndTxnResponse)
	require.True(t, ok)
	require.Equal(t, kerr.ProducerFenced.Code, end.ErrorCode)
}
