package app_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

const oneTrack = `{"event":"Order Completed","userId":"u-1","messageId":"m-1"}`

func TestEveryPath(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	bodies := map[string]string{
		"identify": `{"userId":"u","traits":{"plan":"pro"}}`, "i": `{"userId":"u","traits":{"plan":"pro"}}`,
		"track": oneTrack, "t": oneTrack, "track/": oneTrack,
		"page": `{"userId":"u","name":"Home"}`, "p": `{"userId":"u","name":"Home"}`,
		"screen": `{"userId":"u","name":"Home"}`, "s": `{"userId":"u","name":"Home"}`,
		"group": `{"userId":"u","groupId":"g"}`, "g": `{"userId":"u","groupId":"g"}`,
		"alias": `{"userId":"u","previousId":"a"}`, "a": `{"userId":"u","previousId":"a"}`,
		"batch": `{"batch":[{"type":"track",` + oneTrack[1:] + `]}`, "b": `{"batch":[{"type":"track",` + oneTrack[1:] + `]}`,
		"import": `{"batch":[{"type":"track","timestamp":"2020-01-01",` + oneTrack[1:] + `]}`,
		"/track": oneTrack, // a host with a slash at its end
	}
	for path, body := range bodies {
		got := s.post("/v1/"+path, webKey, body)
		require.Equal(t, 200, got.status, path)
		require.Equal(t, `{"success":true}`, got.body)
		require.Equal(t, "application/json", got.header.Get("Content-Type"))
	}
	events := s.events()
	require.Len(t, events, len(bodies))
	for _, ev := range events {
		require.Equal(t, "acme", ev.GetTenant())
		require.Equal(t, "web", ev.GetSource())
		require.Equal(t, arrivedAt.UnixMilli(), ev.GetReceivedAtMs())
		require.Contains(t, string(ev.GetContext()), `"ip":"127.0.0.1"`, "a browser's address is the person's")
	}
	require.Equal(t, 404, s.post("/v1/nonsense", webKey, oneTrack).status)
	require.Equal(t, 404, s.post("/v2/track", webKey, oneTrack).status)
	got := s.do(http.MethodGet, "/v1/track", webKey, nil)
	require.Equal(t, 405, got.status)
	require.Equal(t, "POST, OPTIONS", got.header.Get("Allow"))
}

func TestWriteKeys(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	basic := func(text string) []string {
		return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(text))}
	}
	withKey := `{"writeKey":"` + webKey + `",` + oneTrack[1:]
	cases := map[string]struct {
		body    string
		headers []string
		status  int
		says    string
	}{
		"Basic with colon":        {oneTrack, basic(webKey + ":"), 200, ""},
		"Basic without colon":     {oneTrack, basic(webKey), 200, ""},
		"Basic without padding":   {oneTrack, []string{"Authorization", "basic " + base64.RawStdEncoding.EncodeToString([]byte(webKey+":"))}, 200, ""},
		"key in the body":         {withKey, nil, 200, ""},
		"Bearer and key in body":  {withKey, []string{"Authorization", "Bearer token"}, 200, ""},
		"the same key twice":      {withKey, basic(webKey + ":"), 200, ""},
		"two different keys":      {withKey, basic(serverKey + ":"), 401, "different write keys"},
		"X-Write-Key":             {oneTrack, []string{"X-Write-Key", webKey}, 200, ""},
		"X-Write-Key id:secret":   {oneTrack, []string{"X-Write-Key", webKey + ":secret"}, 200, ""},
		"a key that is a pair":    {`{"writeKey":"jitsu-id:***",` + oneTrack[1:], []string{"X-Write-Key", jitsuKey}, 200, ""},
		"half of a pair":          {oneTrack, []string{"X-Write-Key", "jitsu-id:wrong"}, 401, "invalid write key"},
		"X-Write-Key and Basic":   {oneTrack, append(basic(serverKey+":"), "X-Write-Key", webKey), 401, "different write keys"},
		"the mask alone":          {`{"writeKey":"***",` + oneTrack[1:], nil, 401, "invalid write key"},
		"no key":                  {oneTrack, nil, 401, "no write key"},
		"unknown key":             {oneTrack, basic("wk_nobody:"), 401, "invalid write key"},
		"unknown key in the body": {`{"writeKey":"wk_nobody",` + oneTrack[1:], nil, 401, "invalid write key"},
		"key that is a number":    {`{"writeKey":7,` + oneTrack[1:], nil, 401, "no write key"},
		"disabled source":         {oneTrack, basic(closedKey + ":"), 404, "disabled"},
		"not base64":              {oneTrack, []string{"Authorization", "Basic ***"}, 401, "no write key"},
		"blank user name":         {oneTrack, basic(":" + webKey), 401, "no write key"},
		"blank user, key in body": {withKey, basic(":"), 200, ""},
	}
	accepted := 0
	for name, c := range cases {
		got := s.post("/v1/track", "", c.body, c.headers...)
		require.Equal(t, c.status, got.status, name)
		if c.status == 200 {
			accepted++
			continue
		}
		message, _ := got.says(t)
		require.Contains(t, message, c.says, name)
		require.NotContains(t, got.body, "wk_", name)
	}
	require.Len(t, s.events(), accepted)
	require.Empty(t, s.ledger(), "whoever has no key writes nothing")

	batch := s.post("/v1/batch", "", `{"batch":[{"type":"track",`+oneTrack[1:]+`],"writeKey":"`+serverKey+`"}`)
	require.Equal(t, 200, batch.status)
}

