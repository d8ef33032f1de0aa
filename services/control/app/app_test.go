package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/definition/table"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	controlv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/control/v1"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/control/app"
	"github.com/sillage-cdp/sillage/services/control/examples"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// instance is one control with a table of its own, reached over gRPC.
type instance struct {
	controlv1.DefinitionServiceClient
	table *table.Table
	app   *app.App
}

func newKafka(t *testing.T) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	cluster := kafkatest.StartCluster(t)
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	client, err := kgo.NewClient(cfg.Options(slog.New(slog.DiscardHandler))...)
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, cfg.EnsureTopics(t.Context(), client, topics.All()))
	return cluster, cfg
}

func start(t *testing.T, cfg kafka.Config, settings app.Config) *instance {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	live, err := table.New(cfg, logger)
	require.NoError(t, err)
	require.NoError(t, live.Start(t.Context()))
	control, err := app.New(settings, app.Deps{
		Kafka: cfg, Definitions: live, Clock: clock.NewManual(noon), Logger: logger, Telemetry: telemetry.Nop(),
	})
	require.NoError(t, err)
	require.NoError(t, control.Start(t.Context()))
	require.NoError(t, control.Ready(t.Context()))
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	control.RegisterGRPC(server)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///control", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, control.Stop(context.Background()))
		require.NoError(t, control.Stop(context.Background()), "twice")
		require.NoError(t, live.Stop(context.Background()))
	})
	return &instance{DefinitionServiceClient: controlv1.NewDefinitionServiceClient(conn), table: live, app: control}
}

func demoBank(t *testing.T) []*definitionv1.Definition {
	t.Helper()
	defs, err := examples.Load(examples.DemoBank)
	require.NoError(t, err)
	return defs
}

func segment(name, where string) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "demo", Name: name, Spec: &definitionv1.Definition_Segment{
		Segment: &definitionv1.Segment{Condition: &definitionv1.Condition{Where: where}}}}
}

func (i *instance) apply(t *testing.T, defs ...*definitionv1.Definition) *controlv1.ApplyDefinitionsResponse {
	t.Helper()
	response, err := i.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: defs})
	require.NoError(t, err)
	return response
}

func (i *instance) get(t *testing.T, kind, name string) *definitionv1.Definition {
	t.Helper()
	response, err := i.GetDefinition(t.Context(), &controlv1.GetDefinitionRequest{Tenant: "demo", Kind: kind, Name: name})
	require.NoError(t, err)
	return response.GetDefinition()
}

func TestApplyReadChangeDelete(t *testing.T) {
	_, cfg := newKafka(t)
	control := start(t, cfg, app.NewDefaultConfig())
	bank := demoBank(t)
	for i, one := range control.apply(t, bank...).GetApplied() {
		require.Equal(t, controlv1.Change_CHANGE_CREATED, one.GetChange())
		require.EqualValues(t, 1, one.GetVersion())
		require.Equal(t, bank[i].GetName(), one.GetName())
	}
	// At once, without waiting.
	require.Equal(t, noon.UnixMilli(), control.get(t, "journey", "loan-abandonment").GetAppliedAtMs())
	require.Empty(t, control.get(t, "source", "web").GetSource().GetWriteKeys())
	source, ok := control.table.Snapshot().SourceByWriteKey("demo-key")
	require.True(t, ok)
	require.Equal(t, "web", source.GetName())

	for _, one := range control.apply(t, bank...).GetApplied() {
		require.Equal(t, controlv1.Change_CHANGE_UNCHANGED, one.GetChange())
		require.EqualValues(t, 1, one.GetVersion())
	}
	changed := control.apply(t, segment("engaged", "traits.vip")).GetApplied()[0]
	require.Equal(t, controlv1.Change_CHANGE_UPDATED, changed.GetChange())
	require.EqualValues(t, 2, control.get(t, "segment", "engaged").GetVersion())

	list, err := control.ListDefinitions(t.Context(), &controlv1.ListDefinitionsRequest{Tenant: "demo", Kind: "score"})
	require.NoError(t, err)
	require.Len(t, list.GetDefinitions(), 2)
	list, err = control.ListDefinitions(t.Context(), &controlv1.ListDefinitionsRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetDefinitions(), len(bank))

	_, err = control.DeleteDefinition(t.Context(), &controlv1.DeleteDefinitionRequest{Tenant: "demo", Kind: "segment", Name: "customers"})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.ErrorContains(t, err, "segment demo/big-spenders")
	_, err = control.DeleteDefinition(t.Context(), &controlv1.DeleteDefinitionRequest{Tenant: "demo", Kind: "score", Name: "rfm"})
	require.NoError(t, err)
	_, err = control.GetDefinition(t.Context(), &controlv1.GetDefinitionRequest{Tenant: "demo", Kind: "score", Name: "rfm"})
	require.Equal(t, codes.NotFound, status.Code(err))
	_, err = control.DeleteDefinition(t.Context(), &controlv1.DeleteDefinitionRequest{Tenant: "demo", Kind: "score", Name: "rfm"})
	require.Equal(t, codes.NotFound, status.Code(err))
}

