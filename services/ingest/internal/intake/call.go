package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/door"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// Call is one call on its way: Authenticate with the key that came ahead of the body, if any, then Take the
// body, then End. One goroutine uses it.
type Call struct {
	in      *Intake
	ctx     context.Context //nolint:containedctx // a call is as long as its request
	kind    wire.Call
	from    From
	now     time.Time
	source  *Source
	extra   int64 // held of the budget for what the events take
	decoder *wire.Decoder
	batch   producer.Batch
	failure error // of writing down what is not as planned
}

// End gives back what the call holds.
func (c *Call) End() {
	c.in.budget.Give(c.extra)
	if c.decoder != nil {
		c.decoder.Trim()
		c.in.decoders.Put(c.decoder)
	}
	c.in.leave()
}

// BodyLimit is the largest body in bytes that the call may have, as far as its source is known.
func (c *Call) BodyLimit() int { return c.source.bodyLimit(c.kind) }

// Authenticate finds the source of a key and lets the call pass if it is enabled and within its rate;
// false with the result if it does not.
func (c *Call) Authenticate(key string) (Result, bool) {
	c.source = c.in.sources.byKey(key)
	switch {
	case c.source == nil:
		return c.deny(UnknownKey), false
	case c.source.disabled:
		return c.deny(Disabled), false
	case !c.source.origins.allow(c.from.Origin):
		return c.deny(ForeignOrigin), false
	}
	return c.spend(limit.Calls, 1)
}

func (c *Call) deny(reason Denial) Result {
	c.in.Denied(c.ctx, reason)
	c.source = nil
	return Result{Kind: Denied, Denial: reason}
}

// spend takes calls or events from what the source and the tenant may send.
func (c *Call) spend(unit limit.Unit, n int) (Result, bool) {
	wait, at := limit.Take(c.now, unit, n, c.source.quotas[:]...)
	if wait == 0 {
		return Result{}, true
	}
	c.in.metrics.limited(c.ctx, c.source, [...]string{"source", "tenant"}[at], unit.String())
	return Result{Kind: TooFast, Wait: wait}, false
}

// Take takes the body in. ahead is the key that the call was authenticated with, blank if there was none:
// then the body names it. The body must stay as it is until the call ends.
func (c *Call) Take(body []byte, ahead string) Result {
	c.in.metrics.body(c.ctx, len(body))
	if r, ok := c.parse(body); !ok {
		return r
	}
	if r, ok := c.checkKeys(ahead, c.decoder.WriteKey()); !ok {
		return r
	}
	if most := c.BodyLimit(); len(body) > most {
		return c.Refuse(TooLarge(most))
	}
	if r, ok := c.spend(limit.Events, c.decoder.Items()); !ok {
		return r
	}
	return c.accept()
}

// TooLarge is the problem of a body of more than so many bytes.
func TooLarge(most int) *wire.Problem {
	return &wire.Problem{Code: wire.BodyTooLarge, Detail: fmt.Sprintf("the body has more than the %d bytes that the source may send at once", most)}
}

func (c *Call) parse(body []byte) (Result, bool) {
	c.decoder, _ = c.in.decoders.Get().(*wire.Decoder)
	if c.decoder == nil {
		c.decoder = new(wire.Decoder)
	}
	if bad := c.decoder.Parse(c.kind, body); bad != nil {
		return c.Refuse(bad), false
	}
	extra := int64(c.decoder.Expanded())
	if !c.in.budget.Take(extra) {
		return Full(), false
	}
	c.extra = extra
	return Result{}, true
}

// checkKeys compares the key that came ahead with that of the body; either will do, two that differ will not.
func (c *Call) checkKeys(ahead, body string) (Result, bool) {
	if ahead != "" && masked(body) {
		body = ""
	}
	switch {
	case ahead != "" && body != "" && ahead != body:
		return c.deny(TwoKeys), false
	case ahead != "":
		return Result{}, true
	case body == "":
		return c.deny(NoKey), false
	}
	return c.Authenticate(body)
}