func TestJSONWhateverTheContentType(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	for _, kind := range []string{"application/json", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "nonsense"} {
		require.Equal(t, 200, s.post("/v1/t", webKey, oneTrack, "Content-Type", kind).status, kind)
	}
	// RudderStack's Node client: gzip that says it is a form.
	got := s.do(http.MethodPost, "/v1/batch", webKey, gzipped(t, `{"batch":[{"type":"track",`+oneTrack[1:]+`]}`),
		"Content-Encoding", "gzip", "Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, 200, got.status)
	require.Len(t, s.events(), 6)
}

func TestSingleCallIsRefused(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	large := `{"event":"E","userId":"u","messageId":"m-big","properties":{"x":"` + strings.Repeat("x", 33<<10) + `"}}`
	cases := []struct{ body, code, says string }{
		{`{"event":"E","messageId":"m-none"}`, "no_user_anon_id", "anonymousId"},
		{`{"userId":"u"}`, "no_event", "event"},
		{large, "event_too_large", "32768"},
		{`{"userId":`, "bad_json", "byte 10"},
		{``, "bad_json", "empty"},
	}
	for _, c := range cases {
		got := s.post("/v1/track", webKey, c.body)
		require.Equal(t, 400, got.status)
		message, code := got.says(t)
		require.Equal(t, c.code, code)
		require.Contains(t, message, c.says)
	}
	entries := s.ledger()
	require.Len(t, entries, len(cases), "every refusal is in the ledger")
	for i, entry := range entries {
		require.Equal(t, cases[i].code, entry.GetReason())
		require.Equal(t, "acme", entry.GetTenant())
		require.NotEmpty(t, entry.GetDetail())
	}
	require.Equal(t, "m-none", entries[0].GetMessageId())
	require.Equal(t, "m-big", entries[2].GetMessageId())
	require.Empty(t, s.events())
}

func TestBatchKeepsTheGood(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	large := strings.Repeat("x", 33<<10)
	body := `{"batch":[
		{"type":"track","event":"A","userId":"u","messageId":"m0"},
		{"type":"track","event":"B","messageId":"m1"},
		{"type":"track","event":"C","userId":"u","messageId":"m2","properties":{"x":"` + large + `"}},
		{"type":"track","event":"D","userId":"u","messageId":"m3"}]}`
	require.Equal(t, `{"success":true}`, s.post("/v1/batch", webKey, body).body)
	for _, header := range []string{"X-Sillage-Verbose", "X-CDP-Verbose"} {
		got := s.post("/v1/batch", webKey, body, header, "1")
		require.Equal(t, 200, got.status)
		require.JSONEq(t, `{"success":true,"accepted":2,"rejected":[
			{"index":1,"messageId":"m1","code":"no_user_anon_id","message":"the event has neither userId nor anonymousId: send one of them"},
			{"index":2,"messageId":"m2","code":"event_too_large","message":"the event has 33872 bytes; the source allows 32768"}]}`, got.body)
	}
	require.Len(t, s.events(), 6)
	require.Len(t, s.ledger(), 6)

	all := s.post("/v1/batch", webKey, `{"batch":[{"type":"track"}]}`)
	require.Equal(t, 200, all.status)
	require.Equal(t, 200, s.post("/v1/batch", webKey, `{"batch":[]}`).status)
	require.Equal(t, 400, s.post("/v1/batch", webKey, `{"userId":"u"}`).status)
}

func Test2501Events(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	item := `{"type":"track","event":"E","userId":"u"}`
	got := s.post("/v1/batch", webKey, `{"batch":[`+strings.Repeat(item+",", 2500)+item+`]}`, "X-Sillage-Verbose", "1")
	require.Equal(t, 200, got.status)
	require.Contains(t, got.body, `"accepted":2500`)
	require.Contains(t, got.body, `"index":2500`)
	require.Len(t, s.events(), 2500)
	require.Equal(t, "too_many_events", s.ledger()[0].GetReason())
}

func TestSourceLimits(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	event := `{"event":"E","userId":"u","properties":{"x":"` + strings.Repeat("x", 300) + `"}}`
	_, code := s.post("/v1/track", smallKey, event).says(t)
	require.Equal(t, "event_too_large", code)
	body := `{"writeKey":"` + smallKey + `","batch":[{"type":"track","event":"E","userId":"u"}],"pad":"` + strings.Repeat("x", 1000) + `"}`
	for _, key := range []string{smallKey, ""} {
		got := s.post("/v1/batch", key, body)
		require.Equal(t, 400, got.status)
		message, code := got.says(t)
		require.Equal(t, "body_too_large", code)
		require.Contains(t, message, "1000")
	}
	require.Equal(t, 400, s.post("/v1/import", smallKey, `{"batch":[],"pad":"`+strings.Repeat("x", 2000)+`"}`).status)
	require.Equal(t, 200, s.post("/v1/import", smallKey, `{"batch":[],"pad":"`+strings.Repeat("x", 1500)+`"}`).status)
	require.Equal(t, 200, s.post("/v1/import", webKey, `{"batch":[],"pad":"`+strings.Repeat("x", 1<<20)+`"}`).status, "an import has limits of its own")
	require.Equal(t, 400, s.post("/v1/batch", webKey, `{"batch":[],"pad":"`+strings.Repeat("x", 1<<20)+`"}`).status)
	require.Len(t, s.ledger(), 5)
}

func TestTooLargeMayBe413(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.TooLargeStatus413 = true })
	require.Equal(t, 413, s.post("/v1/batch", smallKey, strings.Repeat(" ", 1001)).status)
}

