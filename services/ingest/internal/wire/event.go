package wire

import (
	"strings"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// envelope is where the known members of one event stand on the item's tape.
type envelope struct {
	kind, event, name, category              int32
	userID, anonymousID, previousID, groupID int32
	messageID                                int32
	timestamp, originalTimestamp, sentAt     int32
	context, traits, properties, integration int32
}

func readEnvelope(t *tape) envelope {
	e := envelope{none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none}
	for m := t.root; m != none; m = t.members[m].next {
		if t.kind(m) == 'n' {
			continue // null is the same as absent
		}
		if at := e.slot(t.key(m)); at != nil {
			*at = m
		}
	}
	return e
}

// slot is where a member of that name is noted; nil for one that is not known.
func (e *envelope) slot(key string) *int32 { //nolint:cyclop // a table: the compiler searches it faster than a map
	switch key {
	case "type":
		return &e.kind
	case "event":
		return &e.event
	case "name":
		return &e.name
	case "category":
		return &e.category
	case "userId":
		return &e.userID
	case "anonymousId":
		return &e.anonymousID
	case "previousId":
		return &e.previousID
	case "groupId":
		return &e.groupID
	case "messageId":
		return &e.messageID
	case "timestamp":
		return &e.timestamp
	case "originalTimestamp":
		return &e.originalTimestamp
	case "sentAt":
		return &e.sentAt
	case "context":
		return &e.context
	case "traits":
		return &e.traits
	case "properties":
		return &e.properties
	case "integrations":
		return &e.integration
	}
	return nil
}

// build makes the event that stands on the item's tape.
func (d *Decoder) build() (*eventv1.Event, *Problem) {
	t := &d.item
	e := readEnvelope(t)
	call, bad := d.callOf(e)
	if bad != nil {
		return nil, bad
	}
	if bad := checkObjects(t, e); bad != nil {
		return nil, bad
	}
	ev := d.event.reset()
	ev.Type = call.eventType()
	ev.Tenant, ev.Source = d.source.Tenant, d.source.Name
	if bad := d.fillTimes(ev, e); bad != nil {
		return nil, bad
	}
	layers := d.contextLayers(e)
	if bad := d.fillIdentity(ev, call, e, layers); bad != nil {
		return nil, bad
	}
	if bad := d.fillNames(ev, call, e); bad != nil {
		return nil, bad
	}
	id, made, err := d.messageID(d.identifierText(e.messageID))
	if err != nil {
		return nil, problem(BadField, "messageId: the server could make none; send one")
	}
	ev.MessageId, ev.ServerMessageId = id, made
	d.fillDocuments(ev, call, e, layers)
	d.fillPage(ev, call, e, layers)
	d.fillCampaign(ev, layers)
	ev.Consent = consentOf(layers)
	return ev, nil
}

// callOf is the call that the item makes: by its path, in a batch by its type.
func (d *Decoder) callOf(e envelope) (Call, *Problem) {
	if !d.payload.call.Many() {
		return d.payload.call, nil
	}
	switch d.item.str(e.kind) {
	case "track":
		return Track, nil
	case "identify":
		return Identify, nil
	case "page":
		return Page, nil
	case "screen":
		return Screen, nil
	case "group":
		return Group, nil
	case "alias":
		return Alias, nil
	}
	return 0, problem(UnknownType, "type: must be identify, track, page, screen, group or alias")
}

func (c Call) eventType() eventv1.EventType {
	switch c {
	case Track:
		return eventv1.EventType_EVENT_TYPE_TRACK
	case Identify:
		return eventv1.EventType_EVENT_TYPE_IDENTIFY
	case Page:
		return eventv1.EventType_EVENT_TYPE_PAGE
	case Screen:
		return eventv1.EventType_EVENT_TYPE_SCREEN
	case Group:
		return eventv1.EventType_EVENT_TYPE_GROUP
	case Alias:
		return eventv1.EventType_EVENT_TYPE_ALIAS
	default: // a batch is as many events as it has items
		return eventv1.EventType_EVENT_TYPE_UNSPECIFIED
	}
}

func checkObjects(t *tape, e envelope) *Problem {
	for _, f := range [...]struct {
		name string
		at   int32
	}{{"context", e.context}, {"traits", e.traits}, {"properties", e.properties}, {"integrations", e.integration}} {
		if f.at != none && t.kind(f.at) != '{' {
			return problem(BadField, "%s: must be a JSON object", f.name)
		}
	}
	return nil
}

func (d *Decoder) fillTimes(ev *eventv1.Event, e envelope) *Problem {
	ev.ReceivedAtMs = d.nowMs
	ev.OriginalTimestampMs = d.timeAt(e.originalTimestamp)
	if ev.OriginalTimestampMs == 0 {
		ev.OriginalTimestampMs = d.timeAt(e.timestamp)
	}
	if ev.OriginalTimestampMs == 0 && d.payload.call == Import {
		return problem(NoTimestamp, "timestamp: an import needs one on every item, as ISO 8601 or epoch milliseconds")
	}
	if ev.SentAtMs = d.timeAt(e.sentAt); ev.SentAtMs == 0 {
		ev.SentAtMs = d.sentMs
	}
	verdict := d.at(ev.OriginalTimestampMs, ev.SentAtMs)
	ev.TimestampMs, ev.Historical = verdict.TimestampMs, verdict.Historical
	return nil
}

func (d *Decoder) timeAt(m int32) int64 {
	if m == none {
		return 0
	}
	return timeOf(d.item.raw(m))
}

// fillNames sets what a call is about and refuses a call that does not say it.
func (d *Decoder) fillNames(ev *eventv1.Event, call Call, e envelope) *Problem {
	t := &d.item
	switch call {
	case Track:
		if ev.Name = strings.TrimSpace(t.str(e.event)); ev.Name == "" {
			return problem(NoEventName, "event: a track call needs the event's name, a string that is not blank")
		}
	case Page, Screen:
		properties := t.children(e.properties)
		ev.Name = firstText(t.str(e.name), t.str(t.find(properties, "name")))
		ev.Category = firstText(t.str(e.category), t.str(t.find(properties, "category")))
	case Group:
		if ev.GroupId = strings.TrimSpace(d.identifierText(e.groupID)); ev.GroupId == "" {
			return problem(NoGroupID, "groupId: a group call needs one")
		}
	case Alias:
		if strings.TrimSpace(d.identifierText(e.previousID)) == "" {
			return problem(NoPreviousID, "previousId: an alias call needs one")
		}
		if strings.TrimSpace(d.identifierText(e.userID)) == "" && ev.UserId == "" {
			return problem(NoUserID, "userId: an alias call needs one")
		}
	default: // identify is about its user alone; a batch is not one item
	}
	return nil
}

func firstText(a, b string) string {
	if a = strings.TrimSpace(a); a != "" {
		return a
	}
	return strings.TrimSpace(b)
}

// fillDocuments sets the JSON objects and what is read from properties.
func (d *Decoder) fillDocuments(ev *eventv1.Event, call Call, e envelope, layers layers) {
	t := &d.item
	ev.Properties = object(t, e.properties)
	if call == Identify || call == Group {
		ev.Traits = object(t, e.traits)
	}
	if call == Identify && ev.Traits == nil { // RudderStack's clients put them there
		if own, traits := layers.find("traits"); own != nil {
			ev.Traits = object(own, traits)
		}
	}
	ev.Context = d.merge(layers)
	ev.Integrations = d.mergeIntegrations(e)
	if e.properties != none {
		fillValue(ev, t, e.properties)
	}
}

// object is the text of an object member; nil for anything else.
func object(t *tape, m int32) []byte {
	if t.kind(m) != '{' {
		return nil
	}
	return bytesOf(t.raw(m))
}

// fillValue reads what the event is worth: revenue, else value, else total.
func fillValue(ev *eventv1.Event, t *tape, properties int32) {
	revenue, value, total, currency := none, none, none, none
	for m := t.children(properties); m != none; m = t.members[m].next {
		switch t.key(m) {
		case "revenue":
			revenue = m
		case "value":
			value = m
		case "total":
			total = m
		case "currency":
			currency = m
		}
	}
	for _, m := range [...]int32{revenue, value, total} {
		if amount, ok := amountOf(t, m); ok {
			ev.ValueMicros = amount
			break
		}
	}
	ev.Currency = currencyCode(t.str(currency))
}

// amountOf reads a number, also one that is written as a string.
func amountOf(t *tape, m int32) (int64, bool) {
	switch c := t.kind(m); {
	case c == '"':
		return micros(t.str(m))
	case c == '-' || c >= '0' && c <= '9':
		return micros(t.raw(m))
	}
	return 0, false
}

// reset empties the scratch event.
func (s *scratch) reset() *eventv1.Event {
	s.event.Reset()
	s.pointers = s.pointers[:0]
	return &s.event
}

// add appends an identifier unless the event has it already or has too many.
func (s *scratch) add(namespace, value string) {
	for _, id := range s.pointers {
		if id.Value == value && id.Namespace == namespace {
			return
		}
	}
	if len(s.pointers) == maxIdentifiers {
		return
	}
	id := &s.slots[len(s.pointers)]
	id.Reset()
	id.Namespace, id.Value = namespace, value
	s.pointers = append(s.pointers, id)
}
