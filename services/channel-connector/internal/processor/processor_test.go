package processor_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/outcome"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/processor"
)

var start = time.UnixMilli(1_772_366_400_000)

func newDriver(t *testing.T) *stream.Driver {
	t.Helper()
	d, err := stream.NewDriver(stream.DriverConfig{Start: start, Partitions: 2}, processor.Topology())
	require.NoError(t, err)
	return d
}

func report(t *testing.T, d *stream.Driver, kind deliveryv1.OutcomeType, machine bool) {
	t.Helper()
	send := &deliveryv1.Send{SendId: "s1", Tenant: "demo", ProfileId: "p1", Channel: "email"}
	o := outcome.Of(send, kind, d.Now())
	o.Machine = machine
	o.OutcomeId = outcome.ID(o)
	raw, err := o.MarshalVT()
	require.NoError(t, err)
	require.NoError(t, d.Send(topics.Reports, topics.Key("demo", "p1"), raw))
}

func TestReportsBecomeOutcomesOnce(t *testing.T) {
	d := newDriver(t)
	for range 3 {
		report(t, d, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, false)
		report(t, d, deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED, false)
		report(t, d, deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED, true)
	}
	require.Len(t, d.Output(topics.Outcomes), 3, "what a machine did is an outcome of its own")
	require.Len(t, d.Output(topics.Events), 2, "and no event")
	require.Equal(t, "demo/profile_id:p1", string(d.Output(topics.Events)[0].Key))
}

func TestIdsAreForgottenInTheEnd(t *testing.T) {
	d := newDriver(t)
	report(t, d, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, false)
	require.NoError(t, d.Advance(start.Add(processor.Remember)))
	_, known := d.State("outcomes", topics.Key("demo", "p1"), "seen/s1:delivered")
	require.False(t, known)
}

func TestAnUnreadableReportIsADeadLetter(t *testing.T) {
	d := newDriver(t)
	require.NoError(t, d.Send(topics.Reports, topics.Key("demo", "p1"), []byte{0xff}))
	require.Len(t, d.DeadLetters(), 1)
	report(t, d, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, false)
	require.Len(t, d.Output(topics.Outcomes), 1)
}
