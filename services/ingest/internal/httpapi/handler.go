package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/door"
	"github.com/sillage-cdp/sillage/services/ingest/internal/enrich"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
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

// Config bounds and tunes the handler.
type Config struct {
	// MaxInFlightBytes bounds the bodies and encoded events of all requests together.
	MaxInFlightBytes int64
	// Limits are the defaults of definitions.
	Limits Limits
	// TooLargeStatus413 answers 413 instead of 400 to a body that is too large; some clients then retry.
	TooLargeStatus413 bool
	// TrustedProxies may state the caller's address in X-Forwarded-For, and the service's own in
	// X-Forwarded-Proto and X-Forwarded-Host.
	TrustedProxies []netip.Prefix
	// PublicURL is the address at which browsers reach the service, without a slash at its end; blank means
	// the one that each request names.
	PublicURL string
	// ScriptsDir holds Segment's browser SDK as the operator has fetched it; blank means none is served.
	ScriptsDir string
}

// Deps are what the handler works with.
type Deps struct {
	Definitions definition.Provider
	// Places tells where addresses are; nil tells nothing.
	Places    enrich.Locator
	Writer    Writer
	Clock     clock.Clock
	Logger    *slog.Logger
	Telemetry telemetry.Providers
}

// Handler serves the tracking API. It is safe for concurrent use.
type Handler struct {
	cfg     Config
	writer  Writer
	clock   clock.Clock
	logger  *slog.Logger
	tracing tracing
	sources *sources
	// violations counts what is not as planned.
	violations metric.Int64Counter
	door       *door.Door
	metrics    *metrics
	reader     reader
	budget     *budget
	decoders   sync.Pool
	entropy    *entropy
	routes     map[string]route
	constant   constantHeaders
	pages      http.Handler

	scriptName *regexp.Regexp

	mu       sync.Mutex // guards inFlight, draining, idle
	inFlight int
	draining bool
	idle     chan struct{}
}

// New returns a handler that takes requests.
func New(cfg Config, deps Deps) (*Handler, error) {
	h := &Handler{
		cfg: cfg, writer: deps.Writer, clock: deps.Clock, logger: deps.Logger,
		tracing: newTracing(deps.Telemetry.Tracer.Tracer("github.com/sillage-cdp/sillage/services/ingest"), deps.Telemetry.Propagator),
		sources: newSources(deps.Definitions, cfg.Limits, deps.Clock, deps.Logger),
		door:    door.New(deps.Places),
		budget:  &budget{limit: cfg.MaxInFlightBytes},
		entropy: &entropy{from: rand.Reader},
		routes:  newRoutes(), constant: newConstantHeaders(), scriptName: newScriptName(),
		idle: make(chan struct{}),
	}
	h.reader.budget = h.budget
	var err error
	if h.violations, err = newViolations(deps.Telemetry.Meter); err != nil {
		return nil, err
	}
	if h.metrics, err = newMetrics(deps.Telemetry.Meter, h.budget, h.routes); err != nil {
		return nil, err
	}
	h.pages = otelhttp.NewHandler(http.HandlerFunc(h.page), "ingest",
		otelhttp.WithTracerProvider(deps.Telemetry.Tracer),
		otelhttp.WithMeterProvider(deps.Telemetry.Meter),
		otelhttp.WithPropagators(deps.Telemetry.Propagator),
	)
	return h, nil
}

// Drain refuses new requests and waits until those in flight are answered, within ctx.
func (h *Handler) Drain(ctx context.Context) error {
	h.mu.Lock()
	if !h.draining {
		h.draining = true
		if h.inFlight == 0 {
			close(h.idle)
		}
	}
	h.mu.Unlock()
	select {
	case <-h.idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return false
	}
	h.inFlight++
	return true
}

func (h *Handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inFlight--
	if h.draining && h.inFlight == 0 {
		close(h.idle)
	}
}

// answerTo takes events in and says what came of it.
func (h *Handler) answerTo(r *http.Request, to route) answer {
	if !h.enter() {
		return busy("the server is stopping", 1)
	}
	defer h.leave()
	begun := time.Now()
	ctx, span := h.tracing.begin(r, to.path)
	req := &request{Handler: h, ctx: ctx, http: r, to: to, call: to.call, now: h.clock.Now()}
	defer req.release()
	a := req.handle()
	h.tracing.end(span, a.status)
	h.metrics.request(ctx, to, a.status, time.Since(begun))
	return a
}

