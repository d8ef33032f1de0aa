package meter_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/meter"
)

// TestLabels: counters have bounded labels only, never a name that a tenant gave or a person's data.
func TestLabels(t *testing.T) {
	reader := sdk.NewManualReader()
	m, err := meter.New(sdk.NewMeterProvider(sdk.WithReader(reader)))
	require.NoError(t, err)
	m.Decided(&engine.Effects{
		Sends: []*deliveryv1.Send{
			{Tenant: "bank", ProfileId: "ada", Decision: deliveryv1.Decision_DECISION_HELD, Reason: "cap:month"},
			{Tenant: "bank", ProfileId: "bob", Decision: deliveryv1.Decision_DECISION_HELD, Reason: "cap:week"},
		},
		Steps: []*journeyv1.JourneyStep{{Tenant: "bank", ProfileId: "ada", Action: journeyv1.StepAction_STEP_ACTION_TIMED_OUT}},
	})
	var out metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &out))
	got := map[string]int64{}
	for _, scope := range out.ScopeMetrics {
		for _, metric := range scope.Metrics {
			for _, point := range metric.Data.(metricdata.Sum[int64]).DataPoints {
				got[metric.Name+" "+labels(point.Attributes)] += point.Value
			}
		}
	}
	require.Equal(t, map[string]int64{
		"sillage.journey_orchestrator.sends decision=held reason=cap": 2,
		"sillage.journey_orchestrator.steps action=timed_out":         1,
	}, got)
}

func labels(set attribute.Set) string {
	var out []string
	for _, kv := range set.ToSlice() {
		out = append(out, string(kv.Key)+"="+kv.Value.AsString())
	}
	return strings.Join(out, " ")
}
