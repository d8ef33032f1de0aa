// Package app is the ingest service as a value: it takes in events over HTTP and answers once Kafka has
// them. The caller owns the definitions and the HTTP server, and makes the topics before Start.
//
// Stop the HTTP server before the App, or after: the App answers what it has accepted either way, and
// refuses the rest with 503. TestStopAnswersWhatItAccepted catches the loss of that.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/geo"
	"github.com/sillage-cdp/sillage/services/ingest/internal/grpcapi"
	"github.com/sillage-cdp/sillage/services/ingest/internal/httpapi"
	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
	"github.com/sillage-cdp/sillage/services/ingest/internal/tail"
)

// Config tunes the service. Limits of bodies and events belong to each source's definition.
type Config struct {
	// AckTimeout is how long a request waits for Kafka before it is answered 503.
	AckTimeout time.Duration `koanf:"ack_timeout"`
	// Linger is how long an event may wait for others on its way to Kafka; 0 sends at once.
	Linger time.Duration `koanf:"linger"`
	// MaxBufferedBytes bounds what waits for Kafka's acknowledgement; beyond it requests get 503 at once.
	MaxBufferedBytes int64 `koanf:"max_buffered_bytes"`
	// MaxInFlightBytes bounds the bodies in memory; beyond it requests get 503 at once.
	MaxInFlightBytes int64 `koanf:"max_in_flight_bytes"`
	// RateLimit is for each source and TenantRateLimit for each tenant whose definition says nothing else.
	RateLimit       RateLimit `koanf:"rate_limit"`
	TenantRateLimit RateLimit `koanf:"tenant_rate_limit"`
	// MaxIdentityEventsPerSecond bounds each identity of a source that says nothing else, with 25 seconds'
	// worth at once; 0 turns it off.
	MaxIdentityEventsPerSecond float64 `koanf:"max_identity_events_per_second"`
	// GeoDatabase is a file of the MaxMind format with places of addresses; blank tells none.
	GeoDatabase string `koanf:"geo_database"`
	// MaxEventNames bounds the distinct event names of a source that says nothing else.
	MaxEventNames int `koanf:"max_event_names"`
	// TooLargeStatus413 answers 413 instead of 400 to a body that is too large; some clients retry that.
	TooLargeStatus413 bool `koanf:"too_large_status_413"`
	// TrustedProxies are prefixes (`10.0.0.0/8`) of proxies whose X-Forwarded-For is believed.
	TrustedProxies []string `koanf:"trusted_proxies"`
	// PublicURL is where browsers reach the service (`https://events.shop.example`); blank means the address
	// that each request names. Browser SDKs that ask for their settings are told to send there.
	PublicURL string `koanf:"public_url"`
	// ScriptsDir is a folder with Segment's browser SDK (the files of dist/umd of @segment/analytics-next),
	// for pages with the snippet; blank serves none.
	ScriptsDir string `koanf:"scripts_dir"`
}

// RateLimit is token buckets.
type RateLimit struct {
	// RequestsPerSecond refills the bucket of requests; 0 turns it off.
	RequestsPerSecond float64 `koanf:"requests_per_second"`
	// Burst is its size, at least 1 if it is on.
	Burst int `koanf:"burst"`
	// EventsPerSecond refills the bucket of events; 0 turns it off.
	EventsPerSecond float64 `koanf:"events_per_second"`
	// EventBurst is its size, at least 1 if it is on.
	EventBurst int `koanf:"event_burst"`
}

func (r RateLimit) validate(name string) error {
	bad := func(rate float64, burst int) bool { return rate < 0 || burst < 0 || rate > 0 && burst < 1 }
	if bad(r.RequestsPerSecond, r.Burst) || bad(r.EventsPerSecond, r.EventBurst) {
		return fmt.Errorf("%s: requests_per_second and events_per_second must not be negative, and need a burst of at least 1", name)
	}
	return nil
}

// NewDefaultConfig suits one process of a gigabyte.
func NewDefaultConfig() Config {
	return Config{
		AckTimeout:       1800 * time.Millisecond,
		MaxBufferedBytes: 32 << 20,
		MaxInFlightBytes: 48 << 20,

		MaxIdentityEventsPerSecond: 100,
		MaxEventNames:              5000,
	}
}

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.AckTimeout < time.Second || c.AckTimeout > time.Minute {
		errs = append(errs, fmt.Errorf("ack_timeout: %s is not between 1s and 1m", c.AckTimeout))
	}
	if c.Linger < 0 || c.Linger > 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("linger: %s is not between 0s and 100ms", c.Linger))
	}
	const least = 16 << 20
	if c.MaxBufferedBytes < least || c.MaxBufferedBytes > 1<<32 {
		errs = append(errs, fmt.Errorf("max_buffered_bytes: %d is not between %d and %d", c.MaxBufferedBytes, least, int64(1<<32)))
	}
	if c.MaxInFlightBytes < 2*least || c.MaxInFlightBytes > 1<<32 {
		errs = append(errs, fmt.Errorf("max_in_flight_bytes: %d is not between %d and %d", c.MaxInFlightBytes, 2*least, int64(1<<32)))
	}
	errs = append(errs, c.RateLimit.validate("rate_limit"), c.TenantRateLimit.validate("tenant_rate_limit"))
	if c.MaxIdentityEventsPerSecond < 0 {
		errs = append(errs, fmt.Errorf("max_identity_events_per_second: %g is below 0 (0 means no bound)", c.MaxIdentityEventsPerSecond))
	}
	if c.MaxEventNames < 1 || c.MaxEventNames > definition.MaxEventNames {
		errs = append(errs, fmt.Errorf("max_event_names: %d is not between 1 and %d", c.MaxEventNames, definition.MaxEventNames))
	}
	if _, err := c.publicURL(); err != nil {
		errs = append(errs, err)
	}
	_, err := c.prefixes()
	return errors.Join(append(errs, err)...)
}