func TestARestartForgetsNothing(t *testing.T) {
	_, cfg := newKafka(t)
	t.Run("before", func(t *testing.T) {
		control := start(t, cfg, app.NewDefaultConfig())
		control.apply(t, demoBank(t)...)
		control.apply(t, segment("engaged", "traits.vip"))
	})
	control := start(t, cfg, app.NewDefaultConfig())
	require.EqualValues(t, 2, control.get(t, "segment", "engaged").GetVersion())
	require.Len(t, control.table.Snapshot().All(), len(demoBank(t)))
	require.Equal(t, controlv1.Change_CHANGE_UNCHANGED, control.apply(t, segment("engaged", "traits.vip")).GetApplied()[0].GetChange())
	require.Zero(t, control.table.Undecodable())
}

func TestWrongDefinitionsAreNamedFieldByFieldAndNothingIsStored(t *testing.T) {
	_, cfg := newKafka(t)
	control := start(t, cfg, app.NewDefaultConfig())
	bank := demoBank(t)
	_, err := control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{
		Definitions: append(bank, segment("one", "traits.x ="), segment("two", "scores.heat > 1")),
	})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	var violations []string
	for _, detail := range status.Convert(err).Details() {
		for _, violation := range detail.(*errdetails.BadRequest).GetFieldViolations() {
			violations = append(violations, violation.GetField())
			require.NotEmpty(t, violation.GetDescription())
		}
	}
	require.Equal(t, []string{"segment demo/one: spec.condition.where", "segment demo/two: spec.condition.where"}, violations)
	require.Empty(t, control.table.Snapshot().All())
}

