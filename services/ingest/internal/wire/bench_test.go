package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// BenchmarkEvent is P4: decode, validate and encode one event, beside encoding/json into a struct with
// maps and stock protobuf.
func BenchmarkEvent(b *testing.B) {
	body := []byte(sampleTrack)
	source := testSource()
	b.Run("sillage", func(b *testing.B) {
		var d Decoder
		var out []byte
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if bad := d.Parse(Track, body); bad != nil {
				b.Fatal(bad)
			}
			d.Decode(source, Arrival{Now: arrivedAt, Entropy: zeros{}}, func(ev *eventv1.Event) {
				out = out[:0]
				size := ev.SizeVT()
				if cap(out) < size {
					out = make([]byte, size)
				}
				_, _ = ev.MarshalToSizedBufferVT(out[:size])
			})
		}
	})
	b.Run("client_side", func(b *testing.B) {
		var d Decoder
		source := testSource()
		source.ServerSide = false
		b.ReportAllocs()
		for b.Loop() {
			if bad := d.Parse(Track, body); bad != nil {
				b.Fatal(bad)
			}
			d.Decode(source, Arrival{Now: arrivedAt, ClientIP: "192.0.2.7", Entropy: zeros{}}, func(*eventv1.Event) {})
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			standard(b, body)
		}
	})
}

// standardEvent is the envelope as one would write it first.
type standardEvent struct {
	Type         string         `json:"type"`
	Event        string         `json:"event"`
	UserID       string         `json:"userId"`
	AnonymousID  string         `json:"anonymousId"`
	MessageID    string         `json:"messageId"`
	Timestamp    time.Time      `json:"timestamp"`
	SentAt       time.Time      `json:"sentAt"`
	Properties   map[string]any `json:"properties"`
	Context      map[string]any `json:"context"`
	Integrations map[string]any `json:"integrations"`
}

// standard does the same work with the standard library and stock protobuf.
func standard(b *testing.B, body []byte) {
	var in standardEvent
	require.NoError(b, json.Unmarshal(body, &in))
	properties, err := json.Marshal(in.Properties)
	require.NoError(b, err)
	context, err := json.Marshal(in.Context)
	require.NoError(b, err)
	page, _ := in.Context["page"].(map[string]any)
	campaign, _ := in.Context["campaign"].(map[string]any)
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	ev := &eventv1.Event{
		MessageId: strings.TrimSpace(in.MessageID), Tenant: "acme", Source: "web", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: in.Event,
		Identifiers: []*eventv1.Identifier{{Namespace: "anonymous_id", Value: strings.TrimSpace(in.AnonymousID)}, {Namespace: "user_id", Value: strings.TrimSpace(in.UserID)}},
		AnonymousId: in.AnonymousID, UserId: in.UserID,
		TimestampMs:         arrivedAt.Add(-in.SentAt.Sub(in.Timestamp)).UnixMilli(),
		OriginalTimestampMs: in.Timestamp.UnixMilli(), SentAtMs: in.SentAt.UnixMilli(), ReceivedAtMs: arrivedAt.UnixMilli(),
		Properties: properties, Context: context,
		Page:     &eventv1.Page{Url: text(page, "url"), Path: text(page, "path"), Referrer: text(page, "referrer"), Search: text(page, "search"), Title: text(page, "title")},
		Campaign: &eventv1.Campaign{Name: text(campaign, "name"), Source: text(campaign, "source"), Medium: text(campaign, "medium")},
		Currency: strings.ToUpper(text(in.Properties, "currency")), Integrations: []byte("{}"),
	}
	_, err = proto.Marshal(ev)
	require.NoError(b, err)
}

// BenchmarkBatch100 is the decoding of a batch of 100 with a root context.
func BenchmarkBatch100(b *testing.B) {
	body := []byte(fmt.Sprintf(`{"context":{"library":{"name":"go","version":"3"},"app":{"name":"shop"}},"sentAt":"2026-11-21T10:15:31Z","batch":[%s]}`,
		strings.TrimSuffix(strings.Repeat(sampleTrack+",", 100), ",")))
	var d Decoder
	source := testSource()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if bad := d.Parse(Batch, body); bad != nil {
			b.Fatal(bad)
		}
		d.Decode(source, Arrival{Now: arrivedAt, Entropy: zeros{}}, func(*eventv1.Event) {})
	}
}
