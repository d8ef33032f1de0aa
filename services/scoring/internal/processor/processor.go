// Package processor puts the computation of scores on the stream runtime: it reads the profile log, keeps
// one profile's scores under its key and emits new values.
//
// It promises no more than its parts: package evaluate decides, the runtime makes it exactly once. Each
// record costs one read of state and one write if something changed. A profile has one timer, at the next
// instant at which time alone may change one of its scores; it is only ever moved forward in time by
// firing, so that an event which puts an instant off costs no write of a timer. TestDriver covers it from
// record to record.
package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	"github.com/sillage-cdp/sillage/services/scoring/internal/evaluate"
	"github.com/sillage-cdp/sillage/services/scoring/internal/rfm"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// Name is the name of the topology.
const Name = "scoring"

// timerID is the id of a profile's only timer.
const timerID = "next"

// Names of the components of an rfm.
const (
	componentRecency   = "recency_days"
	componentFrequency = "frequency"
	componentMonetary  = "monetary"
)

// Errors of records that cannot be handled.
var (
	errKey   = errors.New("the record's key is not tenant/profile_id")
	errBody  = errors.New("the record has no body that this version knows")
	errEvent = errors.New("the record's event is missing")
)

// Topology is the stage over the given programs.
func Topology(programs *Programs, metrics *Metrics) stream.Topology {
	return stream.Topology{
		Name:    Name,
		Inputs:  []string{topics.ProfileLog},
		Outputs: []string{topics.Scores},
		New:     func() stream.Processor { return &Processor{programs: programs, metrics: metrics} },
		Merges:  profile.Merges,
	}
}

// Processor computes the scores of the profiles of one partition.
type Processor struct {
	programs *Programs
	metrics  *Metrics

	person evaluate.Person
	record profilev1.ProfileRecord
	change scorev1.ScoreChanged
	buf    []byte
}

var _ stream.Processor = (*Processor)(nil)

// Process handles one record of the profile log.
func (p *Processor) Process(ctx *stream.Context, rec stream.Record) error {
	p.record.Reset()
	if err := p.record.UnmarshalVT(rec.Value); err != nil {
		return fmt.Errorf("decoding a profile record: %w", err)
	}
	switch body := p.record.GetBody().(type) {
	case *profilev1.ProfileRecord_Event:
		event := body.Event.GetEvent()
		if event == nil {
			return errEvent
		}
		return p.evaluate(ctx, func() error { return p.person.Event(event) })
	case *profilev1.ProfileRecord_MergedInto:
		merge := evaluate.Merge{ID: body.MergedInto.GetMergeId(), AtMs: body.MergedInto.GetAtMs()}
		return p.evaluate(ctx, func() error { p.person.Leave(merge); return nil })
	case *profilev1.ProfileRecord_MergeAnnounced:
		return nil // the state follows and is taken in by Merge
	default:
		return errBody
	}
}

// Timer lets time pass for a profile.
func (p *Processor) Timer(ctx *stream.Context, _ stream.Timer) error {
	return p.evaluate(ctx, func() error { p.person.Tick(); return nil })
}

// Merge takes in the state of a profile that ended.
func (p *Processor) Merge(dst *stream.Context, src *stream.Source) error {
	return p.evaluate(dst, func() error { return p.person.Absorb(src) })
}

// evaluate takes up the profile of ctx, lets something happen to it and passes on what came of it.
func (p *Processor) evaluate(ctx *stream.Context, happen func() error) error {
	tenant, profileID, ok := topics.SplitKey(ctx.Key())
	if !ok {
		return errKey
	}
	if err := p.person.Begin(p.programs.For(tenant), ctx, ctx.Now().UnixMilli()); err != nil {
		return err
	}
	if err := happen(); err != nil {
		return err
	}
	outcome := p.person.Finish()
	if outcome.Due != evaluate.Forever {
		ctx.SetTimer(timerID, time.UnixMilli(outcome.Due).UTC(), nil)
	}
	for i := range outcome.Changes {
		if err := p.emit(ctx, tenant, profileID, &outcome.Changes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *Processor) emit(ctx *stream.Context, tenant, profileID string, change *evaluate.Change) error {
	p.change.Reset()
	p.change.Tenant = tenant
	p.change.ProfileId = profileID
	p.change.Score = change.Score
	p.change.Version = change.Version
	p.change.Value = change.Value
	p.change.Label = change.Label
	p.change.Components = components(change)
	p.change.AtMs = change.AtMs
	p.change.Cause = change.Cause.Kind
	p.change.CauseId = change.Cause.ID
	p.change.Historical = change.Cause.Historical
	p.change.Removed = change.Removed
	size := p.change.SizeVT()
	if cap(p.buf) < size {
		p.buf = make([]byte, size)
	}
	p.buf = p.buf[:size]
	if _, err := p.change.MarshalToSizedBufferVT(p.buf); err != nil {
		return fmt.Errorf("encoding a score: %w", err)
	}
	ctx.Emit(topics.Scores, ctx.Key(), p.buf)
	p.metrics.changed(change.Cause.Kind)
	return nil
}

// components are what an rfm is made of. Without a purchase there is no recency.
func components(change *evaluate.Change) map[string]float64 {
	if change.Rfm == nil {
		return nil
	}
	all := map[string]float64{
		componentFrequency: float64(change.Rfm.Frequency),
		componentMonetary:  float64(change.Rfm.Micros) / 1e6,
	}
	if change.Rfm.Last != rfm.Never {
		all[componentRecency] = float64(change.AtMs-change.Rfm.Last) / rfm.Day
	}
	return all
}

// Metrics counts what the stage does.
type Metrics struct {
	changes metric.Int64Counter
	causes  map[segmentv1.Cause]metric.MeasurementOption
}

// NewMetrics makes the instrument of the stage: `sillage.scoring.changes` by cause.
func NewMetrics(provider metric.MeterProvider) (*Metrics, error) {
	changes, err := provider.Meter("github.com/sillage-cdp/sillage/services/scoring").
		Int64Counter("sillage.scoring.changes", metric.WithUnit("{change}"),
			metric.WithDescription("New values of scores, by cause."))
	if err != nil {
		return nil, fmt.Errorf("making a counter: %w", err)
	}
	causes := map[segmentv1.Cause]metric.MeasurementOption{}
	for cause, name := range map[segmentv1.Cause]string{
		segmentv1.Cause_CAUSE_EVENT: "event", segmentv1.Cause_CAUSE_TIMER: "timer",
		segmentv1.Cause_CAUSE_MERGE: "merge", segmentv1.Cause_CAUSE_DEFINITION: "definition",
	} {
		causes[cause] = metric.WithAttributeSet(attribute.NewSet(attribute.String("cause", name)))
	}
	return &Metrics{changes: changes, causes: causes}, nil
}

func (m *Metrics) changed(cause segmentv1.Cause) {
	m.changes.Add(context.Background(), 1, m.causes[cause])
}