// publicURL is PublicURL without a slash at its end.
func (c Config) publicURL() (string, error) {
	u, err := url.Parse(c.PublicURL)
	if c.PublicURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
		return "", fmt.Errorf("public_url: %q is no address such as https://events.shop.example", c.PublicURL)
	}
	return strings.TrimRight(c.PublicURL, "/"), nil
}

func (c Config) prefixes() ([]netip.Prefix, error) {
	var errs []error
	prefixes := make([]netip.Prefix, 0, len(c.TrustedProxies))
	for i, text := range c.TrustedProxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("trusted_proxies[%d]: %q is no prefix such as 10.0.0.0/8", i, text))
			continue
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, errors.Join(errs...)
}

// Deps are what the service works with.
type Deps struct {
	Kafka       kafka.Config
	Definitions definition.Provider
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
}

// App is the service, a run.Component.
type App struct {
	cfg      Config
	producer *producer.Producer
	intake   *intake.Intake
	handler  *httpapi.Handler
	places   *geo.Database
	tail     *tail.Server
	started  atomic.Bool
	stopped  atomic.Bool
	failed   chan error
}

// New wires the service. Nothing is started and no connection made.
func New(cfg Config, deps Deps) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring ingest: %w", err)
	}
	logger := deps.Logger.With(slog.String("service", "ingest"))
	p, err := producer.New(producer.Config{AckTimeout: cfg.AckTimeout, MaxBufferedBytes: cfg.MaxBufferedBytes, Linger: cfg.Linger},
		deps.Kafka, deps.Telemetry.Propagator, logger)
	if err != nil {
		return nil, err
	}
	proxies, err := cfg.prefixes()
	if err != nil {
		return nil, err
	}
	public, err := cfg.publicURL()
	if err != nil {
		return nil, err
	}
	places := geo.New(cfg.GeoDatabase)
	in, err := intake.New(intake.Config{
		MaxInFlightBytes: cfg.MaxInFlightBytes,
		Limits: intake.Limits{
			Source: intake.RateLimit(cfg.RateLimit), Tenant: intake.RateLimit(cfg.TenantRateLimit),
			IdentityEventsPerSecond: cfg.MaxIdentityEventsPerSecond, EventNames: cfg.MaxEventNames,
		},
	}, intake.Deps{Definitions: deps.Definitions, Places: places, Writer: p, Clock: deps.Clock, Logger: logger, Telemetry: deps.Telemetry})
	if err != nil {
		return nil, fmt.Errorf("configuring ingest: %w", err)
	}
	h, err := httpapi.New(httpapi.Config{
		TooLargeStatus413: cfg.TooLargeStatus413,
		TrustedProxies:    proxies,
		PublicURL:         public,
		ScriptsDir:        cfg.ScriptsDir,
	}, in, deps.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("configuring ingest: %w", err)
	}
	return &App{cfg: cfg, producer: p, intake: in, handler: h, places: places, tail: tail.New(deps.Kafka, logger), failed: make(chan error, 1)}, nil
}

// Handler serves the tracking API and what its clients read. The server that mounts it bounds the time that headers and
// bodies may take (ReadHeaderTimeout, ReadTimeout): the handler bounds bytes, not patience.
func (a *App) Handler() http.Handler { return a.handler }

// RegisterGRPC adds IntakeService and TailService.
func (a *App) RegisterGRPC(r grpc.ServiceRegistrar) {
	ingestv1.RegisterIntakeServiceServer(r, grpcapi.New(a.intake))
	ingestv1.RegisterTailServiceServer(r, a.tail)
}

// Start reaches Kafka, so that a wrong address is known before the first event.
func (a *App) Start(ctx context.Context) error {
	if dir := a.cfg.ScriptsDir; dir != "" {
		if _, err := os.Stat(filepath.Join(dir, httpapi.StandaloneScript)); err != nil {
			return fmt.Errorf("scripts_dir: the folder must hold the files of dist/umd of @segment/analytics-next: %w", err)
		}
	}
	if err := a.places.Open(); err != nil {
		return fmt.Errorf("geo_database: %w", err)
	}
	if err := a.producer.Ping(ctx); err != nil {
		return err
	}
	a.started.Store(true)
	return nil
}

// Stop refuses new requests, answers those in flight, and lets Kafka have what is buffered, within ctx.
func (a *App) Stop(ctx context.Context) error {
	if a.stopped.Swap(true) {
		return nil
	}
	drained := a.intake.Drain(ctx)
	closed := a.producer.Close(ctx)
	if drained != nil {
		return errors.Join(drained, closed) // somebody may still look places up
	}
	return errors.Join(closed, a.places.Close())
}

// Ready is nil between Start and Stop. Kafka's state does not count: while it takes no writes this process
// answers 503 with Retry-After, which tells clients more than a refused connection.
func (a *App) Ready(context.Context) error {
	switch {
	case a.stopped.Load():
		return errors.New("ingest is stopping")
	case !a.started.Load():
		return errors.New("ingest has not reached Kafka yet")
	}
	return nil
}

// Failed never fires: the producer recovers from every state by itself.
func (a *App) Failed() <-chan error { return a.failed }
