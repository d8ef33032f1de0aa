package stream

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the instruments of one topology, all with the attribute `topology`.
type metrics struct {
	attrs       metric.MeasurementOption
	records     metric.Int64Counter
	outputs     metric.Int64Counter
	deadLetters metric.Int64Counter
	timers      metric.Int64Counter
	merges      metric.Int64Counter
	commits     metric.Int64Counter
	aborts      metric.Int64Counter
	rebuilds    metric.Int64Counter
	commitTime  metric.Float64Histogram
	batchTime   metric.Float64Histogram
	lateness    metric.Float64Histogram
	observers   metric.Registration

	mu      sync.Mutex // guards what follows; held for map accesses only
	lag     map[topicPartition]int64
	state   map[int32]int64
	restore map[int32]int64 // changelog records still to be read
}

type topicPartition struct {
	topic     string
	partition int32
}

func newMetrics(provider metric.MeterProvider, topology string) (*metrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/pkg/stream")
	m := &metrics{
		attrs: metric.WithAttributes(attribute.String("topology", topology)),
		lag:   make(map[topicPartition]int64), state: make(map[int32]int64), restore: make(map[int32]int64),
	}
	var errs []error
	counter := func(name, unit, what string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, what string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(what),
			metric.WithExplicitBucketBoundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60))
		errs = append(errs, err)
		return h
	}
	m.records = counter("sillage.stream.records", "{record}", "Input records handled, in committed transactions.")
	m.outputs = counter("sillage.stream.outputs", "{record}", "Records emitted, in committed transactions.")
	m.deadLetters = counter("sillage.stream.dead_letters", "{record}", "Records and timers that could not be handled.")
	m.timers = counter("sillage.stream.timers", "{timer}", "Timers fired.")
	m.merges = counter("sillage.stream.merges", "{merge}", "Keys merged into keys of this stage.")
	m.commits = counter("sillage.stream.commits", "{transaction}", "Transactions committed.")
	m.aborts = counter("sillage.stream.aborts", "{transaction}", "Transactions aborted.")
	m.rebuilds = counter("sillage.stream.rebuilds", "{session}", "Sessions with Kafka given up and made anew.")
	m.commitTime = seconds("sillage.stream.commit.duration", "Time from the end of work to the end of the transaction.")
	m.batchTime = seconds("sillage.stream.transaction.duration", "Time from the beginning to the end of a transaction.")
	m.lateness = seconds("sillage.stream.timer.lateness", "How late the latest timer of a batch fired, in the injected clock's time.")
	gauge := func(name, unit, what string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return g
	}
	lag := gauge("sillage.stream.lag", "{record}", "Input records not handled yet.")
	state := gauge("sillage.stream.state.size", "By", "Local state.")
	restore := gauge("sillage.stream.restore.remaining", "{record}", "Changelog records that restores still have to read.")
	var err error
	m.observers, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		o.ObserveInt64(lag, sum(m.lag), m.attrs)
		o.ObserveInt64(state, sum(m.state), m.attrs)
		o.ObserveInt64(restore, sum(m.restore), m.attrs)
		return nil
	}, lag, state, restore)
	return m, errors.Join(append(errs, err)...)
}

func sum[K comparable](values map[K]int64) (total int64) {
	for _, v := range values {
		total += v
	}
	return total
}

func (m *metrics) position(topic string, partition int32, lag int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lag[topicPartition{topic, partition}] = lag
}

func (m *metrics) restoring(p RestoreProgress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restore[p.Partition] = p.End - p.Position
}

func (m *metrics) restored(partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.restore, partition)
}

func (m *metrics) forget(partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.restore, partition)
	delete(m.state, partition)
	for tp := range m.lag {
		if tp.partition == partition {
			delete(m.lag, tp)
		}
	}
}

func (m *metrics) committed(ctx context.Context, commit, whole time.Duration) {
	m.commits.Add(ctx, 1, m.attrs)
	m.commitTime.Record(ctx, commit.Seconds(), m.attrs)
	m.batchTime.Record(ctx, whole.Seconds(), m.attrs)
}

func (m *metrics) aborted(ctx context.Context) { m.aborts.Add(ctx, 1, m.attrs) }

// batch counts what a task did in a committed transaction.
func (m *metrics) batch(ctx context.Context, t *ownedTask) {
	c := t.samples
	m.records.Add(ctx, int64(c.records), m.attrs)
	m.outputs.Add(ctx, int64(c.outputs), m.attrs)
	if c.deadLetters > 0 {
		m.deadLetters.Add(ctx, int64(c.deadLetters), m.attrs)
	}
	if c.merges > 0 {
		m.merges.Add(ctx, int64(c.merges), m.attrs)
	}
	if c.timers > 0 {
		m.timers.Add(ctx, int64(c.timers), m.attrs)
		m.lateness.Record(ctx, c.lateness.Seconds(), m.attrs)
	}
	if t.store != nil {
		size := t.store.size()
		m.mu.Lock()
		m.state[t.partition] = size
		m.mu.Unlock()
	}
}

func (m *metrics) close() error { return m.observers.Unregister() }