// request is one call on its way.
type request struct {
	*Handler
	ctx     context.Context // with the request's span
	http    *http.Request
	to      route
	call    wire.Call
	now     time.Time
	source  *source
	body    body
	extra   int64 // held of the budget for what the events take
	decoder *wire.Decoder
	batch   producer.Batch
	failure error // what could not be encoded
}

func (q *request) release() {
	q.reader.release(&q.body)
	q.budget.give(q.extra)
	if q.decoder != nil {
		q.decoder.Trim()
		q.decoders.Put(q.decoder)
	}
}

// handle takes a request through its stages; each may end it with an answer.
func (q *request) handle() answer {
	key, a, ok := q.keyAhead()
	if !ok {
		return a
	}
	if key != "" {
		if a, ok := q.authenticate(key); !ok {
			return a
		}
	}
	if a, ok := q.read(); !ok {
		return a
	}
	if a, ok := q.parse(); !ok {
		return a
	}
	if a, ok := q.checkKeys(key, q.decoder.WriteKey()); !ok {
		return a
	}
	if limit := q.source.bodyLimit(q.call); len(q.body.bytes) > limit {
		return q.refuse(tooLarge(limit))
	}
	if a, ok := q.spend(limit.Events, q.decoder.Items()); !ok {
		return a
	}
	return q.accept()
}

// authenticate finds the source of a key and lets it pass if it is enabled and within its rate.
func (q *request) authenticate(key string) (answer, bool) {
	q.source = q.sources.byKey(key)
	switch {
	case q.source == nil:
		q.metrics.unauthorized(q.ctx, "unknown_key")
		return unauthorized("invalid write key"), false
	case q.source.disabled:
		q.metrics.unauthorized(q.ctx, "disabled")
		q.source = nil
		return sourceDisabled(), false
	case !q.source.origins.allow(q.http.Header.Get("Origin")):
		q.metrics.unauthorized(q.ctx, "origin")
		q.source = nil
		return foreignOrigin(), false
	}
	return q.spend(limit.Calls, 1)
}

// spend takes calls or events from what the source and the tenant may send.
func (q *request) spend(unit limit.Unit, n int) (answer, bool) {
	wait, at := limit.Take(q.now, unit, n, q.source.quotas[:]...)
	if wait == 0 {
		return answer{}, true
	}
	q.metrics.limited(q.ctx, q.source, [...]string{"source", "tenant"}[at], unit.String())
	return tooMany(wait), false
}

// checkKeys compares the key that came ahead with that of the body; either will do, two that differ will not.
func (q *request) checkKeys(ahead, body string) (answer, bool) {
	if ahead != "" && masked(body) {
		body = ""
	}
	switch {
	case ahead != "" && body != "" && ahead != body:
		return q.twoKeys(), false
	case ahead != "":
		return answer{}, true
	case body == "":
		q.metrics.unauthorized(q.ctx, "no_key")
		return unauthorized("no write key: send it as the user name of Basic authorization, or as writeKey in the body"), false
	}
	return q.authenticate(body)
}

func (q *request) read() (answer, bool) {
	err := q.fill()
	var bad *wire.Problem
	switch {
	case err == nil:
		q.metrics.body(q.ctx, len(q.body.bytes))
		return answer{}, true
	case errors.Is(err, errBusy):
		return busy("too many requests in flight", 1), false
	case errors.As(err, &bad):
		return q.refuse(bad), false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return answer{status: http.StatusRequestTimeout, message: "the body did not arrive in time", close: true}, false
	}
	// The client went away in the middle; nobody reads this.
	return answer{status: http.StatusBadRequest, message: "the body was cut off", close: true}, false
}

// fill gets the body: what was posted, or what the address of an image states.
func (q *request) fill() error {
	if q.to.pixel {
		return q.readPixel()
	}
	return q.reader.read(q.http, q.source.bodyLimit(q.call), &q.body)
}

func (q *request) parse() (answer, bool) {
	q.decoder, _ = q.decoders.Get().(*wire.Decoder)
	if q.decoder == nil {
		q.decoder = new(wire.Decoder)
	}
	if bad := q.decoder.Parse(q.call, q.body.bytes); bad != nil {
		return q.refuse(bad), false
	}
	extra := int64(q.decoder.Expanded())
	if !q.budget.take(extra) {
		return busy("too many requests in flight", 1), false
	}
	q.extra = extra
	return answer{}, true
}

