package app_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// Every browser may ask before it sends, and read every answer, errors included.
func TestPreflight(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	const shop = "https://shop.example"
	asks := []string{"authorization,content-type", "anonymousid,authorization,content-type,sentat", "content-type,x-write-key"}
	for _, path := range []string{"/v1/t", "/v1/batch", "/beacon/v1/batch", "/api/s/track"} {
		for _, headers := range asks {
			got := s.do(http.MethodOptions, path, "", nil, "Origin", shop, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", headers)
			require.Equal(t, 204, got.status)
			require.Equal(t, shop, got.header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, "true", got.header.Get("Access-Control-Allow-Credentials"))
			require.Equal(t, headers, got.header.Get("Access-Control-Allow-Headers"))
			require.Equal(t, "POST, OPTIONS", got.header.Get("Access-Control-Allow-Methods"))
			require.Equal(t, "900", got.header.Get("Access-Control-Max-Age"))
		}
	}
	got := s.do(http.MethodOptions, "/sourceConfig/", "", nil, "Origin", shop, "Access-Control-Request-Headers", "authorization")
	require.Equal(t, "GET, HEAD, OPTIONS", got.header.Get("Access-Control-Allow-Methods"))
	got = s.post("/v1/t", "", oneTrack, "Origin", shop)
	require.Equal(t, 401, got.status)
	require.Equal(t, shop, got.header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, got.header.Get("Vary"), "Origin")
	require.Contains(t, got.header.Get("Access-Control-Expose-Headers"), "X-RateLimit-Reset")
	require.Empty(t, s.post("/v1/t", webKey, oneTrack).header.Get("Access-Control-Allow-Origin"), "a server asks for none of this")
}

// A source may name the sites whose pages send to it.
func TestAllowedOrigins(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	for origin, want := range map[string]int{
		"": 200, "https://shop.example": 200, "https://www.bank.example:8443": 200, "https://a.b.bank.example:8443": 200,
		"http://shop.example": 403, "https://shop.example.evil.example": 403, "https://bank.example:8443": 403, "https://www.bank.example": 403,
		"https://evilbank.example:8443": 403, "null": 403,
	} {
		var headers []string
		if origin != "" {
			headers = []string{"Origin", origin}
		}
		for _, key := range []string{ownKey, ""} {
			body := oneTrack
			if key == "" {
				body = `{"writeKey":"` + ownKey + `",` + oneTrack[1:]
			}
			got := s.post("/v1/track", key, body, headers...)
			require.Equal(t, want, got.status, origin)
			if want == 200 {
				require.Equal(t, origin, got.header.Get("Access-Control-Allow-Origin"))
			} else {
				require.Empty(t, got.header.Get("Access-Control-Allow-Origin"), origin)
			}
		}
		require.Equal(t, want, s.do(http.MethodGet, "/v1/projects/"+ownKey+"/settings", "", nil, headers...).status, origin)
		require.Equal(t, want, s.do(http.MethodGet, "/sourceConfig/", ownKey, nil, headers...).status, origin)
	}
	require.Len(t, s.events(), 8)
}

// A pixel is an image whatever comes of it; a good one is an event.
func TestPixel(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	data := base64.StdEncoding.EncodeToString([]byte(`{"writeKey":"` + webKey + `","event":"Mail Opened>>>???","userId":"u","messageId":"segment","properties":{"subject":"Hi"}}`))
	for path, accepted := range map[string]bool{
		"/pixel/v1/track?writeKey=" + webKey + "&event=Seen&anonymousId=%22a%22&messageId=rudder&properties.product.id=p-1&properties.product.name=Pen&context.page.path=/x": true,
		"/pixel/v1/page?writeKey=" + webKey + "&name=Home&userId=u&messageId=page":                                                                                           true,
		"/v1/pixel/track?data=" + data:                              true,
		"/pixel/v1/track?writeKey=" + webKey + "&anonymousId=a":     false, // no event name
		"/pixel/v1/track?writeKey=wk_nobody&event=E&userId=u":       false,
		"/pixel/v1/track?event=E&userId=u":                          false,
		"/pixel/v1/track?writeKey=" + serverKey + "&data=" + data:   false, // two keys
		"/v1/pixel/track?data=" + data[:10] + "*":                   false,
		"/pixel/v1/page?writeKey=" + closedKey + "&userId=u&name=n": false,
	} {
		before := len(s.events())
		got := s.do(http.MethodGet, path, "", nil, "User-Agent", "Mail/1.0", "Referer", "https://shop.example/p")
		require.Equal(t, 200, got.status, path)
		require.Equal(t, "image/gif", got.header.Get("Content-Type"))
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
		require.Equal(t, "image/gif", http.DetectContentType([]byte(got.body)))
		require.Equal(t, accepted, len(s.events()) == before+1, path)
	}
	ev := s.event("rudder")
	require.Equal(t, "Seen", ev.GetName())
	require.Equal(t, "a", ev.GetAnonymousId())
	require.JSONEq(t, `{"product":{"id":"p-1","name":"Pen"}}`, string(ev.GetProperties()))
	require.JSONEq(t, `{"page":{"path":"/x","url":"https://shop.example/p"},"userAgent":"Mail/1.0","ip":"127.0.0.1"}`, string(ev.GetContext()))
	require.Equal(t, "Mail Opened>>>???", s.event("segment").GetName())
	require.Equal(t, "Home", s.event("page").GetName())
	require.Equal(t, "no_event", s.ledger()[0].GetReason())
	require.Equal(t, 405, s.post("/pixel/v1/track", webKey, oneTrack).status)
}

// A beacon has no headers: its key stands in the address, as it may nowhere else but on a pixel.
func TestBeacon(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	batch := `{"batch":[{"type":"track",` + oneTrack[1:] + `]}`
	require.Equal(t, 200, s.post("/beacon/v1/batch?writeKey="+webKey, "", batch, "Content-Type", "text/plain;charset=UTF-8").status)
	require.Equal(t, 401, s.post("/beacon/v1/batch?writeKey="+webKey, serverKey, batch).status)
	require.Equal(t, 401, s.post("/v1/batch?writeKey="+webKey, "", batch).status)
	require.Len(t, s.events(), 1)
}

// What Segment's browser SDK reads before it sends: send here, and nothing to anybody else.
func TestSegmentSettings(t *testing.T) {
	broker := startBroker(t)
	s := start(t, broker.ListenAddrs(), nil)
	read := func(s *stack, headers ...string) (out struct {
		Integrations map[string]struct{ APIKey, APIHost, Protocol string }
		Metrics      struct{ SampleRate float64 }
	}) {
		got := s.do(http.MethodGet, "/v1/projects/"+webKey+"/settings", "", nil, headers...)
		require.Equal(t, 200, got.status)
		require.NoError(t, json.Unmarshal([]byte(got.body), &out))
		require.Len(t, out.Integrations, 1)
		require.Equal(t, webKey, out.Integrations["Segment.io"].APIKey)
		require.Zero(t, out.Metrics.SampleRate)
		return out
	}
	host := s.server.Listener.Addr().String()
	require.Equal(t, host+"/v1", read(s, "X-Forwarded-Host", "evil.example").Integrations["Segment.io"].APIHost, "whoever is no proxy says nothing")
	require.Equal(t, "http", read(s).Integrations["Segment.io"].Protocol)
	proxied := start(t, broker.ListenAddrs(), func(c *app.Config) { c.TrustedProxies = []string{"127.0.0.0/8"} })
	out := read(proxied, "X-Forwarded-Host", "events.shop.example", "X-Forwarded-Proto", "https")
	require.Equal(t, "events.shop.example/v1", out.Integrations["Segment.io"].APIHost)
	require.Equal(t, "https", out.Integrations["Segment.io"].Protocol)
	public := start(t, broker.ListenAddrs(), func(c *app.Config) { c.PublicURL = "https://shop.example/events/" })
	require.Equal(t, "shop.example/events/v1", read(public).Integrations["Segment.io"].APIHost)
	require.Equal(t, 401, s.do(http.MethodGet, "/v1/projects/wk_nobody/settings", "", nil).status)
	require.Equal(t, 404, s.do(http.MethodGet, "/v1/projects/"+closedKey+"/settings", "", nil).status)
	require.Equal(t, 405, s.post("/v1/projects/"+webKey+"/settings", "", "").status)
}

// The same for RudderStack's.
func TestRudderStackSourceConfig(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	for key, enabled := range map[string]bool{webKey: true, closedKey: false} {
		got := s.do(http.MethodGet, "/sourceConfig/?p=npm&v=3.34.1&writeKey="+key, key, nil)
		require.Equal(t, 200, got.status)
		var out struct {
			Source struct {
				ID, WriteKey string
				Enabled      bool
				Config       map[string]any
				Destinations []any
			}
		}
		require.NoError(t, json.Unmarshal([]byte(got.body), &out))
		require.Equal(t, enabled, out.Source.Enabled)
		require.Equal(t, key, out.Source.WriteKey)
		require.NotEmpty(t, out.Source.ID)
		require.NotNil(t, out.Source.Config)
		require.NotNil(t, out.Source.Destinations)
		require.NotContains(t, got.body, "acme", "tenants are nobody's business")
	}
	require.Equal(t, 200, s.do(http.MethodGet, "/sourceConfig?writeKey="+webKey, "", nil).status)
	require.Equal(t, 401, s.do(http.MethodGet, "/sourceConfig/", "", nil).status)
}

// The scripts of the snippet come from the operator's folder, and nothing else does.
func TestScripts(t *testing.T) {
	broker := startBroker(t)
	folder := t.TempDir()
	write := func(name string) { require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(name), 0o600)) }
	write("standalone.js")
	write("ajs-destination.bundle.40.js")
	write("secret.txt")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(folder), "outside.js"), nil, 0o600))
	require.NoError(t, os.Symlink("../outside.js", filepath.Join(folder, "link.js")))
	s := start(t, broker.ListenAddrs(), func(c *app.Config) { c.ScriptsDir = folder })
	for path, want := range map[string]string{
		"/analytics.js/v1/" + webKey + "/analytics.min.js":     "standalone.js",
		"/analytics-next/bundles/ajs-destination.bundle.40.js": "ajs-destination.bundle.40.js",
	} {
		got := s.do(http.MethodGet, path, "", nil)
		require.Equal(t, 200, got.status, path)
		require.Equal(t, want, got.body)
		require.Equal(t, "text/javascript; charset=utf-8", got.header.Get("Content-Type"))
	}
	for _, path := range []string{"/analytics.js/v1/wk_nobody/analytics.min.js", "/analytics.js/v1/" + closedKey + "/analytics.min.js"} {
		require.GreaterOrEqual(t, s.do(http.MethodGet, path, "", nil).status, 401, path)
	}
	for _, path := range []string{"secret.txt", "link.js", "..%2foutside.js", "none.js", "%2e%2e/outside.js"} {
		require.Equal(t, 404, s.do(http.MethodGet, "/analytics-next/bundles/"+path, "", nil).status, path)
	}
	bare := start(t, broker.ListenAddrs(), nil)
	require.Equal(t, 404, bare.do(http.MethodGet, "/analytics.js/v1/"+webKey+"/analytics.min.js", "", nil).status)
}

func TestHealthAndVersion(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	require.Equal(t, 200, s.do(http.MethodGet, "/health", "", nil).status)
	require.Contains(t, s.do(http.MethodGet, "/version", "", nil).body, `"version":`)
	require.NoError(t, s.app.Stop(t.Context()))
	require.Equal(t, 503, s.do(http.MethodGet, "/health", "", nil).status)
}
