package wire

import (
	"strings"
	"time"

	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
	"github.com/sillage-cdp/sillage/services/ingest/internal/timefix"
)

// Outcome is what came of a payload besides its events.
type Outcome struct {
	// Accepted is how many events were handed out.
	Accepted int
	// Rejections are the events that were refused, in order. They stay valid.
	Rejections []Rejection
	// Identifiers counts dropped identifiers by reason.
	Identifiers [identifier.Count]int
	// Times counts events by what was done to their time.
	Times [timefix.Count]int
	// SelfLinks counts links of an identifier to itself that were dropped (alias A to A, anonymousId = userId).
	SelfLinks int
}

// Decoder takes bodies apart, one after the other, and keeps its memory between them: Parse a body, learn
// its write key, then Decode it for the source of that key. It is not safe for concurrent use; the zero
// value is ready.
type Decoder struct {
	payload payload
	source  *Source
	arrival Arrival
	nowMs   int64
	sentMs  int64
	out     Outcome

	item             tape
	itemOK           bool // the one event of a single call has been scanned and is not too deep
	rootContext      tape // the batch's context, and the caller's address where that belongs in it
	addressedContext tape // the same with the address, for an event of a server that says context.direct
	rootIntegrations tape
	event            scratch
	merged           []byte
}

// scratch is one event and the messages that it points to, used again for each event.
type scratch struct {
	event    eventv1.Event
	slots    [maxIdentifiers]eventv1.Identifier
	pointers []*eventv1.Identifier
	page     eventv1.Page
	campaign eventv1.Campaign
}

// maxIdentifiers bounds the identifiers of one event: each may link people.
const maxIdentifiers = 32

// Parse validates a body and reads its root. The decoder views body, which must not change until Decode
// has returned. After a Problem there is nothing to decode.
func (d *Decoder) Parse(call Call, body []byte) *Problem {
	d.payload = payload{call: call}
	text, bad := validate(body)
	if bad != nil {
		return bad
	}
	if root := strings.TrimLeft(text, " \t\r\n"); root[0] != '{' {
		return problem(BadJSON, "the body is JSON, but no object: send {…}")
	}
	d.payload.text, d.payload.size = text, len(text)
	if call.Many() {
		return d.payload.readRoot()
	}
	if d.itemOK = d.item.scanEvent(text); d.itemOK {
		d.payload.writeKey = d.item.str(d.item.find(d.item.root, "writeKey"))
	}
	return nil
}

// WriteKey is the write key in the body that was parsed last, blank if it holds none.
func (d *Decoder) WriteKey() string { return d.payload.writeKey }

// Expanded is about how many bytes the events of the parsed body take, with the batch's root written under
// each of them.
func (d *Decoder) Expanded() int { return d.payload.expanded() }

// Items is how many events the parsed body holds, good and bad.
func (d *Decoder) Items() int {
	if d.payload.call.Many() {
		return d.payload.items
	}
	return 1
}

// Decode hands every acceptable event of the parsed body to emit, in order. The event and all that it
// holds is valid only until emit returns.
func (d *Decoder) Decode(source *Source, arrival Arrival, emit func(*eventv1.Event)) Outcome {
	d.source, d.arrival = source, arrival
	d.nowMs, d.out = arrival.Now.UnixMilli(), Outcome{}
	d.sentMs = timeOf(d.payload.sentAt)
	d.merged = d.merged[:0]
	d.prepareRoot()
	if d.payload.call.Many() {
		d.decodeBatch(emit)
	} else {
		d.takeScanned(0, d.payload.text, d.itemOK, emit)
	}
	out := d.out
	d.payload, d.source, d.arrival, d.out = payload{}, nil, Arrival{}, Outcome{}
	return out
}

// prepareRoot scans what is merged under every item.
func (d *Decoder) prepareRoot() {
	context, ip := d.payload.context, d.arrival.ClientIP
	d.addressedContext.clear()
	if d.source.ServerSide || d.arrival.Server {
		if ip != "" && strings.Contains(d.payload.text, `"direct"`) {
			d.addressedContext.scanRoot(withIP(context, ip))
		}
	} else {
		context = withIP(context, ip)
	}
	d.rootContext.scanRoot(context)
	d.rootIntegrations.scanRoot(d.payload.integrations)
}

// withIP adds the caller's address to a context, unless it names one.
func withIP(context, ip string) string {
	if ip == "" {
		return context
	}
	own := `{"ip":"` + ip + `"`
	if context == "" || strings.TrimSpace(context[1:len(context)-1]) == "" {
		return own + "}"
	}
	if gjson.Get(context, "ip").Exists() {
		return context
	}
	return own + "," + context[1:]
}

// scanRoot scans an object; "" and what nests too deep leave an empty tape.
func (t *tape) scanRoot(text string) {
	if text == "" || !t.scanEvent(text) {
		t.clear()
	}
}

