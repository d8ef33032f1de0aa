package wire

import (
	"io"
	"time"

	"github.com/tidwall/gjson"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
)

// Call is one endpoint of the API.
type Call uint8

// The calls. Import is Batch on the historical lane.
const (
	Track Call = iota
	Identify
	Page
	Screen
	Group
	Alias
	Batch
	Import
)

// String is the call's name in paths and metrics.
func (c Call) String() string {
	return [...]string{"track", "identify", "page", "screen", "group", "alias", "batch", "import"}[c]
}

// Many is true for calls that carry a batch.
func (c Call) Many() bool { return c == Batch || c == Import }

const (
	// MaxBatchEvents is how many events a batch may hold; those beyond are refused one by one.
	MaxBatchEvents = 2500
	// MaxImportEvents is the same for an import.
	MaxImportEvents = 10_000
	// surplusFactor times that many, and the whole batch is refused: a refusal costs memory, too.
	surplusFactor = 2
	// maxEncodedBytes is the largest event that is handed out: brokers take a record of a megabyte by
	// default (message.max.bytes), less what the record and its batch add.
	maxEncodedBytes = 1_000_000
	// MaxExpandedBytes bounds what a batch may grow to when its root context is written under every event.
	MaxExpandedBytes = 16 << 20
)

// Source is the producer that a write key stands for, with its limits resolved.
type Source struct {
	Tenant, Name string
	// MaxEventBytes and MaxImportEventBytes bound one event.
	MaxEventBytes, MaxImportEventBytes int
	// HistoryAfter is the age from which an event is historical.
	HistoryAfter time.Duration
	// ServerSide is true if the producer runs on servers: the address it calls from says nothing of a person.
	ServerSide bool
	// Identifiers is what the tenant refuses.
	Identifiers identifier.Policy
}

// Arrival is how a request came in.
type Arrival struct {
	// Now is when.
	Now time.Time
	// ClientIP is the address of the caller, blank if unknown.
	ClientIP string
	// Server is true if the caller says that it is a server, whatever its source is.
	Server bool
	// Entropy makes message ids where the producer gave none.
	Entropy io.Reader
	// Admit sees each event before it is handed out; it may change the event, or refuse it. Nil lets all pass.
	Admit func(*eventv1.Event) *Problem
}

// payload is a body that is JSON, taken apart as far as its root. It views the body's bytes.
type payload struct {
	call         Call
	size         int
	text         string
	writeKey     string
	items        int
	batch        string
	context      string
	integrations string
	sentAt       string
	userID       string
}

// readRoot reads the root members of a batch.
func (p *payload) readRoot() *Problem {
	var batch gjson.Result
	gjson.Parse(p.text).ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "batch":
			batch = v
		case "context":
			p.context = v.Raw
		case "integrations":
			p.integrations = v.Raw
		case "sentAt":
			p.sentAt = v.Raw
		case "userId":
			p.userID = v.Raw
		case "writeKey":
			p.writeKey = v.Str
		}
		return true
	})
	if !batch.IsArray() {
		return problem(NoBatch, "the body has no array \"batch\"")
	}
	p.batch = batch.Raw
	limit := surplusFactor * p.maxEvents()
	batch.ForEach(func(_, _ gjson.Result) bool {
		p.items++
		return p.items <= limit
	})
	if p.items > limit {
		return problem(BatchTooLong, "the batch holds more than %d events; at most %d are taken at once", limit, p.maxEvents())
	}
	p.context, p.integrations = objectOrNone(p.context), objectOrNone(p.integrations)
	if p.expanded() > MaxExpandedBytes {
		return problem(RootTooLarge, "context and integrations of %d bytes under each of %d events: send fewer events at once", len(p.context)+len(p.integrations), p.items)
	}
	return nil
}

// expanded is about how many bytes the events take once the root is written under each of them.
func (p *payload) expanded() int {
	return p.size + p.items*(len(p.context)+len(p.integrations))
}

func (p *payload) maxEvents() int {
	if p.call == Import {
		return MaxImportEvents
	}
	return MaxBatchEvents
}

// objectOrNone ignores a root member that is no object: it would be merged into nothing.
func objectOrNone(raw string) string {
	if raw == "" || raw[0] != '{' {
		return ""
	}
	return raw
}
