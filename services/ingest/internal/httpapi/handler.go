package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// Config tunes the handler.
type Config struct {
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

// Handler serves the tracking API. It is safe for concurrent use.
type Handler struct {
	cfg      Config
	intake   *intake.Intake
	tracing  tracing
	metrics  *metrics
	reader   reader
	routes   map[string]route
	constant constantHeaders
	pages    http.Handler

	scriptName *regexp.Regexp
}

// New returns a handler in front of an intake.
func New(cfg Config, in *intake.Intake, tel telemetry.Providers) (*Handler, error) {
	h := &Handler{
		cfg: cfg, intake: in,
		tracing: newTracing(tel.Tracer.Tracer("github.com/sillage-cdp/sillage/services/ingest"), tel.Propagator),
		reader:  reader{budget: in.Budget()},
		routes:  newRoutes(), constant: newConstantHeaders(), scriptName: newScriptName(),
	}
	var err error
	if h.metrics, err = newMetrics(tel.Meter, h.routes); err != nil {
		return nil, err
	}
	h.pages = otelhttp.NewHandler(http.HandlerFunc(h.page), "ingest",
		otelhttp.WithTracerProvider(tel.Tracer),
		otelhttp.WithMeterProvider(tel.Meter),
		otelhttp.WithPropagators(tel.Propagator),
	)
	return h, nil
}

// answerTo takes events in and says what came of it.
func (h *Handler) answerTo(r *http.Request, to route) answer {
	begun := time.Now()
	ctx, span := h.tracing.begin(r, to.path)
	a := h.request(ctx, r, to)
	h.tracing.end(span, a.status)
	h.metrics.request(ctx, to, a.status, time.Since(begun))
	return a
}

func (h *Handler) request(ctx context.Context, r *http.Request, to route) answer {
	call, ok := h.intake.Begin(ctx, to.call, intake.From{
		Address: clientIP(r, h.cfg.TrustedProxies), UserAgent: r.UserAgent(), Origin: r.Header.Get("Origin"), Server: to.server,
	})
	if !ok {
		return h.answer(r, intake.Stopping())
	}
	q := &request{Handler: h, ctx: ctx, http: r, to: to, call: call}
	defer q.release()
	return h.answer(r, q.handle())
}

// request is one call on its way.
type request struct {
	*Handler
	ctx  context.Context // with the request's span
	http *http.Request
	to   route
	call *intake.Call
	body body
}

func (q *request) release() {
	q.reader.release(&q.body)
	q.call.End()
}

// handle takes a request through its stages; each may end it with a result.
func (q *request) handle() intake.Result {
	key, ok := q.keyAhead()
	if !ok {
		q.intake.Denied(q.ctx, intake.TwoKeys)
		return intake.Result{Kind: intake.Denied, Denial: intake.TwoKeys}
	}
	if key != "" {
		if r, ok := q.call.Authenticate(key); !ok {
			return r
		}
	}
	if r, ok := q.read(); !ok {
		return r
	}
	return q.call.Take(q.body.bytes, key)
}

// Results of bodies that could not be read. They are of HTTP alone.
const (
	bodyLate intake.Kind = -1 - iota
	bodyCutOff
)

func (q *request) read() (intake.Result, bool) {
	err := q.fill()
	var bad *wire.Problem
	switch {
	case err == nil:
		return intake.Result{}, true
	case errors.Is(err, errBusy):
		return intake.Full(), false
	case errors.As(err, &bad):
		return q.call.Refuse(bad), false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return intake.Result{Kind: bodyLate}, false
	}
	return intake.Result{Kind: bodyCutOff}, false
}

// fill gets the body: what was posted, or what the address of an image states.
func (q *request) fill() error {
	if q.to.pixel {
		return q.readPixel()
	}
	return q.reader.read(q.http, q.call.BodyLimit(), &q.body)
}
