package table_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/definition/table"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func tenantDef(name, zone string) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: name, Name: name, Spec: &definitionv1.Definition_TenantSpec{
		TenantSpec: &definitionv1.Tenant{Timezone: zone},
	}}
}

// topic is a definitions topic of a broker of its own, with a plain producer.
type topic struct {
	cfg    kafka.Config
	client *kgo.Client
}

func newTopic(t *testing.T) *topic {
	t.Helper()
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = kafkatest.StartEmbedded(t)
	client, err := kgo.NewClient(append(cfg.ProducerOptions(slog.New(slog.DiscardHandler)), kgo.DefaultProduceTopic(topics.Definitions))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()))
	return &topic{cfg: cfg, client: client}
}

func (tp *topic) write(t *testing.T, records ...*kgo.Record) int64 {
	t.Helper()
	results := tp.client.ProduceSync(t.Context(), records...)
	require.NoError(t, results.FirstErr())
	return results[len(results)-1].Record.Offset
}

func record(t *testing.T, def *definitionv1.Definition) *kgo.Record {
	t.Helper()
	value, err := def.MarshalVT()
	require.NoError(t, err)
	return &kgo.Record{Key: table.Key(definition.IDOf(def)), Value: value}
}

func (tp *topic) start(t *testing.T) *table.Table {
	t.Helper()
	live, err := table.New(tp.cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.Error(t, live.Ready(ctx))
	require.NoError(t, live.Start(ctx))
	t.Cleanup(func() { require.NoError(t, live.Stop(context.Background())) })
	require.NoError(t, live.Ready(ctx))
	return live
}

func TestReadsToTheEndBeforeItIsReady(t *testing.T) {
	tp := newTopic(t)
	tp.write(t, record(t, tenantDef("demo", "Europe/Paris")), record(t, tenantDef("other", "")), record(t, tenantDef("demo", "UTC")),
		&kgo.Record{Key: []byte("other/tenant/other")})
	live := tp.start(t)
	require.Equal(t, []string{"demo"}, live.Snapshot().Tenants())
	require.Equal(t, "UTC", live.Snapshot().Tenant("demo").GetTenantSpec().GetTimezone())
}

func TestEmptyTopicIsReady(t *testing.T) {
	require.Empty(t, newTopic(t).start(t).Snapshot().All())
}

func TestFollowsChangesAndTellsOfThem(t *testing.T) {
	tp := newTopic(t)
	live := tp.start(t)
	before, changed := live.Snapshot(), live.Changed()
	offset := tp.write(t, record(t, tenantDef("demo", "")))
	require.NoError(t, live.WaitFor(t.Context(), offset+1))
	select {
	case <-changed:
	default:
		t.Fatal("the snapshot changed and nobody was told")
	}
	require.NotNil(t, live.Snapshot().Tenant("demo"))
	require.Nil(t, before.Tenant("demo"), "a snapshot never changes")
	require.NotEqual(t, before.Revision(), live.Snapshot().Revision())

	offset = tp.write(t, &kgo.Record{Key: []byte("demo/tenant/demo")})
	require.NoError(t, live.WaitFor(t.Context(), offset+1))
	require.Nil(t, live.Snapshot().Tenant("demo"))
	require.Equal(t, before.Revision(), live.Snapshot().Revision(), "equal content has an equal revision")
}

func TestSurvivesRecordsThatCannotBeDecoded(t *testing.T) {
	tp := newTopic(t)
	misplaced := record(t, tenantDef("elsewhere", ""))
	misplaced.Key = []byte("demo/tenant/demo")
	tp.write(t, record(t, tenantDef("demo", "")),
		&kgo.Record{Key: []byte("demo/tenant/demo"), Value: []byte("\xff\xff\xff")},
		&kgo.Record{Key: []byte("demo/segment/x"), Value: []byte{}},
		misplaced, record(t, tenantDef("second", "")))
	live := tp.start(t)
	require.Equal(t, []string{"demo", "second"}, live.Snapshot().Tenants())
	require.EqualValues(t, 3, live.Undecodable())
}

func TestSeesCommittedTransactionsOnlyAndWhole(t *testing.T) {
	tp := newTopic(t)
	live := tp.start(t)
	writer, err := kgo.NewClient(append(tp.cfg.ProducerOptions(slog.New(slog.DiscardHandler)),
		kgo.DefaultProduceTopic(topics.Definitions), kgo.TransactionalID("test"))...)
	require.NoError(t, err)
	defer writer.Close()
	for _, commit := range []bool{false, true} {
		require.NoError(t, writer.BeginTransaction())
		name := map[bool]string{false: "aborted", true: "committed"}[commit]
		require.NoError(t, writer.ProduceSync(t.Context(), record(t, tenantDef(name, ""))).FirstErr())
		// kgo may take a first transaction that ends before the partition is published for an empty one.
		require.Eventually(t, func() bool {
			leader, _, err := writer.PartitionLeader(topics.Definitions, 0)
			return err == nil && leader >= 0
		}, 10*time.Second, time.Millisecond)
		require.NoError(t, writer.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)))
	}
	require.NoError(t, live.Refresh(t.Context()))
	require.Equal(t, []string{"committed"}, live.Snapshot().Tenants())
	require.Equal(t, []string{"committed"}, tp.start(t).Snapshot().Tenants(), "a table that starts on markers is ready, too")
}

func TestWaitForAnOffsetThatHoldsNothing(t *testing.T) {
	tp := newTopic(t)
	offset := tp.write(t, record(t, tenantDef("demo", "")))
	live := tp.start(t)
	// As after compaction: offsets that exist and hold no record.
	require.NoError(t, live.WaitFor(t.Context(), offset+1000))
}

func TestStopsWithoutATrace(t *testing.T) {
	tp := newTopic(t)
	before := goleak.IgnoreCurrent()
	live, err := table.New(tp.cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, live.Stop(t.Context()), "before Start")
	require.NoError(t, live.Start(t.Context()))
	require.Error(t, live.Start(t.Context()), "twice")
	require.NoError(t, live.Stop(t.Context()))
	require.NoError(t, live.Stop(t.Context()), "twice")
	goleak.VerifyNone(t, before)
}

func TestStartSaysWhenTheTopicIsMissing(t *testing.T) {
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = kafkatest.StartEmbedded(t)
	live, err := table.New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.ErrorContains(t, live.Start(ctx), topics.Definitions)
	require.NoError(t, live.Stop(t.Context()))
}