func (t *tape) clear() {
	t.text, t.root, t.members, t.frames = "", none, t.members[:0], t.frames[:0]
}

// scanEvent scans text and, if a key stands twice, a key is escaped, or a surrogate stands alone, rewrites
// it first. It returns false if the text nests too deep.
func (t *tape) scanEvent(text string) bool {
	if !t.scan(text, MaxEventDepth) {
		return false
	}
	if !t.untidy && !loneSurrogate(text) {
		return true
	}
	tidy, err := canonical(text)
	if err != nil {
		return false
	}
	return t.scan(tidy, MaxEventDepth)
}

func (d *Decoder) decodeBatch(emit func(*eventv1.Event)) {
	i, limit := 0, d.payload.maxEvents()
	gjson.Parse(d.payload.batch).ForEach(func(_, item gjson.Result) bool {
		switch {
		case i >= limit:
			d.reject(i, item.Raw, problem(TooManyEvents, "event %d of a batch; at most %d are taken at once", i+1, limit))
		case !item.IsObject():
			d.reject(i, "", problem(NotAnObject, "a batch item must be a JSON object"))
		default:
			d.take(i, item.Raw, emit)
		}
		i++
		return true
	})
}

// take decodes one event and hands it on or refuses it.
func (d *Decoder) take(index int, text string, emit func(*eventv1.Event)) {
	if len(text) > d.maxEventBytes() {
		d.takeScanned(index, text, true, emit)
		return
	}
	d.takeScanned(index, text, d.item.scanEvent(text), emit)
}

// takeScanned is take for an item that is on the tape; ok is false if it nests too deep for that.
func (d *Decoder) takeScanned(index int, text string, ok bool, emit func(*eventv1.Event)) {
	if limit := d.maxEventBytes(); len(text) > limit {
		d.reject(index, text, problem(EventTooLarge, "the event has %d bytes; the source allows %d", len(text), limit))
		return
	}
	if !ok {
		d.reject(index, "", problem(TooDeep, "the event nests deeper than %d objects and arrays", MaxEventDepth))
		return
	}
	event, bad := d.build()
	if bad != nil {
		d.reject(index, text, bad)
		return
	}
	if len(text)+len(d.rootContext.text) > maxEncodedBytes/4 && event.SizeVT() > maxEncodedBytes {
		d.reject(index, text, problem(EventTooLarge, "the event takes more than %d bytes in the log", maxEncodedBytes))
		return
	}
	if d.arrival.Admit != nil {
		if bad := d.arrival.Admit(event); bad != nil {
			d.reject(index, text, bad)
			return
		}
	}
	d.out.Accepted++
	emit(event)
}

func (d *Decoder) maxEventBytes() int {
	if d.payload.call == Import {
		return d.source.MaxImportEventBytes
	}
	return d.source.MaxEventBytes
}

// reject notes a refusal with the message id that can be found in text.
func (d *Decoder) reject(index int, text string, why *Problem) {
	r := Rejection{Index: index, Problem: *why}
	if text != "" {
		// The body's memory is used again; the refusal outlives it.
		r.MessageID = strings.Clone(cleanMessageID(gjson.Get(text, "messageId").String()))
	}
	d.out.Rejections = append(d.out.Rejections, r)
}

// timeOf reads a raw JSON value as a time; 0 if it is none.
func timeOf(raw string) int64 {
	if raw == "" {
		return 0
	}
	if raw[0] == '"' {
		raw = unquote(raw)
	}
	ms, ok := timefix.Parse(raw)
	if !ok {
		return 0
	}
	return ms
}

// at decides when the event happened.
func (d *Decoder) at(original, sent int64) timefix.Verdict {
	v := timefix.Correct(timefix.Claim{
		OriginalMs:   original,
		SentMs:       sent,
		ReceivedMs:   d.nowMs,
		Import:       d.payload.call == Import,
		HistoryAfter: max(d.source.HistoryAfter, time.Duration(0)),
	})
	d.out.Times[v.Adjustment]++
	return v
}

// keepMembers and keepMerged are how much memory a decoder keeps between bodies.
const (
	keepMembers = 4096
	keepMerged  = 256 << 10
)

// Trim lets go of the body and of memory that an unusually large one asked for.
func (d *Decoder) Trim() {
	for _, t := range []*tape{&d.item, &d.rootContext, &d.addressedContext, &d.rootIntegrations} {
		if cap(t.members) > keepMembers {
			t.members = nil
		}
		t.clear()
	}
	if cap(d.merged) > keepMerged {
		d.merged = nil
	}
	d.event.release()
	d.payload = payload{}
}

// release drops what the scratch event views.
func (s *scratch) release() {
	s.event.Reset()
	s.page.Reset()
	s.campaign.Reset()
	for _, id := range s.pointers {
		id.Reset()
	}
	s.pointers = s.pointers[:0]
}
