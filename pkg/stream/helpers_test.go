package stream

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func createTopics(t testing.TB, brokers []string, topics ...string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	for _, topic := range topics {
		_, err := kadm.NewClient(client).CreateTopic(context.Background(), testPartitions, -1, nil, topic)
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			require.NoError(t, err)
		}
	}
}

// writer sends many records quickly.
type writerClient struct {
	t      testing.TB
	client *kgo.Client
}

func newWriter(t testing.TB, brokers []string) *writerClient {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(100_000))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &writerClient{t: t, client: client}
}

func (w *writerClient) send(topic, key, value string) {
	w.client.Produce(context.Background(), record(topic, key, value), func(_ *kgo.Record, err error) {
		if err != nil {
			w.t.Error(err)
		}
	})
}

func (w *writerClient) flush() {
	w.t.Helper()
	require.NoError(w.t, w.client.Flush(context.Background()))
}
