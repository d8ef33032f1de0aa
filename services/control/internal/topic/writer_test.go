package topic_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/definition/table"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/control/internal/topic"
)

var counterID = definition.ID{Tenant: "demo", Kind: definition.KindSegment, Name: "counter"}

// countUp is a change that can only be right on top of the one before it.
func countUp(current *definition.Snapshot) ([]topic.Write, error) {
	next := &definitionv1.Definition{Tenant: counterID.Tenant, Name: counterID.Name, Version: current.Get(counterID).GetVersion() + 1,
		Spec: &definitionv1.Definition_Segment{Segment: &definitionv1.Segment{}}}
	return []topic.Write{{ID: counterID, Definition: next}}, nil
}

func newKafka(t *testing.T) kafka.Config {
	t.Helper()
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = kafkatest.StartEmbedded(t)
	client, err := kgo.NewClient(cfg.Options(slog.New(slog.DiscardHandler))...)
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()))
	return cfg
}

func newWriter(t *testing.T, cfg kafka.Config) (*topic.Writer, *table.Table) {
	t.Helper()
	live, err := table.New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, live.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, live.Stop(context.Background())) })
	return topic.NewWriter(cfg, live, slog.New(slog.DiscardHandler)), live
}

// TestAChangeThatIsReportedIsThere would fail if a transaction were ended before the client knows the
// partition, or read back too early.
func TestAChangeThatIsReportedIsThere(t *testing.T) {
	writer, live := newWriter(t, newKafka(t))
	for n := range int64(40) {
		require.NoError(t, writer.Update(t.Context(), countUp))
		require.Equal(t, n+1, live.Snapshot().Get(counterID).GetVersion())
	}
}

func TestRacingWritersCountEveryChange(t *testing.T) {
	cfg := newKafka(t)
	var racers sync.WaitGroup
	const writers, changes = 3, 4
	kept := make(chan error, writers*changes)
	for range writers {
		writer, _ := newWriter(t, cfg)
		racers.Go(func() {
			for range changes {
				kept <- writer.Update(t.Context(), countUp)
			}
		})
	}
	racers.Wait()
	want := int64(0)
	for range writers * changes {
		if err := <-kept; err == nil {
			want++
		} else {
			require.ErrorIs(t, err, topic.ErrBusy)
		}
	}
	_, live := newWriter(t, cfg)
	require.Equal(t, want, live.Snapshot().Get(counterID).GetVersion())
	require.Positive(t, want)
}

func TestAnErrorOfTheDecisionIsReturnedAndNothingWritten(t *testing.T) {
	writer, live := newWriter(t, newKafka(t))
	refused := errors.New("refused")
	err := writer.Update(t.Context(), func(*definition.Snapshot) ([]topic.Write, error) { return nil, refused })
	require.ErrorIs(t, err, refused)
	require.NoError(t, writer.Update(t.Context(), func(*definition.Snapshot) ([]topic.Write, error) { return nil, nil }))
	require.Empty(t, live.Snapshot().All())
	require.NoError(t, writer.Close(t.Context()))
	require.ErrorIs(t, writer.Update(t.Context(), countUp), topic.ErrClosed)
}

func TestDeletingWritesATombstone(t *testing.T) {
	writer, live := newWriter(t, newKafka(t))
	require.NoError(t, writer.Update(t.Context(), countUp))
	require.NoError(t, writer.Update(t.Context(), func(*definition.Snapshot) ([]topic.Write, error) {
		return []topic.Write{{ID: counterID}}, nil
	}))
	require.Nil(t, live.Snapshot().Get(counterID))
}
