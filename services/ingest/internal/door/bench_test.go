package door

import (
	"testing"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/limit"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

const visit = `{"timestamp":"2026-11-21T09:59:59.123Z","integrations":{},"type":"track","event":"Product Viewed","userId":"u-1","anonymousId":"anon-1","messageId":"ajs-next-1763719-0b5a6f9e","sentAt":"2026-11-21T09:59:59.456Z","properties":{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","name":"Monopoly: 3rd Edition","brand":"Hasbro","variant":"200 pieces","price":18.99,"quantity":1,"coupon":"MAYDEALS","currency":"eur","position":3,"value":18.99,"url":"https://www.example.com/product/path","image_url":"https://www.example.com/product/path.jpg"},"context":{"page":{"path":"/product/path","referrer":"https://www.google.com/","search":"?q=monopoly","title":"Monopoly: 3rd Edition","url":"https://www.example.com/product/path?q=monopoly"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36","locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris"}}`

// BenchmarkDoor is what the door adds to decoding, validating and encoding an event of a browser (P4).
func BenchmarkDoor(b *testing.B) {
	run := func(admit func(*eventv1.Event) *wire.Problem) func(b *testing.B) {
		return func(b *testing.B) {
			var decoder wire.Decoder
			source := &wire.Source{Tenant: "acme", Name: "web", MaxEventBytes: 32 << 10}
			body, out := []byte(visit), make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if bad := decoder.Parse(wire.Track, body); bad != nil {
					b.Fatal(bad)
				}
				decoder.Decode(source, wire.Arrival{Now: now, ClientIP: "192.0.2.7", Admit: admit}, func(ev *eventv1.Event) {
					_, _ = ev.MarshalToSizedBufferVT(out[:ev.SizeVT()])
				})
			}
		}
	}
	d, r := New(nil), rules()
	r.Identity = limit.Rate{PerSecond: 1e9, Burst: 1e9}
	b.Run("without", run(nil))
	b.Run("with", run(func(ev *eventv1.Event) *wire.Problem { return d.Admit(ev, r, Visit{Now: now}).Problem }))
}
