package wire

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
)

// fillIdentity promotes every usable identifier of the event; the first becomes its anchor: the anonymous
// id, else the user id, else the best of the others (e-mail, external ids in their order, device ids).
func (d *Decoder) fillIdentity(ev *eventv1.Event, call Call, e envelope, layers layers) *Problem {
	tried := 0
	take := func(namespace, value string, given bool) string {
		if !given {
			return ""
		}
		tried++
		return d.usable(namespace, value)
	}
	anonymous := take(identifier.AnonymousID, d.identifierText(e.anonymousID), e.anonymousID != none)
	user := take(identifier.UserID, d.userText(e), e.userID != none || d.payload.userID != "")
	if anonymous != "" && anonymous == user {
		anonymous = "" // a client without anonymous ids: no link
		d.out.SelfLinks++
	}
	ev.AnonymousId, ev.UserId = anonymous, user
	if anonymous != "" {
		d.event.add(identifier.AnonymousID, anonymous)
	}
	if user != "" {
		d.event.add(identifier.UserID, user)
	}
	if call == Alias {
		d.fillPrevious(ev, e)
	}
	if email, given := d.email(call, e, layers); given {
		tried++
		if value := d.usable(identifier.Email, email); value != "" {
			d.event.add(identifier.Email, value)
		}
	}
	tried += d.externalIDs(layers) + d.deviceIDs(layers)
	if ev.Identifiers = d.event.pointers; len(ev.Identifiers) > 0 {
		return nil
	}
	if tried > 0 {
		return problem(NoUsableIdentifier, "every identifier is blank or stands for nobody (null, 0, anonymous, …): send userId or anonymousId")
	}
	return problem(NoIdentifier, "the event has neither userId nor anonymousId: send one of them")
}

// usable is an identifier in its one form; blank, and counted, if it is refused.
func (d *Decoder) usable(namespace, value string) string {
	value, refusal := d.source.Identifiers.Normalise(namespace, value)
	if refusal != identifier.OK {
		d.out.Identifiers[refusal]++
	}
	return value
}

// fillPrevious takes the identifier that an alias replaces. It is promoted as an anonymous id, which is
// what clients alias from; one that is a known user's stands in previous_id alone, where identity applies
// its limits to it.
func (d *Decoder) fillPrevious(ev *eventv1.Event, e envelope) {
	previous := d.usable(identifier.AnonymousID, d.identifierText(e.previousID))
	if previous != "" && previous == ev.UserId {
		d.out.SelfLinks++
		return
	}
	if ev.PreviousId = previous; previous != "" && ev.UserId != "" {
		d.event.add(identifier.AnonymousID, previous)
	}
}

// userText is the item's userId, else the batch's.
func (d *Decoder) userText(e envelope) string {
	if e.userID != none {
		return d.identifierText(e.userID)
	}
	if d.payload.userID == "" {
		return ""
	}
	return scalarText(d.payload.userID)
}

// identifierText reads a member that may be a string or a number; blank for anything else.
func (d *Decoder) identifierText(m int32) string {
	if m == none {
		return ""
	}
	return scalarText(d.item.raw(m))
}

// scalarText is a JSON string or number as text. A whole number has no exponent and no fraction: 1e3, 1000.0
// and 1000 are one user.
func scalarText(raw string) string {
	switch c := raw[0]; {
	case c == '"':
		return unquote(raw)
	case c != '-' && (c < '0' || c > '9'):
		return ""
	}
	if !strings.ContainsAny(raw, ".eE") {
		return raw
	}
	f, err := strconv.ParseFloat(raw, 64)
	const exact = 1 << 53
	if err != nil || f != float64(int64(f)) || f > exact || f < -exact {
		return raw
	}
	return strconv.FormatInt(int64(f), 10)
}

// email is the address in the traits of the person, not of a group.
func (d *Decoder) email(call Call, e envelope, layers layers) (string, bool) {
	if call == Identify && e.traits != none {
		if m := d.item.find(d.item.children(e.traits), "email"); d.item.kind(m) == '"' {
			return d.item.str(m), true
		}
	}
	if t, m := layers.find("traits", "email"); t != nil && t.kind(m) == '"' {
		return t.str(m), true
	}
	return "", false
}

// externalIDs promotes context.externalIds of collection "users" and returns how many there were.
func (d *Decoder) externalIDs(layers layers) int {
	t, list := layers.find("externalIds")
	if t == nil || t.kind(list) != '[' {
		return 0
	}
	tried := 0
	gjson.Parse(t.raw(list)).ForEach(func(_, entry gjson.Result) bool {
		namespace, value := externalID(entry)
		if namespace == "" || value == "" {
			return true
		}
		tried++
		if value = d.usable(namespace, value); value != "" {
			d.event.add(namespace, value)
		}
		return tried < maxIdentifiers
	})
	return tried
}

// externalID reads {"id", "type", "collection": "users", "encoding": "none"}; blank if it is no usable one.
func externalID(entry gjson.Result) (namespace, value string) {
	if !entry.IsObject() {
		return "", ""
	}
	collection, encoding := "users", "none"
	entry.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "id":
			value = scalarText(v.Raw)
		case "type":
			namespace = namespaceOf(v.Str)
		case "collection":
			collection = v.Str
		case "encoding":
			encoding = v.Str
		}
		return true
	})
	if collection != "users" || encoding != "none" {
		return "", ""
	}
	return namespace, value
}

// maxNamespace is the longest name of a namespace.
const maxNamespace = 64

// namespaceOf is the type of an external id as a namespace: what would make a key ambiguous is refused.
func namespaceOf(kind string) string {
	kind = strings.TrimSpace(kind)
	if kind == "" || len(kind) > maxNamespace || kind == "profile_id" {
		return ""
	}
	for i := range len(kind) {
		if c := kind[i]; c <= ' ' || c == ':' || c == '/' || c >= 0x7f {
			return ""
		}
	}
	return kind
}

// deviceIDs promotes the ids of a device under the names that Segment gives them: `ios.id`, `ios.idfa`,
// `ios.push_token`. The advertising id counts only if tracking is allowed.
func (d *Decoder) deviceIDs(layers layers) (tried int) {
	if t, _ := layers.find("device"); t == nil {
		return 0
	}
	kind := strings.ToLower(namespaceOf(layers.str("device", "type")))
	if kind == "" {
		return 0
	}
	add := func(suffix, value string) {
		if value == "" {
			return
		}
		tried++
		if value = d.usable(kind+suffix, value); value != "" {
			d.event.add(kind+suffix, value)
		}
	}
	add(".id", layers.str("device", "id"))
	if t, m := layers.find("device", "adTrackingEnabled"); t != nil && t.raw(m) == "true" {
		add(".idfa", layers.str("device", "advertisingId"))
	}
	add(".push_token", layers.str("device", "token"))
	return tried
}
