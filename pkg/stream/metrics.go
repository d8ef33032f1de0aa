package stream

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are the instruments of one topology, all with the attribute `topology`. What a transaction did
// is counted when it has committed, so nothing is counted twice. Attributes come from small fixed sets and
// the topology's own topics: no keys, no reasons.
type metrics struct {
	topology    attribute.KeyValue
	attrs       metric.MeasurementOption
	records     metric.Int64Counter
	outputs     metric.Int64Counter
	deadLetters metric.Int64Counter
	replays     metric.Int64Counter
	timers      metric.Int64Counter
	merges      metric.Int64Counter
	commits     metric.Int64Counter
	aborts      metric.Int64Counter
	rebuilds    metric.Int64Counter
	restores    metric.Float64Histogram
	commitTime  metric.Float64Histogram
	batchTime   metric.Float64Histogram
	lateness    metric.Float64Histogram
	observers   metric.Registration
	health      *health
	lag         *lagTable

	mu      sync.Mutex // guards what follows; held for map accesses only
	tasks   map[int32]*taskGauges
	restore map[int32]int64 // changelog records still to be read
}

// taskGauges are the present values of one partition.
type taskGauges struct {
	state, timers, held int64
	active              bool
}

// bounds of the histograms in seconds. Timers may be late by days, when a stage was down.
var (
	latencyBounds  = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60}
	latenessBounds = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 86400}
	restoreBounds  = []float64{0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}
)

func newMetrics(provider metric.MeterProvider, topology string, h *health) (*metrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/pkg/stream")
	topologyAttr := attribute.String("topology", topology)
	m := &metrics{
		topology: topologyAttr, attrs: metric.WithAttributeSet(attribute.NewSet(topologyAttr)), health: h, lag: newLagTable(),
		tasks: make(map[int32]*taskGauges), restore: make(map[int32]int64),
	}
	var errs []error
	counter := func(name, unit, what string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, what string, bounds []float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(what), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	m.records = counter("sillage.stream.records", "{record}", "Input records handled, in committed transactions.")
	m.outputs = counter("sillage.stream.outputs", "{record}", "Records emitted, in committed transactions.")
	m.deadLetters = counter("sillage.stream.dead_letters", "{record}", "Records and timers that could not be handled, by class.")
	m.replays = counter("sillage.stream.replays", "{record}", "Dead letters that were put back and handled again.")
	m.timers = counter("sillage.stream.timers", "{timer}", "Timers fired.")
	m.merges = counter("sillage.stream.merges", "{merge}", "Keys merged into keys of this stage.")
	m.commits = counter("sillage.stream.commits", "{transaction}", "Transactions committed.")
	m.aborts = counter("sillage.stream.aborts", "{transaction}", "Transactions aborted, by cause; their records are handled again.")
	m.rebuilds = counter("sillage.stream.rebuilds", "{session}", "Sessions with Kafka given up and made anew, by cause.")
	m.restores = seconds("sillage.stream.restore.duration", "Time to bring the state of a partition up to its changelog.", restoreBounds)
	m.commitTime = seconds("sillage.stream.commit.duration", "Time from the end of work to the end of the transaction.", latencyBounds)
	m.batchTime = seconds("sillage.stream.transaction.duration", "Time from the beginning to the end of a transaction.", latencyBounds)
	m.lateness = seconds("sillage.stream.timer.lateness", "How late each timer fired, in the injected clock's time.", latenessBounds)
	return m, errors.Join(append(errs, m.observe(meter))...)
}

// observe registers the gauges, which are read when somebody asks.
func (m *metrics) observe(meter metric.Meter) error {
	var errs []error
	var all []metric.Observable
	count := func(name, unit, what string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	seconds := func(name, what string) metric.Float64ObservableGauge {
		g, err := meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(what))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	lag := count("sillage.stream.lag", "{record}", "Committed input records that this instance owns and has not handled, by topic.")
	state := count("sillage.stream.state.size", "By", "Local state.")
	restore := count("sillage.stream.restore.remaining", "{record}", "Changelog records that restores still have to read.")
	tasks := count("sillage.stream.tasks", "{partition}", "Partitions that this instance owns, by state: active or restoring.")
	timers := count("sillage.stream.timer.pending", "{timer}", "Timers that are set.")
	held := count("sillage.stream.merge.held", "{record}", "Records that wait for the announced state of another key.")
	stalled := seconds("sillage.stream.stalled", "How long the work in hand has been tried without a commit; 0 if there is none.")
	age := seconds("sillage.stream.commit.age", "Time since the last commit; an idle stage does not commit.")
	var err error
	m.observers, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for topic, n := range m.lag.byTopic() {
			o.ObserveInt64(lag, n, metric.WithAttributes(m.topology, attribute.String("topic", topic)))
		}
		total, active, restoring := m.gauges()
		o.ObserveInt64(state, total.state, m.attrs)
		o.ObserveInt64(timers, total.timers, m.attrs)
		o.ObserveInt64(held, total.held, m.attrs)
		o.ObserveInt64(restore, restoring.left, m.attrs)
		o.ObserveInt64(tasks, active, metric.WithAttributes(m.topology, attribute.String("state", "active")))
		o.ObserveInt64(tasks, restoring.tasks, metric.WithAttributes(m.topology, attribute.String("state", "restoring")))
		lasting, _ := m.health.stalled()
		o.ObserveFloat64(stalled, lasting.Seconds(), m.attrs)
		if idle, ok := m.health.idle(); ok {
			o.ObserveFloat64(age, idle.Seconds(), m.attrs)
		}
		return nil
	}, all...)
	return errors.Join(append(errs, err)...)
}

