// Package outcome names what becomes of a send and turns it into an event. It is pure.
//
// An outcome's id is derived from the send and from what happened, so that the same report twice is one
// outcome: a send is delivered once, opened once, and each of its links is clicked once.
package outcome

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// Source is the source of the events that Sillage writes itself.
const Source = "channel-connector"

// words are the short names of outcome types, in ids and event names.
var words = map[deliveryv1.OutcomeType]string{
	deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED:    "delivered",
	deliveryv1.OutcomeType_OUTCOME_TYPE_FAILED:       "failed",
	deliveryv1.OutcomeType_OUTCOME_TYPE_BOUNCED:      "bounced",
	deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED:       "opened",
	deliveryv1.OutcomeType_OUTCOME_TYPE_CLICKED:      "clicked",
	deliveryv1.OutcomeType_OUTCOME_TYPE_UNSUBSCRIBED: "unsubscribed",
	deliveryv1.OutcomeType_OUTCOME_TYPE_UNKNOWN:      "unknown",
}

// Word is the short name of an outcome type; empty for one that is none.
func Word(t deliveryv1.OutcomeType) string { return words[t] }

// Of begins the outcome of a send.
func Of(send *deliveryv1.Send, kind deliveryv1.OutcomeType, now time.Time) *deliveryv1.Outcome {
	o := &deliveryv1.Outcome{
		SendId: send.GetSendId(), Tenant: send.GetTenant(), ProfileId: send.GetProfileId(), Channel: send.GetChannel(),
		Journey: send.GetJourney(), Step: send.GetStep(), Template: send.GetTemplate(), Type: kind, AtMs: now.UnixMilli(),
	}
	o.OutcomeId = ID(o)
	return o
}

// ID is the id of an outcome. What machines and people do are different outcomes.
func ID(o *deliveryv1.Outcome) string {
	id := o.GetSendId() + ":" + words[o.GetType()]
	if o.GetUrl() != "" {
		sum := sha256.Sum256([]byte(o.GetUrl()))
		id += ":" + base64.RawURLEncoding.EncodeToString(sum[:6])
	}
	if o.GetMachine() {
		id += ":machine"
	}
	return id
}

// properties are those of the event.
type properties struct {
	SendID   string `json:"send_id"`
	Channel  string `json:"channel"`
	Journey  string `json:"journey"`
	Step     string `json:"step"`
	Template string `json:"template"`
	URL      string `json:"url,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// Event is the outcome as an event of the profile, or nil for what a machine did: that moves nothing.
func Event(o *deliveryv1.Outcome) (*eventv1.Event, error) {
	word := words[o.GetType()]
	if o.GetMachine() || word == "" {
		return nil, nil
	}
	raw, err := json.Marshal(properties{
		SendID: o.GetSendId(), Channel: o.GetChannel(), Journey: o.GetJourney(), Step: o.GetStep(),
		Template: o.GetTemplate(), URL: o.GetUrl(), Reason: o.GetReason(),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the event of an outcome: %w", err)
	}
	return &eventv1.Event{
		MessageId: o.GetOutcomeId(), Tenant: o.GetTenant(), Source: Source, Type: eventv1.EventType_EVENT_TYPE_TRACK,
		Name:        "Message " + strings.ToUpper(word[:1]) + word[1:],
		Identifiers: []*eventv1.Identifier{{Namespace: "profile_id", Value: o.GetProfileId()}},
		TimestampMs: o.GetAtMs(), OriginalTimestampMs: o.GetAtMs(), ReceivedAtMs: o.GetAtMs(),
		Properties: raw, Internal: true,
	}, nil
}
