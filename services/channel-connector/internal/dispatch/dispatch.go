// Package dispatch takes sends from Kafka, brings each to its outcome and reports it.
//
// A send's offset is committed only when it and all before it in its partition have been reported, so
// that none is missed; what had been delivered before a crash stands in the journal, so that none is
// delivered again. The one moment that nothing can decide, an attempt without an answer, is the
// channel's choice: try again under the same idempotency key, or give up as unknown. Reports are written
// at least once; the stage `outcomes` makes that once. TestKilledDispatcher in this package and the
// crash scenario of tests/e2e would catch the loss of any of this.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/journal"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/render"
)

// Group is the consumer group.
const Group = "sillage.channel-connector"

// Config is what a dispatcher is told.
type Config struct {
	Kafka kafka.Config
	// JournalDir is where the journal lives.
	JournalDir string
	// Outbox is the SMTP address for channels that name none.
	Outbox string
	// Outstanding bounds the sends of one partition that are on their way.
	Outstanding int
}

// Deps is what a dispatcher is given.
type Deps struct {
	Definitions definition.Provider
	Renderer    *render.Renderer
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
}

// Dispatcher delivers sends.
type Dispatcher struct {
	cfg         Config
	definitions definition.Provider
	renderer    *render.Renderer
	clock       clock.Clock
	logger      *slog.Logger
	tracer      trace.Tracer
	propagator  telemetry.Providers
	attemptsN   metric.Int64Counter
	lanes       *lanes

	journal *journal.Journal
	client  *kgo.Client
	running atomic.Pointer[kgo.Client] // the client, for calls from other goroutines; nil when stopped
	cancel  context.CancelFunc
	loop    sync.WaitGroup
	failed  chan error

	mu         sync.Mutex // guards partitions; never held while a delivery is waited for
	partitions map[int32]*partition
}

// New returns a dispatcher that is not started.
func New(cfg Config, deps Deps) (*Dispatcher, error) {
	if cfg.Outstanding <= 0 {
		return nil, fmt.Errorf("outstanding: %d is not positive", cfg.Outstanding)
	}
	attempts, err := deps.Telemetry.Meter.Meter("channel-connector").Int64Counter("sillage.channel.attempts",
		metric.WithUnit("{attempt}"), metric.WithDescription("Delivery attempts by result."))
	if err != nil {
		return nil, fmt.Errorf("making a counter: %w", err)
	}
	return &Dispatcher{
		cfg: cfg, definitions: deps.Definitions, renderer: deps.Renderer, clock: deps.Clock, logger: deps.Logger,
		tracer: deps.Telemetry.Tracer.Tracer("channel-connector"), propagator: deps.Telemetry, attemptsN: attempts,
		lanes: newLanes(cfg.Outbox), failed: make(chan error, 1), partitions: map[int32]*partition{},
	}, nil
}

// Start opens the journal and begins to consume.
func (d *Dispatcher) Start(context.Context) error {
	var err error
	if d.journal, err = journal.Open(d.cfg.JournalDir); err != nil {
		return err
	}
	d.client, err = kgo.NewClient(append(d.cfg.Kafka.ProducerOptions(d.logger),
		kgo.ConsumerGroup(Group),
		kgo.ConsumeTopics(topics.Sends),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Only what was reported is committed, in order: see watermark.
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(time.Second),
		// No partition changes hands between a poll and the start of its deliveries.
		kgo.BlockRebalanceOnPoll(),
		// A revoked partition waits for attempts under way, each bounded by its channel's time-out.
		kgo.RebalanceTimeout(time.Minute),
		kgo.OnPartitionsRevoked(d.revoked),
		kgo.OnPartitionsLost(d.lost),
	)...)
	if err != nil {
		return errors.Join(fmt.Errorf("configuring the Kafka client: %w", err), d.closeJournal())
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.running.Store(d.client)
	d.loop.Go(func() { d.consume(ctx) })
	return nil
}

// Stop lets the attempts under way end, commits what was reported and leaves the group.
func (d *Dispatcher) Stop(ctx context.Context) error {
	if d.client == nil {
		return d.closeJournal()
	}
	d.running.Store(nil)
	d.cancel()
	d.loop.Wait()
	d.release(d.all())
	err := d.client.CommitMarkedOffsets(ctx)
	d.client.CloseAllowingRebalance()
	d.client = nil
	return errors.Join(err, d.closeJournal())
}

func (d *Dispatcher) closeJournal() error {
	if d.journal == nil {
		return nil
	}
	err := d.journal.Close()
	d.journal = nil
	return err
}

// Ready is nil: deliveries go on as soon as the group gives partitions.
func (d *Dispatcher) Ready(context.Context) error { return nil }

// Failed tells of a journal that cannot be written any more.
func (d *Dispatcher) Failed() <-chan error { return d.failed }

func (d *Dispatcher) count(ctx context.Context, j job, err error) {
	result := "delivered"
	if err != nil {
		result = delivery.AsFailure(err).Reason
	}
	d.attemptsN.Add(ctx, 1, metric.WithAttributes(
		attribute.String("tenant", j.send.GetTenant()), attribute.String("channel", j.send.GetChannel()), attribute.String("result", result)))
}

// ErrStopped says that the dispatcher is not running.
var ErrStopped = errors.New("the dispatcher is not running")

// Report writes an outcome that came by another way (a pixel, a link) and waits until Kafka has it.
func (d *Dispatcher) Report(ctx context.Context, o *deliveryv1.Outcome) error {
	if d.running.Load() == nil {
		return ErrStopped
	}
	return d.report(ctx, o)
}