func TestRateLimit(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), func(c *app.Config) { c.RateLimit = app.RateLimit{RequestsPerSecond: 0.5, Burst: 2} })
	for range 2 {
		require.Equal(t, 200, s.post("/v1/track", webKey, oneTrack).status)
	}
	got := s.post("/v1/track", webKey, oneTrack)
	require.Equal(t, 429, got.status)
	require.Equal(t, "2", got.header.Get("Retry-After"))
	require.Equal(t, "2", got.header.Get("X-RateLimit-Reset"))
	require.Equal(t, 200, s.post("/v1/track", serverKey, oneTrack).status, "each source has its own bucket")
	s.clock.Advance(2_000_000_000)
	require.Equal(t, 200, s.post("/v1/track", webKey, oneTrack).status)
}

func TestSourceAndTenantSettingsReachTheEvent(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	require.Equal(t, 200, s.post("/v1/track", serverKey, `{"event":"E","userId":"Kiosk","anonymousId":"a","timestamp":"2026-11-18T00:00:00Z"}`).status)
	require.Equal(t, 200, s.post("/v1/track", webKey, `{"event":"E","anonymousId":"a","timestamp":"2026-11-18T00:00:00Z"}`).status)
	for _, ev := range s.events() {
		fromServer := ev.GetSource() == "server"
		require.Empty(t, ev.GetUserId())
		require.Equal(t, !fromServer, ev.GetHistorical(), "the server's history begins after 7 days, the site's after one")
		require.Equal(t, fromServer, ev.GetContext() == nil, "a server's address is nobody's")
	}
}

