package stream

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// stateMetrics are the instruments of local state, beside those of [metrics]. All have the attribute
// `topology`.
type stateMetrics struct {
	topology attribute.KeyValue
	failures metric.Int64Counter
	removed  metric.Int64Counter
	observer metric.Registration
}

func newStateMetrics(provider metric.MeterProvider, topology string, lags *standbyLags, ready *readiness) (*stateMetrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/pkg/stream")
	m := &stateMetrics{topology: attribute.String("topology", topology)}
	attrs := metric.WithAttributes(m.topology)
	var errs [6]error
	m.failures, errs[0] = meter.Int64Counter("sillage.stream.state.failures", metric.WithUnit("{failure}"),
		metric.WithDescription("Times that local state was given up, by reason: damage (it is rebuilt), disk (it is tried again), other."))
	m.removed, errs[1] = meter.Int64Counter("sillage.stream.state.removed", metric.WithUnit("{partition}"),
		metric.WithDescription("Local state removed because its partition stayed away."))
	lag, err := meter.Int64ObservableGauge("sillage.stream.standby.lag", metric.WithUnit("{record}"),
		metric.WithDescription("Changelog records that the standby copies of this instance have not read."))
	errs[2] = err
	copies, err := meter.Int64ObservableGauge("sillage.stream.standby.partitions", metric.WithUnit("{partition}"),
		metric.WithDescription("Partitions of others that this instance keeps a copy of."))
	errs[3] = err
	still, err := meter.Int64ObservableGauge("sillage.stream.state.blocked", metric.WithUnit("{partition}"),
		metric.WithDescription("Partitions that stand still because their state cannot be read, written or understood; Ready says why."))
	errs[4] = err
	m.observer, errs[5] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		behind, n := lags.total()
		o.ObserveInt64(lag, behind, attrs)
		o.ObserveInt64(copies, n, attrs)
		o.ObserveInt64(still, ready.blocked(), attrs)
		return nil
	}, lag, copies, still)
	return m, errors.Join(errs[:]...)
}

// failed counts why a store was given up.
func (m *stateMetrics) failed(err error) {
	reason := "other"
	switch {
	case errors.Is(err, errDisk):
		reason = "disk"
	case errors.Is(err, errCorrupt):
		reason = "damage"
	case errors.Is(err, errNewer):
		reason = "version"
	}
	m.failures.Add(context.Background(), 1, metric.WithAttributes(m.topology, attribute.String("reason", reason)))
}

func (m *stateMetrics) close() error { return m.observer.Unregister() }
