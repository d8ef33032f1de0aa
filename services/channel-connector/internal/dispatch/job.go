package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/delivery"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/journal"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/outcome"
)

// defaultAttempts is how often a send is tried if its channel does not say: with the back-off of package
// delivery the last try comes after about two minutes.
const defaultAttempts = 8

// job is one send on its way.
type job struct {
	partition int32
	offset    int64
	send      *deliveryv1.Send
}

// deliver brings a send to its outcome. It returns ctx's error if it was interrupted before.
func (d *Dispatcher) deliver(ctx context.Context, j job) (*deliveryv1.Outcome, error) {
	state, raw, err := d.journal.Get(j.partition, j.offset)
	if err != nil {
		return nil, err
	}
	if state == journal.Done {
		var o deliveryv1.Outcome
		return &o, o.UnmarshalVT(raw)
	}
	result := d.try(ctx, j, state == journal.Attempting)
	if result == nil {
		return nil, ctx.Err()
	}
	if raw, err = result.MarshalVT(); err != nil {
		return nil, err
	}
	return result, d.journal.Finish(j.partition, j.offset, raw)
}

// try makes attempts until there is an outcome; nil if ctx ended first.
func (d *Dispatcher) try(ctx context.Context, j job, ambiguous bool) *deliveryv1.Outcome {
	snapshot := d.definitions.Snapshot()
	def := snapshot.Channel(j.send.GetTenant(), j.send.GetChannel())
	template := snapshot.Template(j.send.GetTenant(), j.send.GetTemplate())
	if def == nil || template == nil {
		return d.failure(j, 0, &delivery.Failure{Kind: delivery.Permanent, Reason: missing(def)})
	}
	channel := def.GetChannel()
	if ambiguous && channel.GetAmbiguous() == definitionv1.Ambiguity_AMBIGUITY_GIVE_UP {
		return d.outcome(j, deliveryv1.OutcomeType_OUTCOME_TYPE_UNKNOWN, 1, "interrupted")
	}
	message, err := d.renderer.Render(j.send, template.GetTemplate(), d.clock.Now())
	if err != nil {
		return d.failure(j, 0, delivery.AsFailure(err))
	}
	lane, err := d.lanes.of(def)
	if err != nil {
		return d.failure(j, 0, &delivery.Failure{Kind: delivery.Permanent, Reason: "channel_setup", Err: err})
	}
	return d.attempts(ctx, j, channel, lane, message)
}

func missing(channel *definitionv1.Definition) string {
	if channel == nil {
		return "channel_unknown"
	}
	return "template_unknown"
}

func (d *Dispatcher) attempts(ctx context.Context, j job, channel *definitionv1.Channel, lane *lane, m delivery.Message) *deliveryv1.Outcome {
	most := int(channel.GetMaxAttempts())
	if most == 0 {
		most = defaultAttempts
	}
	for made := 0; ; {
		err := lane.attempt(ctx, m, func() error { return d.journal.Begin(j.partition, j.offset) })
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil
		}
		if errors.Is(err, errClosed) {
			if !sleep(ctx, breakFor) {
				return nil
			}
			continue
		}
		made++
		d.count(ctx, j, err)
		if err == nil {
			return d.outcome(j, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, made, "")
		}
		f := delivery.AsFailure(err)
		if f.Kind == delivery.Ambiguous && channel.GetAmbiguous() == definitionv1.Ambiguity_AMBIGUITY_GIVE_UP {
			return d.outcome(j, deliveryv1.OutcomeType_OUTCOME_TYPE_UNKNOWN, made, f.Reason)
		}
		if f.Kind == delivery.Permanent || made >= most {
			return d.failure(j, made, f)
		}
		if f.Kind != delivery.Ambiguous {
			// A lost note would only make the next start take this attempt for one that was cut short.
			_ = d.journal.Failed(j.partition, j.offset)
		}
		if !sleep(ctx, delivery.Wait(f, made+1, rand.Float64())) {
			return nil
		}
	}
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