// restoring is what is being restored now.
type restoring struct{ tasks, left int64 }

func (m *metrics) gauges() (total taskGauges, active int64, r restoring) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tasks {
		total.state += t.state
		total.timers += t.timers
		total.held += t.held
		if t.active {
			active++
		} else {
			r.tasks++
		}
	}
	for _, left := range m.restore {
		r.left += left
	}
	return total, active, r
}

// progress notes how far a restore has come.
func (m *metrics) progress(p RestoreProgress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restore[p.Partition] = p.End - p.Position
}

// suspended notes a partition that is owned and whose state is being restored.
func (m *metrics) suspended(partition int32) {
	m.lag.own(partition)
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[partition]
	if t == nil {
		t = &taskGauges{}
		m.tasks[partition] = t
	}
	t.active = false
}

// resumed notes a partition that is at work: its state is there, and its inputs go on at offsets.
func (m *metrics) resumed(t *ownedTask) {
	for topic, offset := range t.offsets {
		m.lag.handled(topic, t.partition, offset.Offset)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.restore, t.partition)
	m.tasks[t.partition] = &taskGauges{active: true, state: t.store.size(), timers: t.pending.timers, held: t.pending.held}
}

// forget drops what is known of a partition that is not this instance's any more.
func (m *metrics) forget(partition int32) {
	m.lag.disown(partition)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.restore, partition)
	delete(m.tasks, partition)
}

func (m *metrics) committed(ctx context.Context, commit, whole time.Duration) {
	m.health.commit()
	m.commits.Add(ctx, 1, m.attrs)
	m.commitTime.Record(ctx, commit.Seconds(), m.attrs)
	m.batchTime.Record(ctx, whole.Seconds(), m.attrs)
}

// aborted counts a transaction that was rolled back because of err.
func (m *metrics) aborted(ctx context.Context, err error) {
	m.health.fail(ctx, err)
	m.aborts.Add(ctx, 1, m.because(err))
}

func (m *metrics) because(err error) metric.MeasurementOption {
	return metric.WithAttributes(m.topology, attribute.String("cause", string(causeOf(err))))
}

// rebuilt counts a session that was given up because of err.
func (m *metrics) rebuilt(ctx context.Context, err error) {
	m.health.fail(ctx, err)
	m.rebuilds.Add(ctx, 1, m.because(err))
}

// batch counts what a task did in a committed transaction.
func (m *metrics) batch(ctx context.Context, t *ownedTask) {
	c := t.samples
	add := func(counter metric.Int64Counter, n int) {
		if n > 0 {
			counter.Add(ctx, int64(n), m.attrs)
		}
	}
	add(m.records, c.records)
	add(m.outputs, c.outputs)
	add(m.merges, c.merges)
	add(m.timers, c.timers)
	add(m.replays, c.replays)
	for class, n := range c.deadLetters {
		if n > 0 {
			m.deadLetters.Add(ctx, int64(n), metric.WithAttributes(m.topology, attribute.String("class", string(allClasses[class]))))
		}
	}
	for _, late := range c.lateness {
		m.lateness.Record(ctx, late.Seconds(), m.attrs)
	}
	for topic, offset := range t.offsets {
		m.lag.handled(topic, t.partition, offset.Offset)
	}
	if t.store == nil {
		return
	}
	size := t.store.size()
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.tasks[t.partition]; g != nil {
		g.state, g.timers, g.held = size, t.pending.timers, t.pending.held
	}
}

func (m *metrics) close() error { return m.observers.Unregister() }