func TestADryRunStoresNothing(t *testing.T) {
	_, cfg := newKafka(t)
	control := start(t, cfg, app.NewDefaultConfig())
	response, err := control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: demoBank(t), DryRun: true})
	require.NoError(t, err)
	require.Len(t, response.GetApplied(), len(demoBank(t)))
	require.NoError(t, control.table.Refresh(t.Context()))
	require.Empty(t, control.table.Snapshot().All())
	_, err = control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: []*definitionv1.Definition{segment("x", "true")}, DryRun: true})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestRequestsAreChecked(t *testing.T) {
	_, cfg := newKafka(t)
	settings := app.NewDefaultConfig()
	settings.MaxPerRequest = 2
	control := start(t, cfg, settings)
	_, err := control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: demoBank(t)})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	_, err = control.GetDefinition(t.Context(), &controlv1.GetDefinitionRequest{Tenant: "demo", Kind: "segmant", Name: "x"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = control.GetDefinition(t.Context(), &controlv1.GetDefinitionRequest{Kind: "segment", Name: "x"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = control.ListDefinitions(t.Context(), &controlv1.ListDefinitionsRequest{Kind: "segmant"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = control.DeleteDefinition(t.Context(), &controlv1.DeleteDefinitionRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// TestTwoInstancesNeverOverwriteEachOther lets two controls change the same segment at once: every change
// must have been made on top of the one before, so the version counts them all.
func TestTwoInstancesNeverOverwriteEachOther(t *testing.T) {
	_, cfg := newKafka(t)
	controls := []*instance{start(t, cfg, app.NewDefaultConfig()), start(t, cfg, app.NewDefaultConfig())}
	controls[0].apply(t, demoBank(t)...)
	controls[0].apply(t, segment("raced", "true"))
	const changes = 6
	var racers sync.WaitGroup
	errs := make(chan error, len(controls)*changes)
	for n, control := range controls {
		racers.Go(func() {
			for i := range changes {
				def := segment("raced", fmt.Sprintf("traits.n == %d", n*changes+i))
				_, err := control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: []*definitionv1.Definition{def}})
				errs <- err
			}
		})
	}
	racers.Wait()
	stored := int64(1)
	for range len(controls) * changes {
		// A change may be refused because others kept coming in between; then it was not stored.
		if err := <-errs; err == nil {
			stored++
		} else {
			require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
		}
	}
	for _, control := range controls {
		require.NoError(t, control.table.Refresh(t.Context()))
		require.Equal(t, stored, control.get(t, "segment", "raced").GetVersion())
	}
	require.Greater(t, stored, int64(changes))
	require.Equal(t, controls[0].table.Snapshot().Revision(), controls[1].table.Snapshot().Revision())
}

func TestAnApplicationWhileAnotherReferenceIsBeingDeleted(t *testing.T) {
	_, cfg := newKafka(t)
	controls := []*instance{start(t, cfg, app.NewDefaultConfig()), start(t, cfg, app.NewDefaultConfig())}
	controls[0].apply(t, demoBank(t)...)
	for i := range 4 {
		name := fmt.Sprintf("base-%d", i)
		controls[0].apply(t, segment(name, "true"))
		var racers sync.WaitGroup
		racers.Go(func() {
			using := segment(name+"-user", "")
			using.GetSegment().Condition = &definitionv1.Condition{Segment: name}
			_, _ = controls[0].ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: []*definitionv1.Definition{using}})
		})
		racers.Go(func() {
			_, _ = controls[1].DeleteDefinition(t.Context(), &controlv1.DeleteDefinitionRequest{Tenant: "demo", Kind: "segment", Name: name})
		})
		racers.Wait()
		require.NoError(t, controls[0].table.Refresh(t.Context()))
		require.NoError(t, definition.ValidateAll(controls[0].table.Snapshot()), "whoever came first, nothing refers to nothing")
	}
}

func TestAnUnreachableKafkaIsSaidAndNothingIsStored(t *testing.T) {
	cluster, cfg := newKafka(t)
	settings := app.NewDefaultConfig()
	settings.ChangeTimeout = time.Second
	control := start(t, cfg, settings)
	cluster.ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.EndTxnResponse)
		response.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return response, nil, true
	})
	_, err := control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: demoBank(t)})
	require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
	require.Empty(t, control.table.Snapshot().All(), "what is not committed is not seen")
}

func TestStoppedControlRefusesChanges(t *testing.T) {
	_, cfg := newKafka(t)
	control := start(t, cfg, app.NewDefaultConfig())
	require.NoError(t, control.app.Stop(t.Context()))
	_, err := control.ApplyDefinitions(t.Context(), &controlv1.ApplyDefinitionsRequest{Definitions: demoBank(t)})
	require.Equal(t, codes.Unavailable, status.Code(err))
}

func TestConfigIsChecked(t *testing.T) {
	_, err := app.New(app.Config{}, app.Deps{})
	require.Error(t, err)
	for _, field := range []string{"control.change_timeout", "control.max_per_request", "control.max_per_tenant", "Definitions"} {
		require.ErrorContains(t, err, field)
	}
	require.NoError(t, app.NewDefaultConfig().Validate())
}
