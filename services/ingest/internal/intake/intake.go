package intake

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/ingest/internal/door"
	"github.com/sillage-cdp/sillage/services/ingest/internal/enrich"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// Writer gets batches to Kafka. Write returns nil only once Kafka has all of a batch.
type Writer interface {
	Write(ctx context.Context, batch *producer.Batch) error
}

// RateLimit is token buckets, in requests and in events. A rate of 0 turns its bucket off; a burst of 0 is
// what a second brings.
type RateLimit struct {
	RequestsPerSecond float64
	Burst             int
	EventsPerSecond   float64
	EventBurst        int
}

// Limits hold where definitions say nothing else.
type Limits struct {
	// Source and Tenant are for each source and each tenant.
	Source, Tenant RateLimit
	// IdentityEventsPerSecond bounds each identity; 0 turns it off.
	IdentityEventsPerSecond float64
	// EventNames is how many distinct names of events a source may use.
	EventNames int
}

// Config bounds what is taken in.
type Config struct {
	// MaxInFlightBytes bounds the bodies and encoded events of all calls together.
	MaxInFlightBytes int64
	// Limits are the defaults of definitions.
	Limits Limits
}

// Deps are what an intake works with.
type Deps struct {
	Definitions definition.Provider
	// Places tells where addresses are; nil tells nothing.
	Places    enrich.Locator
	Writer    Writer
	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry telemetry.Providers
}

// Intake takes events in. It is safe for concurrent use.
type Intake struct {
	writer     Writer
	clock      clock.Clock
	logger     *slog.Logger
	tracer     trace.Tracer
	sources    *sources
	door       *door.Door
	metrics    *metrics
	violations metric.Int64Counter
	budget     *Budget
	decoders   sync.Pool
	entropy    *entropy

	mu       sync.Mutex // guards inFlight, draining, idle
	inFlight int
	draining bool
	idle     chan struct{}
}

// New returns an intake that takes calls.
func New(cfg Config, deps Deps) (*Intake, error) {
	in := &Intake{
		writer: deps.Writer, clock: deps.Clock, logger: deps.Logger,
		tracer:  deps.Telemetry.Tracer.Tracer("github.com/sillage-cdp/sillage/services/ingest"),
		sources: newSources(deps.Definitions, cfg.Limits, deps.Clock, deps.Logger),
		door:    door.New(deps.Places),
		budget:  &Budget{limit: cfg.MaxInFlightBytes},
		entropy: &entropy{from: rand.Reader},
		idle:    make(chan struct{}),
	}
	var errs [2]error
	in.metrics, errs[0] = newMetrics(deps.Telemetry.Meter, in.budget)
	in.violations, errs[1] = newViolations(deps.Telemetry.Meter)
	return in, errors.Join(errs[:]...)
}

// Budget is what bodies share with events.
func (in *Intake) Budget() *Budget { return in.budget }

// SourceOf is the source of a write key, nil if there is none.
func (in *Intake) SourceOf(key string) *Source { return in.sources.byKey(key) }

// Denied counts a request without a usable write key, by its reason.
func (in *Intake) Denied(ctx context.Context, reason Denial) {
	in.metrics.unauthorized(ctx, string(reason))
}

// From is who calls and how.
type From struct {
	// Address is the caller's, blank if unknown.
	Address string
	// UserAgent is the caller's own.
	UserAgent string
	// Origin is the site of the page that calls, blank for a caller that is no browser.
	Origin string
	// Server is true if the caller says that it is a server, whatever its source is.
	Server bool
}

// Begin begins a call; false once the intake drains. The call must be ended.
func (in *Intake) Begin(ctx context.Context, kind wire.Call, from From) (*Call, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.draining {
		return nil, false
	}
	in.inFlight++
	return &Call{in: in, ctx: ctx, kind: kind, from: from, now: in.clock.Now()}, true
}

func (in *Intake) leave() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.inFlight--
	if in.draining && in.inFlight == 0 {
		close(in.idle)
	}
}

// Draining is true once Drain was called.
func (in *Intake) Draining() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.draining
}

// Drain refuses new calls and waits until those in flight are ended, within ctx.
func (in *Intake) Drain(ctx context.Context) error {
	in.mu.Lock()
	if !in.draining {
		in.draining = true
		if in.inFlight == 0 {
			close(in.idle)
		}
	}
	in.mu.Unlock()
	select {
	case <-in.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
