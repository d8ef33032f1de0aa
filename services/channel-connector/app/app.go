// Package app is the channel-connector service: it brings sends to people and their reactions back.
//
// Its parts are the dispatcher (sends.v1 to SMTP and webhooks, reports to delivery.reports.v1), the stage
// `outcomes` (reports to outcomes.v1 and, as events of the profile, to events.v1) and the tracking
// endpoints below /t/.
package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/run"
	"github.com/sillage-cdp/sillage/pkg/secret"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/dispatch"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/processor"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/render"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/trackhttp"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/tracking"
)

// Config is what a user sets.
type Config struct {
	// PublicURL is the address under which the tracking endpoints are reached from mails.
	PublicURL string `koanf:"public_url"`
	// TrackingKeyRef refers to the key that signs tracking links (`env:NAME` or `file:PATH`), at least 32
	// bytes, the same for all instances.
	TrackingKeyRef string `koanf:"tracking_key_ref"`
	// OutboxSMTP is `host:port` for e-mail channels that name no server of their own.
	OutboxSMTP string `koanf:"outbox_smtp"`
	// Outstanding bounds the sends of one partition that are on their way.
	Outstanding int `koanf:"outstanding"`
	// Stream tunes the stage that turns reports into events. Its Kafka and DataDir are those of Deps.
	Stream stream.Config `koanf:"stream"`
}

// NewDefaultConfig is for the tracking endpoints on this machine.
func NewDefaultConfig() Config {
	return Config{PublicURL: "http://127.0.0.1:8080", OutboxSMTP: "127.0.0.1:2525", Outstanding: 1000}
}

// Validate says everything that is wrong with c, but for Stream, which needs Deps to be whole.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.PublicURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		errs = append(errs, fmt.Errorf("public_url: %q is no http(s) address", c.PublicURL))
	}
	if c.TrackingKeyRef == "" {
		errs = append(errs, errors.New("tracking_key_ref: a key is needed to sign links: write env:NAME or file:PATH"))
	} else if err := secret.Check(c.TrackingKeyRef); err != nil {
		errs = append(errs, fmt.Errorf("tracking_key_ref: %w", err))
	}
	if c.Outstanding < 1 {
		errs = append(errs, fmt.Errorf("outstanding: %d is not positive", c.Outstanding))
	}
	return errors.Join(errs...)
}

// Deps is what the service is given.
type Deps struct {
	Kafka       kafka.Config
	Definitions definition.Provider
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
	DataDir     string
}

// App is the service: a component, and a handler for its tracking endpoints.
type App struct {
	*run.Group
	handler http.Handler
}

// New builds the service and starts nothing.
func New(cfg Config, deps Deps) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	key, err := secret.Resolve(cfg.TrackingKeyRef)
	if err != nil {
		return nil, err
	}
	signer, err := tracking.NewSigner([]byte(key.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("tracking_key_ref: %w", err)
	}
	dispatcher, err := dispatch.New(
		dispatch.Config{Kafka: deps.Kafka, JournalDir: filepath.Join(deps.DataDir, "journal"), Outbox: cfg.OutboxSMTP, Outstanding: cfg.Outstanding},
		dispatch.Deps{
			Definitions: deps.Definitions, Renderer: render.New(signer, cfg.PublicURL),
			Clock: deps.Clock, Logger: deps.Logger, Telemetry: deps.Telemetry,
		})
	if err != nil {
		return nil, fmt.Errorf("making the dispatcher: %w", err)
	}
	settings := cfg.Stream
	settings.Kafka, settings.DataDir = deps.Kafka, deps.DataDir
	outcomes, err := stream.NewRunner(processor.Topology(), settings,
		stream.Deps{Clock: deps.Clock, Logger: deps.Logger, Telemetry: deps.Telemetry})
	if err != nil {
		return nil, fmt.Errorf("making the stage outcomes: %w", err)
	}
	handler, err := trackhttp.New(signer, dispatcher.Report, deps.Clock, deps.Telemetry.Meter.Meter("channel-connector"))
	if err != nil {
		return nil, err
	}
	group := run.NewGroup(deps.Logger, run.Named{Name: "outcomes", Component: outcomes}, run.Named{Name: "dispatcher", Component: dispatcher})
	return &App{Group: group, handler: handler}, nil
}

// Handler serves the tracking endpoints below /t/.
func (a *App) Handler() http.Handler { return a.handler }

var _ run.Component = (*App)(nil)
