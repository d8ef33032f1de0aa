package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/plan"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
	"github.com/sillage-cdp/sillage/services/ingest/internal/quarantine"
)

// Replay lets events in that the tracking plan of a source had set aside.
type Replay struct {
	Kafka  kafka.Config
	Logger *slog.Logger
	// Definitions hold the source and its plan of now.
	Definitions *definition.Snapshot
	// Tenant and Source say whose events.
	Tenant, Source string
	// All lets in what is still not as planned, too.
	All bool
	// DryRun counts and changes nothing.
	DryRun bool
	// Now is the time as of which an event counts as history.
	Now time.Time
}

// ReplayReport is what became of the events.
type ReplayReport = quarantine.Report

// Run reads what was set aside up to now. Events that are as planned come in, with their message ids, so that
// one which is let in twice counts once; the others stay set aside. A run that is cut off can be run again.
func (r Replay) Run(ctx context.Context) (report ReplayReport, err error) {
	source := r.Definitions.Source(r.Tenant, r.Source)
	if source == nil {
		return report, fmt.Errorf("there is no source %s/%s", r.Tenant, r.Source)
	}
	replay := quarantine.Replay{
		Tenant: r.Tenant, Source: r.Source, Now: r.Now, DryRun: r.DryRun, HistoryAfter: 24 * time.Hour,
	}
	if own, err := definition.ParseDuration(source.GetSource().GetHistoryAfter()); err == nil && own > 0 {
		replay.HistoryAfter = own
	}
	if def := r.Definitions.Plan(r.Tenant, r.Source); def != nil && !r.All {
		if replay.Plan, err = plan.Compile(def); err != nil {
			return report, fmt.Errorf("compiling the tracking plan %s: %w", def.GetName(), err)
		}
	}
	writer, err := producer.New(producer.Config{AckTimeout: 30 * time.Second, MaxBufferedBytes: 32 << 20}, r.Kafka, propagation.TraceContext{}, r.Logger)
	if err != nil {
		return report, err
	}
	report, err = replay.Run(ctx, r.Kafka, writer, r.Logger)
	return report, errors.Join(err, writer.Close(context.WithoutCancel(ctx)))
}
