// Package dispatch takes sends from Kafka, brings each to its outcome and reports it.
//
// A send's offset is committed only when it and all before it in its partition have been reported, so
// that none is missed. What was reported is read back from the reports themselves by whoever gets the
// partition next, so that a partition that changes hands, and even a group that lost its offsets,
// delivers nothing again. What was delivered and not yet reported when the process died stands in the
// journal on its disk. The one moment that nothing can decide, an attempt without an answer, is the
// channel's choice: try again under the same idempotency key, or give up as unknown. Reports are written
// at least once; the stage `outcomes` makes that once.
//
// Lanes keep tenants' channels apart: what a channel cannot take now waits in Kafka, not in memory, and
// what is behind it goes on. TestKilledDispatcher, TestAPartitionThatMovesIsNotDeliveredAgain and
// TestOneLaneDoesNotStopOthers would catch the loss of any of this.
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

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
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
	// Outstanding bounds the sends of one partition that are held in memory.
	Outstanding int
	// Span bounds how many sends of one partition are followed beyond the first that is not done, in
	// memory by 24 bytes each. Default 262,144.
	Span int
	// SessionTimeout is when Kafka gives the partitions of an instance that is gone to others. Default 10s.
	SessionTimeout time.Duration
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
	outcomesN   metric.Int64Counter
	putOffN     metric.Int64Counter
	lanes       *lanes

	journal *journal.Journal
	client  *kgo.Client
	running atomic.Pointer[kgo.Client] // the client, for calls from other goroutines; nil when stopped
	cancel  context.CancelFunc
	loop    sync.WaitGroup
	failed  chan error

	commits    sync.Mutex // held while a commit is made
	mu         sync.Mutex // guards partitions; never held while a delivery is waited for
	partitions map[int32]*partition
}

// New returns a dispatcher that is not started.
func New(cfg Config, deps Deps) (*Dispatcher, error) {
	if cfg.Outstanding <= 0 {
		return nil, fmt.Errorf("outstanding: %d is not positive", cfg.Outstanding)
	}
	if cfg.Span <= 0 {
		cfg.Span = 1 << 18
	}
	if cfg.SessionTimeout <= 0 {
		cfg.SessionTimeout = 10 * time.Second
	}
	d := &Dispatcher{
		cfg: cfg, definitions: deps.Definitions, renderer: deps.Renderer, clock: deps.Clock, logger: deps.Logger,
		tracer: deps.Telemetry.Tracer.Tracer("channel-connector"), propagator: deps.Telemetry,
		lanes: newLanes(cfg.Outbox), failed: make(chan error, 1), partitions: map[int32]*partition{},
	}
	return d, d.makeCounters(deps.Telemetry.Meter.Meter("channel-connector"))
}

func (d *Dispatcher) makeCounters(meter metric.Meter) error {
	for _, c := range []struct {
		counter           *metric.Int64Counter
		name, unit, about string
	}{
		{&d.attemptsN, "sillage.channel.attempts", "{attempt}", "Delivery attempts by result."},
		{&d.outcomesN, "sillage.channel.outcomes", "{send}", "Sends that came to an end, by outcome and reason."},
		{&d.putOffN, "sillage.channel.put_off", "{send}", "Sends that had to wait in Kafka because their channel took no more."},
	} {
		made, err := meter.Int64Counter(c.name, metric.WithUnit(c.unit), metric.WithDescription(c.about))
		if err != nil {
			return fmt.Errorf("making a counter: %w", err)
		}
		*c.counter = made
	}
	return nil
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
		// Only what was reported is committed, in order, by our own hand: see watermark.
		kgo.DisableAutoCommit(),
		// No partition changes hands between a poll and the start of its deliveries.
		kgo.BlockRebalanceOnPoll(),
		// A revoked partition waits for attempts under way, each bounded by its channel's time-out.
		kgo.RebalanceTimeout(2*maxAttempt),
		kgo.SessionTimeout(d.cfg.SessionTimeout),
		kgo.HeartbeatInterval(d.cfg.SessionTimeout/4),
		kgo.OnOffsetsFetched(d.takeOver),
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
	d.loop.Go(func() { d.commitEvery(ctx, time.Second) })
	return nil
}

// Stop lets the attempts under way end, which takes at most the time-out of an attempt whatever ctx says,
// commits what was reported and leaves the group.
func (d *Dispatcher) Stop(ctx context.Context) error {
	if d.client == nil {
		return d.closeJournal()
	}
	d.running.Store(nil)
	d.cancel()
	d.loop.Wait()
	var numbers []int32
	for _, p := range d.owned() {
		numbers = append(numbers, p.number)
	}
	err := d.commit(ctx, d.client, d.release(d.client, numbers))
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
	client := d.running.Load()
	if client == nil {
		return ErrStopped
	}
	_, err := d.report(ctx, client, o)
	return err
}
