package grpcapi

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

// sent is an event and when its client sent it; 0 if the client does not say.
type sent struct {
	*ingestv1.IncomingEvent
	atMs int64
}

func appendSent(out []sent, req *ingestv1.TakeRequest) []sent {
	for _, ev := range req.GetEvents() {
		out = append(out, sent{ev, req.GetSentAtMs()})
	}
	return out
}

// appendBatch writes events as a batch of the tracking API.
func appendBatch(out []byte, events []sent) []byte {
	out = append(out, `{"batch":[`...)
	for i, ev := range events {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendEvent(out, ev)
	}
	return append(out, "]}"...)
}

// calls are the types of the tracking API; a type that is none of them is refused by its name.
var calls = map[eventv1.EventType]string{
	eventv1.EventType_EVENT_TYPE_TRACK: "track", eventv1.EventType_EVENT_TYPE_IDENTIFY: "identify", eventv1.EventType_EVENT_TYPE_PAGE: "page",
	eventv1.EventType_EVENT_TYPE_SCREEN: "screen", eventv1.EventType_EVENT_TYPE_GROUP: "group", eventv1.EventType_EVENT_TYPE_ALIAS: "alias",
}

func appendEvent(out []byte, ev sent) []byte {
	call, ok := calls[ev.GetType()]
	if !ok {
		call = ev.GetType().String()
	}
	out = appendText(append(out, `{"type":`...), call)
	name := `,"name":`
	if ev.GetType() == eventv1.EventType_EVENT_TYPE_TRACK {
		name = `,"event":`
	}
	for _, field := range [...]struct{ name, value string }{
		{`,"messageId":`, ev.GetMessageId()}, {name, ev.GetName()}, {`,"category":`, ev.GetCategory()}, {`,"userId":`, ev.GetUserId()},
		{`,"anonymousId":`, ev.GetAnonymousId()}, {`,"previousId":`, ev.GetPreviousId()}, {`,"groupId":`, ev.GetGroupId()},
	} {
		if field.value != "" {
			out = appendText(append(out, field.name...), field.value)
		}
	}
	if ev.GetTimestampMs() != 0 {
		out = appendTime(append(out, `,"timestamp":`...), ev.GetTimestampMs())
	}
	if ev.atMs != 0 {
		out = appendTime(append(out, `,"sentAt":`...), ev.atMs)
	}
	for _, field := range [...]struct {
		name  string
		value []byte
	}{
		{`,"properties":`, ev.GetProperties()}, {`,"traits":`, ev.GetTraits()}, {`,"context":`, ev.GetContext()}, {`,"integrations":`, ev.GetIntegrations()},
	} {
		if len(field.value) > 0 {
			out = appendJSON(append(out, field.name...), field.value)
		}
	}
	return append(out, '}')
}

// tooDeep stands for JSON that nests too deep: an event with it is refused for that.
var tooDeep = strings.Repeat("[", wire.MaxEventDepth) + strings.Repeat("]", wire.MaxEventDepth)

// appendJSON writes what should be JSON. What is not becomes text, which is refused as a field of the wrong
// type: it must not reach the JSON around it, nor may its depth cost the events around it.
func appendJSON(out, value []byte) []byte {
	valid, deep := wire.Value(value)
	switch {
	case deep:
		return append(out, tooDeep...)
	case valid:
		return append(out, value...)
	default:
		return append(out, `"not JSON"`...)
	}
}

func appendText(out []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			quoted, _ := json.Marshal(text) //nolint:errchkjson // text always encodes
			return append(out, quoted...)
		}
	}
	return append(append(append(out, '"'), text...), '"')
}

// lastMs is the last time that four digits of a year can write; what is later is refused like any text that
// is no time.
const lastMs = 253402300799999

func appendTime(out []byte, ms int64) []byte {
	if ms < -lastMs || ms > lastMs {
		return strconv.AppendInt(out, ms, 10)
	}
	out = append(out, '"')
	return append(time.UnixMilli(ms).UTC().AppendFormat(out, "2006-01-02T15:04:05.000Z"), '"')
}
