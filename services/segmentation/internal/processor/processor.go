// Package processor puts the evaluation of segments on the stream runtime: it reads the profile log,
// keeps one profile's state under its key and emits membership flips.
//
// It promises no more than its parts: package evaluate decides, the runtime makes it exactly once. Each
// record costs one read of state, one write if something changed, one more of each when a membership
// flips. A profile has one timer, at the next instant at which any of its conditions may change; it is
// only ever moved forward in time by firing, so that an event which puts an instant off costs no write of
// a timer. TestDriver covers it from record to record.
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
	"github.com/sillage-cdp/sillage/services/segmentation/internal/evaluate"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// Name is the name of the topology.
const Name = "segmentation"

// timerID is the id of a profile's only timer.
const timerID = "next"

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
		Outputs: []string{topics.Segments},
		New:     func() stream.Processor { return &Processor{programs: programs, metrics: metrics} },
		Merges:  profile.Merges,
	}
}

// Processor evaluates the segments of the profiles of one partition.
type Processor struct {
	programs *Programs
	metrics  *Metrics

	person evaluate.Person
	record profilev1.ProfileRecord
	change segmentv1.MembershipChanged
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
		if body.Event.GetEvent() == nil {
			return errEvent
		}
		return p.evaluate(ctx, func() error { return p.person.Event(body.Event) })
	case *profilev1.ProfileRecord_MergedInto:
		merge := evaluate.Merge{ID: body.MergedInto.GetMergeId(), AtMs: body.MergedInto.GetAtMs()}
		return p.evaluate(ctx, func() error { return p.person.Leave(merge) })
	case *profilev1.ProfileRecord_MergeAnnounced:
		return nil // the state follows and is taken in by Merge
	default:
		return errBody
	}
}

// Timer lets time pass for a profile.
func (p *Processor) Timer(ctx *stream.Context, _ stream.Timer) error {
	return p.evaluate(ctx, p.person.Tick)
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
	outcome, err := p.person.Finish()
	if err != nil {
		return err
	}
	if outcome.Due != window.Forever {
		ctx.SetTimer(timerID, time.UnixMilli(outcome.Due).UTC(), nil)
	}
	for i := range outcome.Flips {
		if err := p.emit(ctx, tenant, profileID, &outcome.Flips[i]); err != nil {
			return err
		}
	}
	p.metrics.dropped(outcome.Dropped)
	return nil
}

func (p *Processor) emit(ctx *stream.Context, tenant, profileID string, flip *evaluate.Flip) error {
	p.change.Reset()
	p.change.Tenant = tenant
	p.change.ProfileId = profileID
	p.change.Segment = flip.Segment
	p.change.Version = flip.Version
	p.change.State = segmentv1.MembershipState_MEMBERSHIP_STATE_EXITED
	if flip.Entered {
		p.change.State = segmentv1.MembershipState_MEMBERSHIP_STATE_ENTERED
	}
	p.change.AtMs = flip.AtMs
	p.change.Cause = flip.Cause.Kind
	p.change.CauseId = flip.Cause.ID
	p.change.Historical = flip.Cause.Historical
	size := p.change.SizeVT()
	if cap(p.buf) < size {
		p.buf = make([]byte, size)
	}
	p.buf = p.buf[:size]
	if _, err := p.change.MarshalToSizedBufferVT(p.buf); err != nil {
		return fmt.Errorf("encoding a membership: %w", err)
	}
	ctx.Emit(topics.Segments, ctx.Key(), p.buf)
	p.metrics.flipped(flip.Cause.Kind)
	return nil
}

// Metrics counts what the stage does.
type Metrics struct {
	flips   metric.Int64Counter
	futures metric.Int64Counter
	causes  map[segmentv1.Cause]metric.MeasurementOption
}

// NewMetrics makes the instruments of the stage: `sillage.segmentation.flips` by cause and
// `sillage.segmentation.future_events_dropped`.
func NewMetrics(provider metric.MeterProvider) (*Metrics, error) {
	meter := provider.Meter("github.com/sillage-cdp/sillage/services/segmentation")
	flips, err := meter.Int64Counter("sillage.segmentation.flips", metric.WithUnit("{flip}"),
		metric.WithDescription("Memberships that changed, by cause."))
	if err != nil {
		return nil, fmt.Errorf("making a counter: %w", err)
	}
	futures, err := meter.Int64Counter("sillage.segmentation.future_events_dropped", metric.WithUnit("{event}"),
		metric.WithDescription("Statements of events dated ahead of the clock that were let go because too many waited."))
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
	return &Metrics{flips: flips, futures: futures, causes: causes}, nil
}

func (m *Metrics) flipped(cause segmentv1.Cause) {
	m.flips.Add(context.Background(), 1, m.causes[cause])
}

func (m *Metrics) dropped(n int) {
	if n > 0 {
		m.futures.Add(context.Background(), int64(n))
	}
}
