package kafkatest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestTransaction commits one transaction and aborts another; a read-committed
// consumer sees the first alone.
func TestTransaction(t *testing.T) {
	Each(t, func(t *testing.T, brokers []string) {
		topic := createTopic(t, brokers)
		transact(t, brokers, topic, "kept", kgo.TryCommit)
		transact(t, brokers, topic, "lost", kgo.TryAbort)
		transact(t, brokers, topic, "kept too", kgo.TryCommit)
		require.Equal(t, []string{"kept", "kept too"}, readCommitted(t, brokers, topic, 2))
	})
}

// TestApacheSurvivesKill restarts a killed node and finds what it acknowledged.
// It runs where Each runs on Apache Kafka.
func TestApacheSurvivesKill(t *testing.T) {
	if os.Getenv(EnvKafka) != "apache" {
		t.Logf("%s is not \"apache\": nothing to do", EnvKafka)
		return
	}
	node := StartApache(t, ApacheOptions{})
	topic := createTopic(t, node.Brokers())
	transact(t, node.Brokers(), topic, "before", kgo.TryCommit)
	node.Kill()
	require.NoError(t, node.Restart())
	transact(t, node.Brokers(), topic, "after the kill", kgo.TryCommit)
	node.Stop()
	require.NoError(t, node.Restart())
	require.Error(t, node.Restart(), "a running node must not start twice")
	require.Equal(t, []string{"before", "after the kill"}, readCommitted(t, node.Brokers(), topic, 2))
}

// TestClusterFaults shows that a fault injected into the broker reaches the
// client.
func TestClusterFaults(t *testing.T) {
	cluster := StartCluster(t, kfake.SeedTopics(1, "events"))
	cluster.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, rt := range req.(*kmsg.CreateTopicsRequest).Topics {
			st := kmsg.NewCreateTopicsResponseTopic()
			st.Topic, st.ErrorCode = rt.Topic, kerr.PolicyViolation.Code
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	adm := kadm.NewClient(newClient(t, cluster.ListenAddrs()))
	_, err := adm.CreateTopic(t.Context(), 1, 1, nil, "refused")
	require.ErrorIs(t, err, kerr.PolicyViolation)
	_, err = adm.CreateTopic(t.Context(), 1, 1, nil, "accepted")
	require.NoError(t, err, "a control that handled a request is dropped")
}

// TestMissingJars checks that the message names the way out.
func TestMissingJars(t *testing.T) {
	t.Setenv(EnvJars, t.TempDir())
	_, err := findJars()
	require.ErrorContains(t, err, "make engines-kafka")

	t.Setenv(EnvJars, "")
	t.Chdir(t.TempDir())
	_, err = findJars()
	require.ErrorContains(t, err, "make engines-kafka")

	jars := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(jars, "kafka_2.13-4.0.0.jar"), nil, 0o600))
	t.Setenv(EnvJars, jars)
	found, err := findJars()
	require.NoError(t, err)
	require.Equal(t, jars, found)
}

func newClient(t *testing.T, brokers []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func createTopic(t *testing.T, brokers []string) string {
	t.Helper()
	topic := fmt.Sprintf("kafkatest-%s", uuid.NewString())
	_, err := kadm.NewClient(newClient(t, brokers)).CreateTopic(t.Context(), 1, 1, nil, topic)
	require.NoError(t, err)
	return topic
}

func transact(t *testing.T, brokers []string, topic, value string, end kgo.TransactionEndTry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl := newClient(t, brokers, kgo.TransactionalID("txn-"+topic), kgo.DefaultProduceTopic(topic))
	require.NoError(t, cl.BeginTransaction())
	require.NoError(t, cl.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr())
	require.NoError(t, cl.Flush(ctx))
	require.NoError(t, cl.EndTransaction(ctx, end))
}

func readCommitted(t *testing.T, brokers []string, topic string, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl := newClient(t, brokers, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var values []string
	for len(values) < n {
		fetches := cl.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}
