package stream

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func createTopics(t testing.TB, brokers []string, topics ...string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	wipe(t, admin)
	for _, topic := range topics {
		_, err := admin.CreateTopic(context.Background(), testPartitions, -1, nil, topic)
		require.NoError(t, err)
	}
}

// wipe deletes the groups and topics that earlier tests left on a broker that they share.
func wipe(t testing.TB, admin *kadm.Client) {
	t.Helper()
	ctx := context.Background()
	require.Eventually(t, func() bool {
		groups, err := admin.ListGroups(ctx)
		if err != nil {
			return false
		}
		if names := groups.Groups(); len(names) > 0 {
			// A member that was killed is missed after its session time-out.
			_, _ = admin.DeleteGroups(ctx, names...)
			return false
		}
		details, err := admin.ListTopics(ctx)
		if err != nil || len(details) == 0 {
			return err == nil
		}
		_, _ = admin.DeleteTopics(ctx, details.Names()...)
		return false
	}, 60*time.Second, 50*time.Millisecond)
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
