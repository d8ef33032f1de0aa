// Package processor puts the engine on the stream runtime: it decodes records and timers, opens the
// person's state, hands both to the engine, and carries out the effects.
//
// It promises: one record or timer is one turn of the engine; what cannot be decoded, or belongs to
// another tenant than its key, is an error that the runtime dead-letters; a profile id is always that of
// the key, so that late records of a merged profile count for the survivor. It holds no state of persons.
package processor

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	scorev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/score/v1"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/catalog"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/person"
)

// Name is the name of the topology.
const Name = "journeys"

// Names of timers. A journey has one at a time, under its prefix.
const (
	timerJourney = "j/"
	timerSettle  = "settle"
)

// Observer is told what was decided, for metrics. Its methods may be called again for a batch that the
// runtime repeats.
type Observer interface {
	Decided(effects *engine.Effects)
}

// Topology is the stage that carries people through journeys.
func Topology(definitions *catalog.Catalog, observer Observer) stream.Topology {
	return stream.Topology{
		Name:   Name,
		Inputs: []string{topics.ProfileLog, topics.Segments, topics.Scores},
		// Flips and scores follow from events: a journey that they start must know what the events said.
		First:   topics.ProfileLog,
		Outputs: []string{topics.Sends, topics.Steps},
		New:     func() stream.Processor { return &processor{definitions: definitions, observer: observer} },
		Merges:  profile.Merges,
	}
}

type processor struct {
	definitions *catalog.Catalog
	observer    Observer
}

var _ stream.Processor = (*processor)(nil)

// begin opens the person of the key and begins a turn.
func (p *processor) begin(ctx *stream.Context) (*engine.Turn, *person.Person, error) {
	tenant, id, ok := topics.SplitKey(ctx.Key())
	if !ok {
		return nil, nil, errors.New("the record's key is not tenant/profile_id")
	}
	who := person.Open(tenant, id, ctx)
	return engine.NewTurn(p.definitions.At(tenant), p.definitions, who, ctx.Now()), who, nil
}

// Process handles one record.
func (p *processor) Process(ctx *stream.Context, rec stream.Record) error {
	turn, who, err := p.begin(ctx)
	if err != nil {
		return err
	}
	switch rec.Topic {
	case topics.ProfileLog:
		err = profileLog(turn, who, rec.Value)
	case topics.Segments:
		err = segments(turn, who, rec.Value)
	case topics.Scores:
		err = scores(turn, who, rec.Value)
	default:
		err = fmt.Errorf("topic %s is no input of journeys", rec.Topic)
	}
	if err != nil {
		return err
	}
	return p.finish(ctx, turn, who)
}

func profileLog(turn *engine.Turn, who *person.Person, value []byte) error {
	var rec profilev1.ProfileRecord
	if err := rec.UnmarshalVT(value); err != nil {
		return fmt.Errorf("decoding a profile record: %w", err)
	}
	if err := sameTenant(rec.GetTenant(), who); err != nil {
		return err
	}
	switch body := rec.GetBody().(type) {
	case *profilev1.ProfileRecord_Event:
		if body.Event.GetEvent() == nil {
			return errors.New("the resolved event is empty")
		}
		turn.Event(body.Event)
	case *profilev1.ProfileRecord_MergeAnnounced:
		turn.MergeAnnounced(body.MergeAnnounced)
	case *profilev1.ProfileRecord_MergedInto:
		// The runtime hands the state over; nothing is left to do for the profile that ends.
	default:
		return errors.New("the profile record has no body that this version knows")
	}
	return nil
}

func segments(turn *engine.Turn, who *person.Person, value []byte) error {
	var rec segmentv1.MembershipChanged
	if err := rec.UnmarshalVT(value); err != nil {
		return fmt.Errorf("decoding a change of membership: %w", err)
	}
	if rec.GetState() == segmentv1.MembershipState_MEMBERSHIP_STATE_UNSPECIFIED {
		return errors.New("the change of membership does not say which way")
	}
	if err := sameTenant(rec.GetTenant(), who); err != nil {
		return err
	}
	turn.Flip(&rec)
	return nil
}

func scores(turn *engine.Turn, who *person.Person, value []byte) error {
	var rec scorev1.ScoreChanged
	if err := rec.UnmarshalVT(value); err != nil {
		return fmt.Errorf("decoding a change of score: %w", err)
	}
	if err := sameTenant(rec.GetTenant(), who); err != nil {
		return err
	}
	turn.Score(&rec)
	return nil
}

func sameTenant(tenant string, who *person.Person) error {
	if tenant != who.Tenant {
		return errors.New("the record's tenant is not that of its key")
	}
	return nil
}

// Timer handles one timer that is due.
func (p *processor) Timer(ctx *stream.Context, timer stream.Timer) error {
	turn, who, err := p.begin(ctx)
	if err != nil {
		return err
	}
	if timer.ID == timerSettle {
		turn.Settle()
	} else if name, ok := strings.CutPrefix(timer.ID, timerJourney); ok {
		turn.Wake(name, string(timer.Payload))
	}
	return p.finish(ctx, turn, who)
}

// Merge takes over the state of a profile that ended.
func (p *processor) Merge(dst *stream.Context, src *stream.Source) error {
	turn, who, err := p.begin(dst)
	if err != nil {
		return err
	}
	tenant, id, ok := topics.SplitKey(src.Key())
	if !ok || tenant != who.Tenant {
		return errors.New("the merged key is not a profile of the same tenant")
	}
	ended := person.OpenEnded(tenant, id, src)
	turn.Merge(ended)
	if err := ended.Err(); err != nil {
		return fmt.Errorf("merging: %w", err)
	}
	return p.finish(dst, turn, who)
}

// finish saves the state and carries out the effects.
func (p *processor) finish(ctx *stream.Context, turn *engine.Turn, who *person.Person) error {
	if err := who.Save(); err != nil {
		return err
	}
	for _, change := range turn.Timers {
		id := timerSettle
		if change.Journey != "" {
			id = timerJourney + change.Journey
		}
		if change.Due.IsZero() {
			ctx.CancelTimer(id)
			continue
		}
		ctx.SetTimer(id, change.Due, []byte(change.Instance))
	}
	for _, step := range turn.Steps {
		value, err := step.MarshalVT()
		if err != nil {
			return fmt.Errorf("encoding a journey step: %w", err)
		}
		ctx.Emit(topics.Steps, ctx.Key(), value)
	}
	for _, send := range turn.Sends {
		value, err := send.MarshalVT()
		if err != nil {
			return fmt.Errorf("encoding a send: %w", err)
		}
		ctx.Emit(topics.Sends, ctx.Key(), value)
	}
	p.observer.Decided(&turn.Effects)
	return nil
}