// refuse answers a request of which nothing can be taken. If its source is known the ledger says so first.
func (q *request) refuse(bad *wire.Problem) answer {
	a := answer{status: http.StatusBadRequest, message: bad.Detail, code: bad.Code}
	if bad.Code == wire.BodyTooLarge {
		a.close = true
		if q.cfg.TooLargeStatus413 {
			a.status = http.StatusRequestEntityTooLarge
		}
	}
	if q.source == nil {
		return a
	}
	if err := q.note(wire.Rejection{Problem: *bad}); err != nil {
		return q.unwritten(err)
	}
	if err := q.write(); err != nil {
		return q.unwritten(err)
	}
	q.metrics.refused(q.ctx, q.source, bad.Code)
	return a
}

// accept decodes, writes and answers.
func (q *request) accept() answer {
	var failure error
	q.batch.Reserve(q.decoder.Items())
	arrival := wire.Arrival{Now: q.now, ClientIP: clientIP(q.http, q.cfg.TrustedProxies), Server: q.to.server, Entropy: q.entropy, Admit: q.admit}
	out := q.decoder.Decode(&q.source.Source, arrival, func(ev *eventv1.Event) {
		failure = errors.Join(failure, q.batch.AddEvent(ev))
	})
	if !q.call.Many() && len(out.Rejections) > 0 && out.Rejections[0].Code == wire.IdentityTooFast {
		// Nothing is lost: the client sends it again.
		q.metrics.limited(q.ctx, q.source, "identity", limit.Events.String())
		return tooMany(time.Second)
	}
	for _, r := range out.Rejections {
		failure = errors.Join(failure, q.note(r))
	}
	failure = errors.Join(failure, q.failure)
	if failure == nil {
		failure = q.write()
	}
	if failure != nil {
		return q.unwritten(failure)
	}
	q.metrics.outcome(q.ctx, q.source, &out)
	return q.accepted(&out)
}

// admit is the door for an event of this request.
func (q *request) admit(ev *eventv1.Event) *wire.Problem {
	visit := door.Visit{Now: q.now, Import: q.call == wire.Import}
	if !q.source.ServerSide && !q.to.server {
		visit.UserAgent = q.http.UserAgent()
	}
	verdict := q.door.Admit(ev, q.source.rules, visit)
	if verdict.Violation != nil {
		q.failure = errors.Join(q.failure, q.unplanned(ev, verdict))
	}
	return verdict.Problem
}

// accepted is the answer once Kafka has everything.
func (q *request) accepted(out *wire.Outcome) answer {
	if !q.call.Many() && len(out.Rejections) > 0 && out.Rejections[0].Code != wire.Quarantined {
		bad := out.Rejections[0]
		return answer{status: http.StatusBadRequest, message: bad.Detail, code: bad.Code}
	}
	a := answer{status: http.StatusOK}
	if verbose(q.http.Header) {
		a.outcome = out
	}
	return a
}

// note adds a refusal to the batch, for the ledger.
func (q *request) note(r wire.Rejection) error {
	return q.batch.AddRefusal(&ledgerv1.LedgerEntry{
		Tenant:       q.source.Tenant,
		Source:       q.source.Name,
		Fate:         ledgerv1.Fate_FATE_REJECTED,
		Reason:       string(r.Code),
		MessageId:    r.MessageID,
		ReceivedAtMs: q.now.UnixMilli(),
		Detail:       r.Detail,
	})
}

// write sends the batch, in a span of its own if the trace is recorded.
func (q *request) write() error {
	ctx := q.ctx
	if trace.SpanFromContext(ctx).IsRecording() {
		var span trace.Span
		ctx, span = q.tracing.tracer.Start(ctx, "write to Kafka", trace.WithSpanKind(trace.SpanKindProducer))
		defer span.End()
	}
	begun := time.Now()
	err := q.writer.Write(ctx, &q.batch)
	q.metrics.write(ctx, time.Since(begun), err)
	return err
}

// unwritten is the answer when Kafka has not everything: the client is to send all of it again.
func (q *request) unwritten(err error) answer {
	if !errors.Is(err, producer.ErrUnavailable) {
		q.logger.ErrorContext(q.ctx, "writing events", slog.Any("error", err))
	}
	return busy("events cannot be written now; send them again", retryAfterUnavailable)
}

// retryAfterUnavailable is how many seconds a client is asked to wait while Kafka takes no writes.
const retryAfterUnavailable = 2
