package stack

import (
	"context"
	"log/slog"
	"time"

	"github.com/sillage-cdp/sillage/pkg/telemetry/sdk"
)

// flushFor bounds the last export: a collector that is away does not hold up the stop.
const flushFor = 5 * time.Second

// flush ends the stack's own telemetry after everything else, so that the spans of the last events reach
// the collector.
type flush struct {
	sdk    *sdk.SDK
	logger *slog.Logger
}

func (flush) Start(context.Context) error { return nil }
func (flush) Ready(context.Context) error { return nil }
func (flush) Failed() <-chan error        { return nil }

// Stop exports what is buffered. A failure costs spans and is no failure of the stop.
func (f flush) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushFor)
	defer cancel()
	if err := f.sdk.Shutdown(ctx); err != nil {
		f.logger.WarnContext(ctx, "the last spans were not exported", slog.Any("error", err))
	}
	return nil
}
