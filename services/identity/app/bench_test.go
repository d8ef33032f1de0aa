package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/identity/app"
)

// passThrough is the least that a stage can do at exactly-once: it writes what it reads.
type passThrough struct{}

func (passThrough) Process(ctx *stream.Context, rec stream.Record) error {
	ctx.Emit(topics.ProfileLog, rec.Key, rec.Value)
	return nil
}
func (passThrough) Timer(*stream.Context, stream.Timer) error   { return nil }
func (passThrough) Merge(*stream.Context, *stream.Source) error { return nil }

// BenchmarkOnKafka takes b.N events of 0.6 kB from events.v1 to profile.log.v1 on the in-memory broker:
// events of 1,000 known anonymous anchors; events that each bring a new visitor to one of 1,000 known
// users; and, to compare, a stage without state on the same runtime (P7).
func BenchmarkOnKafka(b *testing.B) {
	identity := func(b *testing.B, deps app.Deps) run.Component {
		service, err := app.New(app.NewDefaultConfig(), deps)
		require.NoError(b, err)
		return service
	}
	bare := func(b *testing.B, deps app.Deps) run.Component {
		runner, err := stream.NewRunner(stream.Topology{
			Name: "bare", Inputs: []string{topics.Events}, Outputs: []string{topics.ProfileLog},
			New: func() stream.Processor { return passThrough{} },
		}, stream.Config{Kafka: deps.Kafka, DataDir: deps.DataDir}, stream.Deps{Clock: deps.Clock, Logger: deps.Logger, Telemetry: deps.Telemetry})
		require.NoError(b, err)
		return runner
	}
	known := func(i int) [][2]string { return [][2]string{{"anonymous_id", fmt.Sprintf("a%d", i%1000)}} }
	linking := func(i int) [][2]string {
		return [][2]string{{"anonymous_id", fmt.Sprintf("a%d", i)}, {"user_id", fmt.Sprintf("u%d", i%1000)}}
	}
	b.Run("bare", func(b *testing.B) { measure(b, bare, known) })
	b.Run("known", func(b *testing.B) { measure(b, identity, known) })
	b.Run("linking", func(b *testing.B) { measure(b, identity, linking) })
}

func measure(b *testing.B, stage func(*testing.B, app.Deps) run.Component, identifiers func(int) [][2]string) {
	deps := newDeps(b, kafkatest.StartEmbedded(b))
	client := newClient(b, deps, kgo.ProducerLinger(5*time.Millisecond))
	require.NoError(b, deps.Kafka.EnsureTopics(b.Context(), client, topics.All()))
	properties := fmt.Appendf(nil, `{"filler":"%0500d"}`, 0)
	for i := range b.N {
		event := &eventv1.Event{MessageId: fmt.Sprintf("m%d", i), Tenant: "acme", Source: "web", Properties: properties, TimestampMs: 1, ReceivedAtMs: 1}
		ids := identifiers(i)
		for _, id := range ids {
			event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: id[0], Value: id[1]})
		}
		value, err := event.MarshalVT()
		require.NoError(b, err)
		key := topics.Key("acme", ids[0][0]+":"+ids[0][1])
		client.Produce(b.Context(), &kgo.Record{Topic: topics.Events, Key: key, Value: value}, nil)
	}
	require.NoError(b, client.Flush(b.Context()))
	reader := newClient(b, deps, kgo.ConsumeTopics(topics.ProfileLog), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	component := stage(b, deps)
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	b.ResetTimer()
	require.NoError(b, component.Start(ctx))
	for read := 0; read < b.N; {
		fetches := reader.PollFetches(ctx)
		require.NoError(b, fetches.Err())
		read += fetches.NumRecords()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	require.NoError(b, component.Stop(ctx))
}
