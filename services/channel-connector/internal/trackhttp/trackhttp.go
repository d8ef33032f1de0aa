// Package trackhttp serves the tracking endpoints: the open pixel, the redirect of a link, the
// unsubscribe page. What it learns becomes a report on Kafka before the answer.
//
// A person never pays for our trouble: if Kafka does not take the report within a second, the pixel and
// the redirect are answered all the same and the loss is counted; an unsubscription is not lost that
// way: it answers 503 so that it is tried again.
package trackhttp

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/clock"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/outcome"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

// Reporter writes an outcome and returns when it is safe.
type Reporter func(context.Context, *deliveryv1.Outcome) error

const reportTimeout = time.Second

type handler struct {
	signer *tracking.Signer
	report Reporter
	clock  clock.Clock
	lost   metric.Int64Counter
}

// New returns the handler of the paths below /t/.
func New(signer *tracking.Signer, report Reporter, c clock.Clock, meter metric.Meter) (http.Handler, error) {
	lost, err := meter.Int64Counter("sillage.channel.reactions.lost", metric.WithUnit("{reaction}"),
		metric.WithDescription("Opens and clicks that Kafka did not take in time."))
	if err != nil {
		return nil, fmt.Errorf("making a counter: %w", err)
	}
	h := &handler{signer: signer, report: report, clock: c, lost: lost}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+tracking.OpenPath+"{token}", h.open)
	mux.HandleFunc("GET "+tracking.ClickPath+"{token}", h.click)
	mux.HandleFunc("GET "+tracking.UnsubscribePath+"{token}", h.ask)
	mux.HandleFunc("POST "+tracking.UnsubscribePath+"{token}", h.unsubscribe)
	return mux, nil
}

// pixel is a transparent GIF of one pixel.
var pixel = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

// read opens the request's token if it is of the given kind.
func (h *handler) read(r *http.Request, kind deliveryv1.OutcomeType) *deliveryv1.Outcome {
	o, err := h.signer.Open(r.PathValue("token"))
	if err != nil || o.GetType() != kind {
		return nil
	}
	o.AtMs = h.clock.Now().UnixMilli()
	o.Machine = outcome.Machine(outcome.Visit{Method: r.Method, UserAgent: r.UserAgent(), Purpose: purpose(r)})
	o.OutcomeId = outcome.ID(o)
	return o
}

func purpose(r *http.Request) string {
	return strings.Join([]string{r.Header.Get("Purpose"), r.Header.Get("Sec-Purpose"), r.Header.Get("X-Moz")}, " ")
}

func (h *handler) try(r *http.Request, o *deliveryv1.Outcome) error {
	// Somebody who does not wait for the answer has reacted all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), reportTimeout)
	defer cancel()
	return h.report(ctx, o)
}

func (h *handler) note(r *http.Request, o *deliveryv1.Outcome) {
	if err := h.try(r, o); err != nil {
		h.lost.Add(r.Context(), 1, metric.WithAttributes(attribute.String("tenant", o.GetTenant())))
	}
}

func (h *handler) open(w http.ResponseWriter, r *http.Request) {
	if o := h.read(r, deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED); o != nil {
		h.note(r, o)
	}
	w.Header().Set("Content-Type", "image/gif")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(pixel) // a client that went away is no error of ours
}

func (h *handler) click(w http.ResponseWriter, r *http.Request) {
	o := h.read(r, deliveryv1.OutcomeType_OUTCOME_TYPE_CLICKED)
	if o == nil {
		http.Error(w, tracking.ErrToken.Error(), http.StatusNotFound)
		return
	}
	h.note(r, o)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, o.GetUrl(), http.StatusFound) //nolint:gosec // the address is in the token that we signed
}

const (
	askPage = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Unsubscribe</title>
<body style="font-family:sans-serif;max-width:30em;margin:4em auto"><h1>Unsubscribe</h1><p>You will not get messages of this kind any more.</p>
<form method="post"><button type="submit" style="font-size:1.2em;padding:.5em 1em">Unsubscribe</button></form></body></html>`
	donePage = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Unsubscribed</title>
<body style="font-family:sans-serif;max-width:30em;margin:4em auto"><h1>You are unsubscribed</h1></body></html>`
)

// ask shows a button: a scanner that follows links must not unsubscribe anybody.
func (h *handler) ask(w http.ResponseWriter, r *http.Request) {
	if h.read(r, deliveryv1.OutcomeType_OUTCOME_TYPE_UNSUBSCRIBED) == nil {
		http.Error(w, tracking.ErrToken.Error(), http.StatusNotFound)
		return
	}
	page(w, askPage)
}

// unsubscribe is the button, and the one-click POST of RFC 8058, which mail programs send for a person.
func (h *handler) unsubscribe(w http.ResponseWriter, r *http.Request) {
	o := h.read(r, deliveryv1.OutcomeType_OUTCOME_TYPE_UNSUBSCRIBED)
	if o == nil {
		http.Error(w, tracking.ErrToken.Error(), http.StatusNotFound)
		return
	}
	o.Machine = false
	o.OutcomeId = outcome.ID(o)
	if err := h.try(r, o); err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "please try again in a moment", http.StatusServiceUnavailable)
		return
	}
	page(w, donePage)
}

func page(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text)) // a client that went away is no error of ours
}