// masked is true for a key in a body of which Jitsu's client shows no more than the id, having sent the
// whole in X-Write-Key.
func masked(key string) bool { return key == "***" || strings.HasSuffix(key, ":***") }

// Refuse ends a call of which nothing can be taken. If its source is known the ledger says so first.
func (c *Call) Refuse(bad *wire.Problem) Result {
	refused := Result{Kind: Refused, Problem: *bad}
	if c.source == nil {
		return refused
	}
	if err := errors.Join(c.note(wire.Rejection{Problem: *bad}), c.write()); err != nil {
		return c.unwritten(err)
	}
	c.in.metrics.refused(c.ctx, c.source, bad.Code)
	return refused
}

// accept decodes, writes and says what came of it.
func (c *Call) accept() Result {
	var failure error
	c.batch.Reserve(c.decoder.Items())
	arrival := wire.Arrival{Now: c.now, ClientIP: c.from.Address, Server: c.from.Server, Entropy: c.in.entropy, Admit: c.admit}
	out := c.decoder.Decode(&c.source.Source, arrival, func(ev *eventv1.Event) {
		failure = errors.Join(failure, c.batch.AddEvent(ev))
	})
	if !c.kind.Many() && len(out.Rejections) > 0 && out.Rejections[0].Code == wire.IdentityTooFast {
		// Nothing is lost: the client sends it again.
		c.in.metrics.limited(c.ctx, c.source, "identity", limit.Events.String())
		return Result{Kind: TooFast, Wait: time.Second}
	}
	for _, r := range out.Rejections {
		failure = errors.Join(failure, c.note(r))
	}
	if failure = errors.Join(failure, c.failure); failure == nil {
		failure = c.write()
	}
	if failure != nil {
		return c.unwritten(failure)
	}
	c.in.metrics.outcome(c.ctx, c.source, &out)
	if !c.kind.Many() && len(out.Rejections) > 0 && out.Rejections[0].Code != wire.Quarantined {
		return Result{Kind: Refused, Problem: out.Rejections[0].Problem}
	}
	return Result{Kind: Taken, Outcome: &out}
}

// admit is the door for an event of this call.
func (c *Call) admit(ev *eventv1.Event) *wire.Problem {
	visit := door.Visit{Now: c.now, Import: c.kind == wire.Import}
	if !c.source.ServerSide && !c.from.Server {
		visit.UserAgent = c.from.UserAgent
	}
	verdict := c.in.door.Admit(ev, c.source.rules, visit)
	if verdict.Violation != nil {
		c.failure = errors.Join(c.failure, c.unplanned(ev, verdict))
	}
	return verdict.Problem
}

// note adds a refusal to the batch, for the ledger.
func (c *Call) note(r wire.Rejection) error {
	return c.batch.AddRefusal(&ledgerv1.LedgerEntry{
		Tenant:       c.source.Tenant,
		Source:       c.source.Name,
		Fate:         ledgerv1.Fate_FATE_REJECTED,
		Reason:       string(r.Code),
		MessageId:    r.MessageID,
		ReceivedAtMs: c.now.UnixMilli(),
		Detail:       r.Detail,
	})
}

// write sends the batch, in a span of its own if the trace is recorded.
func (c *Call) write() error {
	ctx := c.ctx
	if trace.SpanFromContext(ctx).IsRecording() {
		var span trace.Span
		ctx, span = c.in.tracer.Start(ctx, "write to Kafka", trace.WithSpanKind(trace.SpanKindProducer))
		defer span.End()
	}
	begun := time.Now()
	err := c.in.writer.Write(ctx, &c.batch)
	c.in.metrics.write(ctx, time.Since(begun), err)
	return err //nolint:wrapcheck // unwritten looks at it
}

// unwritten is the result when Kafka has not everything: the client is to send all of it again.
func (c *Call) unwritten(err error) Result {
	if !errors.Is(err, producer.ErrUnavailable) {
		c.in.logger.ErrorContext(c.ctx, "writing events", slog.Any("error", err))
	}
	return busy("events cannot be written now; send them again", waitUnavailable)
}