func TestImportTwiceChangesNothing(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	body := `{"batch":[{"type":"identify","userId":"u","timestamp":"2019-05-01","traits":{"a":1}},{"type":"track","event":"E","userId":"u","timestamp":1556668800}]}`
	require.Equal(t, 200, s.post("/v1/import", webKey, body).status)
	s.clock.Advance(3600_000_000_000)
	require.Equal(t, 200, s.post("/v1/import", webKey, body).status)
	ids := map[string]int{}
	for _, ev := range s.events() {
		ids[ev.GetMessageId()]++
		require.True(t, ev.GetHistorical())
		require.False(t, ev.GetServerMessageId())
	}
	require.Len(t, ids, 2)
	for id, n := range ids {
		require.Equal(t, 2, n, id)
	}
}

// The root of a batch stands under every item; what the item says wins, one object within another.
func TestBatchRoot(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	require.Equal(t, 200, s.post("/v1/batch", serverKey, `{
		"messageId":"of-the-batch", "sentAt":"2026-11-21T09:15:31Z",
		"context":{"app":{"name":"shop","version":"1"},"ip":"192.0.2.1","page":{"path":"/"}}, "integrations":{"All":true,"Mail":false},
		"batch":[
			{"type":"track","event":"A","userId":"u","messageId":"m0","timestamp":"2026-11-21T09:15:01Z","context":{"app":{"version":"2"},"page":"none"},"integrations":{"All":false}},
			{"type":"track","event":"B","userId":"u","messageId":"m1","timestamp":"2026-11-21T09:15:01Z","sentAt":"2026-11-21T09:15:11Z"}]}`).status)
	a, b := s.event("m0"), s.event("m1")
	require.JSONEq(t, `{"app":{"name":"shop","version":"2"},"ip":"192.0.2.1","page":"none"}`, string(a.GetContext()))
	require.JSONEq(t, `{"All":false,"Mail":false}`, string(a.GetIntegrations()))
	require.JSONEq(t, `{"app":{"name":"shop","version":"1"},"ip":"192.0.2.1","page":{"path":"/"}}`, string(b.GetContext()))
	require.Equal(t, arrivedAt.Add(-30*time.Second).UnixMilli(), a.GetTimestampMs(), "the batch's sentAt")
	require.Equal(t, arrivedAt.Add(-10*time.Second).UnixMilli(), b.GetTimestampMs(), "its own sentAt")
}

