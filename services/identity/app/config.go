package app

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/identity/internal/resolve"
)

// Config tunes the service. Who is who is a matter of each tenant's definition.
type Config struct {
	// DedupWindow is how long a message id is remembered, from its first arrival and by the injected
	// clock. State grows with it: some 60 bytes an event.
	DedupWindow time.Duration `koanf:"dedup_window"`
	// MaxHeldEvents and MaxHeldBytes bound the events of one anchor that wait for the graph; further ones
	// go to the dead-letter topic. An answer takes two commits (some 100 ms): only an anchor that many
	// people share comes near.
	MaxHeldEvents int `koanf:"max_held_events"`
	MaxHeldBytes  int `koanf:"max_held_bytes"`
	// AskAgain is the pause before an unanswered question is repeated for the first time; each further
	// one is twice as long, up to an hour. It only matters if a request or an answer went to a dead letter.
	AskAgain time.Duration `koanf:"ask_again"`
	// Stream tunes both stages. Its Kafka and DataDir are those of Deps.
	Stream stream.Config `koanf:"stream"`
}

// NewDefaultConfig remembers message ids for seven days.
func NewDefaultConfig() Config {
	return Config{
		DedupWindow:   7 * 24 * time.Hour,
		MaxHeldEvents: 10_000,
		MaxHeldBytes:  16 << 20,
		AskAgain:      time.Minute,
	}
}

// Validate says everything that is wrong with c, but for Stream, which needs Deps to be whole.
func (c Config) Validate() error {
	var errs []error
	if c.DedupWindow < time.Minute || c.DedupWindow > 366*24*time.Hour {
		errs = append(errs, fmt.Errorf("dedup_window: %s is not between 1m and 366 days", c.DedupWindow))
	}
	if c.MaxHeldEvents < 1 || c.MaxHeldEvents > 1_000_000 {
		errs = append(errs, fmt.Errorf("max_held_events: %d is not between 1 and 1000000", c.MaxHeldEvents))
	}
	const leastBytes, mostBytes = 2 << 20, 1 << 30 // room for one event of the largest import
	if c.MaxHeldBytes < leastBytes || c.MaxHeldBytes > mostBytes {
		errs = append(errs, fmt.Errorf("max_held_bytes: %d is not between %d and %d", c.MaxHeldBytes, leastBytes, mostBytes))
	}
	if c.AskAgain < time.Second || c.AskAgain > time.Hour {
		errs = append(errs, fmt.Errorf("ask_again: %s is not between 1s and 1h", c.AskAgain))
	}
	return errors.Join(errs...)
}

func (c Config) resolver() resolve.Config {
	return resolve.Config{
		DedupWindow: c.DedupWindow, MaxHeld: c.MaxHeldEvents, MaxHeldBytes: c.MaxHeldBytes, AskAgain: c.AskAgain,
	}
}

// Deps are what the service works with.
type Deps struct {
	Kafka       kafka.Config
	Definitions definition.Provider
	Clock       clock.Clock
	Logger      *slog.Logger
	Telemetry   telemetry.Providers
	// DataDir is where the stages keep their local state, each in a directory of its own name.
	DataDir string
	// OnRestore, if set, is told how far the restore of a partition has come. It must not block.
	OnRestore func(stream.RestoreProgress)
}

func (d Deps) validate() error {
	var errs []error
	if d.Definitions == nil {
		errs = append(errs, errors.New("deps.definitions is missing"))
	}
	if d.Logger == nil {
		errs = append(errs, errors.New("deps.logger is missing"))
	}
	if d.Telemetry.Meter == nil {
		errs = append(errs, errors.New("deps.telemetry is missing: use telemetry.Nop() for none"))
	}
	return errors.Join(errs...)
}
