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