// timestamp = receivedAt - (sentAt - originalTimestamp), within the guards. The event happened 30 seconds
// before it was sent unless the case says otherwise; it arrives at 10:15:31.
func TestTimeIsCorrected(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	cases := map[string]struct {
		timestamp, original, sent string
		ago                       time.Duration
		historical                bool
	}{
		"right clock":                      {"2026-11-21T10:15:01Z", "", "2026-11-21T10:15:31Z", 30 * time.Second, false},
		"two hours slow":                   {"2026-11-21T08:15:01Z", "", "2026-11-21T08:15:31Z", 30 * time.Second, false},
		"two hours fast":                   {"2026-11-21T12:15:01Z", "", "2026-11-21T12:15:31Z", 30 * time.Second, false},
		"originalTimestamp of RudderStack": {"2020-01-01T00:00:00Z", "2026-11-21T08:15:01Z", "2026-11-21T08:15:31Z", 30 * time.Second, false},
		"with an offset":                   {"2026-11-21T11:15:01+01:00", "", "2026-11-21T10:15:31.000Z", 30 * time.Second, false},
		"without a zone it is UTC":         {"2026-11-21T10:15:01", "", "2026-11-21 10:15:31", 30 * time.Second, false},
		"without sentAt it is trusted":     {"2026-11-21T08:15:31Z", "", "", 2 * time.Hour, false},
		"no time at all":                   {"", "", "", 0, false},
		"sent before it happened":          {"2026-11-21T10:15:31Z", "", "2026-11-21T10:15:01Z", 0, false},
		"a clock wrong by two days":        {"2026-11-19T10:15:01Z", "", "2026-11-19T10:15:31Z", 0, false},
		"an hour ahead":                    {"2026-11-21T11:15:31Z", "", "", -5 * time.Minute, false},
		"queued for two days":              {"2026-11-19T10:15:31Z", "", "2026-11-21T10:15:31Z", 48 * time.Hour, true},
	}
	for name, c := range cases {
		fields := ""
		for field, value := range map[string]string{"timestamp": c.timestamp, "originalTimestamp": c.original, "sentAt": c.sent} {
			if value != "" {
				fields += fmt.Sprintf(`,%q:%q`, field, value)
			}
		}
		require.Equal(t, 200, s.post("/v1/track", webKey, fmt.Sprintf(`{"event":"E","userId":"u","messageId":%q%s}`, name, fields)).status, name)
	}
	for name, c := range cases {
		ev := s.event(name)
		require.Equal(t, c.ago, arrivedAt.Sub(time.UnixMilli(ev.GetTimestampMs())), name)
		require.Equal(t, c.historical, ev.GetHistorical(), name)
		require.Equal(t, arrivedAt.UnixMilli(), ev.GetReceivedAtMs(), name)
	}
}

// Who an event is about: numbers are text, what stands for nobody is dropped, nothing is linked to itself.
func TestIdentifiers(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	cases := map[string]struct {
		path, body string
		want       []string
	}{
		"numeric":                 {"track", `{"event":"E","userId":42,"anonymousId":7.0}`, []string{"anonymous_id:7", "user_id:42"}},
		"trimmed":                 {"track", `{"event":"E","userId":"  u  "}`, []string{"user_id:u"}},
		"nobody":                  {"track", `{"event":"E","userId":"null","anonymousId":"a"}`, []string{"anonymous_id:a"}},
		"nobody, quoted":          {"track", `{"event":"E","userId":"\"undefined\"","anonymousId":"a"}`, []string{"anonymous_id:a"}},
		"zeros":                   {"track", `{"event":"E","userId":"u","anonymousId":"00000000-0000-0000-0000-000000000000"}`, []string{"user_id:u"}},
		"the tenant's own nobody": {"track", `{"event":"E","userId":"KIOSK","anonymousId":"a"}`, []string{"anonymous_id:a"}},
		"e-mail":                  {"identify", `{"userId":"u","traits":{"email":" Ada@Example.com "}}`, []string{"user_id:u", "email:ada@example.com"}},
		"e-mail of the context":   {"track", `{"event":"E","userId":"u","context":{"traits":{"email":"ada@example.com"}}}`, []string{"user_id:u", "email:ada@example.com"}},
		"e-mail of a group":       {"group", `{"userId":"u","groupId":"g","traits":{"email":"info@example.com"}}`, []string{"user_id:u"}},
		"external":                {"track", `{"event":"E","userId":"u","context":{"externalIds":[{"id":"c-1","type":"crm","collection":"users","encoding":"none"},{"id":"x","type":"firm","collection":"accounts"}]}}`, []string{"user_id:u", "crm:c-1"}},
		"a device":                {"track", `{"event":"E","userId":"u","context":{"device":{"type":"ios","id":"d","advertisingId":"ad","adTrackingEnabled":false,"token":"t"}}}`, []string{"user_id:u", "ios.id:d", "ios.push_token:t"}},
		"alias":                   {"alias", `{"previousId":"a","userId":"u"}`, []string{"user_id:u", "anonymous_id:a"}},
		"alias loop":              {"alias", `{"previousId":"u","userId":"u"}`, []string{"user_id:u"}},
		"RudderStack's Go client": {"track", `{"event":"E","userId":"u","anonymousId":"u"}`, []string{"user_id:u"}},
	}
	for name, c := range cases {
		require.Equal(t, 200, s.post("/v1/"+c.path, webKey, `{"messageId":"`+name+`",`+c.body[1:]).status, name)
	}
	for name, c := range cases {
		var got []string
		for _, id := range s.event(name).GetIdentifiers() {
			got = append(got, id.GetNamespace()+":"+id.GetValue())
		}
		require.Equal(t, c.want, got, name)
	}
	_, code := s.post("/v1/track", webKey, `{"event":"E","userId":"null","anonymousId":0}`).says(t)
	require.Equal(t, "no_usable_identifier", code)
}

