package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/journal"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/outcome"
)

const (
	// defaultAttempts is how often a send is tried if its channel does not say: with the back-off of
	// package delivery the last try comes after about two minutes.
	defaultAttempts = 8
	// unknownAttempts is how often a send looks for a channel or a template that is not there: a
	// definition may reach this instance seconds after it reached the journey.
	unknownAttempts = 4
)

// job is one send on its way.
type job struct {
	ref  journal.Ref
	lane string
	send *deliveryv1.Send
}

func reference(partition int32, c parcel) journal.Ref {
	return journal.Ref{Partition: partition, Offset: c.offset, Send: sendKey(c.send.GetTenant(), c.send.GetSendId())}
}

// deliver brings a send to its outcome and has it reported. It returns ctx's error if it was interrupted
// before there was an outcome; other errors are those of the journal and of the report.
func (d *Dispatcher) deliver(ctx context.Context, j job, report func(*deliveryv1.Outcome) error) error {
	state, raw, err := d.journal.Get(j.ref)
	if err != nil {
		return err
	}
	if state == journal.Done {
		var o deliveryv1.Outcome
		if err := o.UnmarshalVT(raw); err == nil {
			return report(&o)
		}
		// A damaged entry is as good as one of an attempt whose end is not known.
		state = journal.Attempting
	}
	result, err := d.try(ctx, j, state == journal.Attempting)
	if err != nil {
		return err
	}
	if raw, err = result.MarshalVT(); err != nil {
		return err
	}
	if err := d.journal.Finish(j.ref, raw); err != nil {
		return err
	}
	d.outcomesN.Add(ctx, 1, metric.WithAttributes(
		attribute.String("tenant", j.send.GetTenant()), attribute.String("channel", j.send.GetChannel()),
		attribute.String("outcome", outcome.Word(result.GetType())), attribute.String("reason", result.GetReason())))
	return report(result)
}

// try makes attempts until there is an outcome. Channel and template are looked up for each, so that a
// correction reaches what waits.
func (d *Dispatcher) try(ctx context.Context, j job, ambiguous bool) (*deliveryv1.Outcome, error) {
	made, failures := 0, 0
	for {
		channel, err := d.once(ctx, j, ambiguous, &made)
		if err == nil {
			return d.outcome(j, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, made, ""), nil
		}
		var infra *infraError
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) || errors.As(err, &infra) {
			return nil, err
		}
		if errors.Is(err, errClosed) {
			//nolint:gosec // chance spreads load here, it guards nothing
			if !sleep(ctx, breakFor+rand.N(time.Second)) {
				return nil, ctx.Err()
			}
			continue
		}
		f := delivery.AsFailure(err)
		if f.Kind == delivery.Ambiguous && channel.GetAmbiguous() == definitionv1.Ambiguity_AMBIGUITY_GIVE_UP {
			return d.outcome(j, deliveryv1.OutcomeType_OUTCOME_TYPE_UNKNOWN, max(made, 1), f.Reason), nil
		}
		if f.Kind != delivery.Throttled {
			failures++ // a provider that asks to wait has refused nothing
		}
		if f.Kind == delivery.Permanent || failures >= attemptsOf(channel, f) {
			return d.failure(j, made, f), nil
		}
		//nolint:gosec // chance spreads load here, it guards nothing
		if !sleep(ctx, delivery.Wait(f, failures+1, rand.Float64())) {
			return nil, ctx.Err()
		}
	}
}

func attemptsOf(channel *definitionv1.Channel, f *delivery.Failure) int {
	switch most := int(channel.GetMaxAttempts()); {
	case f.Reason == unknownChannel || f.Reason == unknownTemplate:
		return unknownAttempts
	case most > 0:
		return most
	default:
		return defaultAttempts
	}
}

// Reasons for sends whose definitions are not there.
const (
	unknownChannel  = "channel_unknown"
	unknownTemplate = "template_unknown"
)

// once makes one attempt with the definitions as they are now, and counts it in made if it came to one.
func (d *Dispatcher) once(ctx context.Context, j job, ambiguous bool, made *int) (*definitionv1.Channel, error) {
	snapshot := d.definitions.Snapshot()
	def := snapshot.Channel(j.send.GetTenant(), j.send.GetChannel())
	if def == nil {
		return nil, &delivery.Failure{Kind: delivery.Temporary, Reason: unknownChannel, Err: errors.New("there is no such channel")}
	}
	channel := def.GetChannel()
	if ambiguous && *made == 0 && channel.GetAmbiguous() == definitionv1.Ambiguity_AMBIGUITY_GIVE_UP {
		return channel, &delivery.Failure{Kind: delivery.Ambiguous, Reason: "interrupted", Err: errors.New("the process ended during an attempt")}
	}
	template := snapshot.Template(j.send.GetTenant(), j.send.GetTemplate())
	if template == nil {
		return channel, &delivery.Failure{Kind: delivery.Temporary, Reason: unknownTemplate, Err: errors.New("there is no such template")}
	}
	message, err := d.renderer.Render(j.send, template.GetTemplate(), d.clock.Now())
	if err != nil {
		return channel, err
	}
	lane, err := d.lanes.of(j.lane, def)
	if err != nil {
		// A secret that is not there yet is put right by people: that takes attempts as other trouble does.
		return channel, &delivery.Failure{Kind: delivery.Temporary, Reason: "channel_setup", Err: err}
	}
	err = lane.attempt(ctx, message, attemptHooks{
		begin:  func() error { return d.journal.Begin(j.ref) },
		failed: func() error { return d.journal.Failed(j.ref) },
		made: func(err error) {
			*made++
			d.count(ctx, j, err)
		},
	})
	return channel, err
}

func (d *Dispatcher) failure(j job, attempts int, f *delivery.Failure) *deliveryv1.Outcome {
	kind := deliveryv1.OutcomeType_OUTCOME_TYPE_FAILED
	if f.Bounce {
		kind = deliveryv1.OutcomeType_OUTCOME_TYPE_BOUNCED
	}
	return d.outcome(j, kind, attempts, f.Reason)
}

func (d *Dispatcher) outcome(j job, kind deliveryv1.OutcomeType, attempts int, reason string) *deliveryv1.Outcome {
	o := outcome.Of(j.send, kind, d.clock.Now())
	o.Attempts, o.Reason = int32(attempts), reason
	return o
}

// sleep waits for d of the wall's time; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
