package wire

import (
	"encoding/json"
	"testing"

	"github.com/bytedance/sonic"
	goccy "github.com/goccy/go-json"
	"github.com/tidwall/gjson"
)

// sampleTrack is a track call as a browser SDK sends it, about 1.2 kB.
const sampleTrack = `{"timestamp":"2026-11-21T10:15:30.123Z","integrations":{},"type":"track","event":"Product Viewed","userId":"user-81723","anonymousId":"0b5a6f9e-3a2b-4b57-9c7f-1f0d9f0b7a11","messageId":"ajs-next-1763719-0b5a6f9e-3a2b-4b57-9c7f-1f0d9f0b7a11","writeKey":"wk_live_0123456789","sentAt":"2026-11-21T10:15:30.456Z","properties":{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","name":"Monopoly: 3rd Edition","brand":"Hasbro","variant":"200 pieces","price":18.99,"quantity":1,"coupon":"MAYDEALS","currency":"eur","position":3,"value":18.99,"url":"https://www.example.com/product/path","image_url":"https://www.example.com/product/path.jpg"},"context":{"page":{"path":"/product/path","referrer":"https://www.google.com/","search":"?q=monopoly","title":"Monopoly: 3rd Edition","url":"https://www.example.com/product/path?q=monopoly"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36","locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris","campaign":{"name":"spring","source":"newsletter","medium":"email"}},"_metadata":{"bundled":["Segment.io"],"unbundled":[],"bundledIds":[]}}`

type benchEnvelope struct {
	Type        string          `json:"type"`
	Event       string          `json:"event"`
	UserID      json.RawMessage `json:"userId"`
	AnonymousID string          `json:"anonymousId"`
	MessageID   string          `json:"messageId"`
	Timestamp   string          `json:"timestamp"`
	SentAt      string          `json:"sentAt"`
	Properties  json.RawMessage `json:"properties"`
	Context     json.RawMessage `json:"context"`
}

// BenchmarkLibraries compares what the JSON libraries cost for the two halves of the work: is it JSON,
// and where are its fields. DESIGN.md states the choice that follows from it.
func BenchmarkLibraries(b *testing.B) {
	body := []byte(sampleTrack)
	cases := []struct {
		name string
		run  func() bool
	}{
		{"valid/encoding_json", func() bool { return json.Valid(body) }},
		{"valid/goccy", func() bool { return goccy.Valid(body) }},
		{"valid/gjson", func() bool { return gjson.ValidBytes(body) }},
		{"valid/sonic", func() bool { return sonic.Valid(body) }},
		{"fields/encoding_json", func() bool { var e benchEnvelope; return json.Unmarshal(body, &e) == nil }},
		{"fields/goccy", func() bool { var e benchEnvelope; return goccy.Unmarshal(body, &e) == nil }},
		{"fields/sonic", func() bool { var e benchEnvelope; return sonic.ConfigFastest.Unmarshal(body, &e) == nil }},
		{"fields/gjson", func() bool {
			n := 0
			gjson.ParseBytes(body).ForEach(func(_, v gjson.Result) bool { n += len(v.Raw); return true })
			return n > 0
		}},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if !c.run() {
					b.Fatal("refused")
				}
			}
		})
	}
}