// A message id is the producer's, 1 to 100 characters; otherwise the server makes one and says so.
func TestMessageIDs(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	long := strings.Repeat("x", 101)
	for given, want := range map[string]string{`"m"`: "m", `"  m 2 "`: "m 2", `"m\u0000\n3"`: "m3", `""`: "", `"  "`: "", `null`: "", `"` + long + `"`: ""} {
		require.Equal(t, 200, s.post("/v1/track", webKey, `{"event":`+strconv.Quote("id "+want)+`,"userId":"u","messageId":`+given+`}`).status, given)
	}
	for _, ev := range s.events() {
		want := strings.TrimPrefix(ev.GetName(), "id")
		if want = strings.TrimPrefix(want, " "); want != "" {
			require.Equal(t, want, ev.GetMessageId())
			require.False(t, ev.GetServerMessageId())
			continue
		}
		require.True(t, ev.GetServerMessageId())
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, ev.GetMessageId())
	}
}

// Jitsu's client: a path for each call, the key in X-Write-Key, its copy in the body masked.
func TestJitsu(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	bodies := map[string]string{
		"identify": `"userId":"u","traits":{"plan":"pro"}`, "track": `"event":"E","userId":"u"`,
		"page": `"anonymousId":"a","name":"Home"`, "group": `"userId":"u","groupId":"g"`,
	}
	for call, body := range bodies {
		for _, from := range []string{"", "s2s/"} {
			got := s.post("/api/s/"+from+call, "", `{"type":"`+call+`","messageId":"`+from+call+`","writeKey":"jitsu-id:***",`+body+`}`, "X-Write-Key", jitsuKey)
			require.Equal(t, 200, got.status, from+call)
			require.Equal(t, `{"success":true}`, got.body)
		}
	}
	for call := range bodies {
		require.Contains(t, string(s.event(call).GetContext()), `"ip"`, "a browser")
		require.NotContains(t, string(s.event("s2s/"+call).GetContext()), `"ip"`, "a server's address is nobody's")
	}
}

func TestOrderOfOneIdentity(t *testing.T) {
	s := start(t, startBroker(t).ListenAddrs(), nil)
	var items []string
	for i := range 300 {
		items = append(items, fmt.Sprintf(`{"type":"track","event":"%d","userId":"u-%d"}`, i, i%7))
	}
	for range 3 {
		require.Equal(t, 200, s.post("/v1/batch", webKey, `{"batch":[`+strings.Join(items, ",")+`]}`).status)
	}
	seen := map[string][]*eventv1.Event{}
	for _, ev := range s.events() {
		seen[ev.GetUserId()] = append(seen[ev.GetUserId()], ev)
	}
	require.Len(t, seen, 7)
	for user, events := range seen {
		var want []string
		for range 3 {
			for i := range 300 {
				if fmt.Sprintf("u-%d", i%7) == user {
					want = append(want, fmt.Sprint(i))
				}
			}
		}
		var got []string
		for _, ev := range events {
			got = append(got, ev.GetName())
		}
		require.Equal(t, want, got)
	}
}
