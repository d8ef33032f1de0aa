// Package processor is the stage `outcomes` on the stream runtime: it drops reports that it has seen and
// writes each outcome once, as an outcome and as an event of the profile.
//
// Reports arrive at least once: a delivery that was cut short after the provider's answer, a pixel
// fetched twice. Exactly once holds within Remember of the first report; TestReportsBecomeOutcomesOnce
// would catch its loss.
package processor

import (
	"errors"
	"fmt"
	"time"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/outcome"
)

// Remember is how long the id of an outcome is known.
const Remember = 90 * 24 * time.Hour

// Topology is the stage.
func Topology() stream.Topology {
	return stream.Topology{
		Name:    "outcomes",
		Inputs:  []string{topics.Reports},
		Outputs: []string{topics.Outcomes, topics.Events},
		New:     func() stream.Processor { return processor{} },
	}
}

type processor struct{}

const seen = "seen/"

// Process writes the outcome of a report that was not seen before.
func (processor) Process(ctx *stream.Context, rec stream.Record) error {
	var o deliveryv1.Outcome
	if err := o.UnmarshalVT(rec.Value); err != nil {
		return fmt.Errorf("decoding a report: %w", err)
	}
	if o.GetOutcomeId() == "" || o.GetTenant() == "" || o.GetProfileId() == "" {
		return errors.New("a report needs outcome_id, tenant and profile_id")
	}
	name := seen + o.GetOutcomeId()
	if _, known := ctx.Get(name); known {
		return nil
	}
	ctx.Put(name, []byte{1})
	ctx.SetTimer(name, ctx.Now().Add(Remember), nil)
	ctx.Emit(topics.Outcomes, topics.Key(o.GetTenant(), o.GetProfileId()), rec.Value)

	event, err := outcome.Event(&o)
	if err != nil || event == nil {
		return err
	}
	raw, err := event.MarshalVT()
	if err != nil {
		return fmt.Errorf("encoding the event of an outcome: %w", err)
	}
	ctx.Emit(topics.Events, topics.Key(o.GetTenant(), "profile_id:"+o.GetProfileId()), raw)
	return nil
}

// Timer forgets an id.
func (processor) Timer(ctx *stream.Context, timer stream.Timer) error {
	ctx.Delete(timer.ID)
	return nil
}

// Merge is never called: a report keeps the profile of its send, and the event of it follows the merge.
func (processor) Merge(*stream.Context, *stream.Source) error { return nil }
