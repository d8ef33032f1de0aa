package wire

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/identifier"
)

func ms(text string) int64 {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err) // a test helper: the literal is wrong
	}
	return at.UnixMilli()
}

func TestEveryCall(t *testing.T) {
	cases := map[Call]struct {
		body string
		want func(t *testing.T, ev *eventv1.Event)
	}{
		Track: {`{"userId":"u","event":" Order Completed ","properties":{"revenue":1.5}}`, func(t *testing.T, ev *eventv1.Event) {
			require.Equal(t, "Order Completed", ev.GetName())
			require.JSONEq(t, `{"revenue":1.5}`, string(ev.GetProperties()))
		}},
		Identify: {`{"anonymousId":"a","userId":"u","traits":{"plan":null,"name":"Ada"}}`, func(t *testing.T, ev *eventv1.Event) {
			require.JSONEq(t, `{"plan":null,"name":"Ada"}`, string(ev.GetTraits()))
			require.Equal(t, []string{"anonymous_id:a", "user_id:u"}, identifiersOf(ev))
		}},
		Page: {`{"anonymousId":"a","name":"Home","category":"Docs"}`, func(t *testing.T, ev *eventv1.Event) {
			require.Equal(t, "Home", ev.GetName())
			require.Equal(t, "Docs", ev.GetCategory())
		}},
		Screen: {`{"anonymousId":"a","properties":{"name":"Basket","category":"Shop"}}`, func(t *testing.T, ev *eventv1.Event) {
			require.Equal(t, "Basket", ev.GetName())
			require.Equal(t, "Shop", ev.GetCategory())
		}},
		Group: {`{"userId":"u","groupId":42,"traits":{"email":"office@example.com"}}`, func(t *testing.T, ev *eventv1.Event) {
			require.Equal(t, "42", ev.GetGroupId())
			require.Equal(t, []string{"user_id:u"}, identifiersOf(ev), "the group's address is no person's")
		}},
		Alias: {`{"previousId":"anon-1","userId":"u"}`, func(t *testing.T, ev *eventv1.Event) {
			require.Equal(t, "anon-1", ev.GetPreviousId())
			require.Equal(t, []string{"user_id:u", "anonymous_id:anon-1"}, identifiersOf(ev))
		}},
	}
	for call, c := range cases {
		t.Run(call.String(), func(t *testing.T) {
			single := one(t, call, c.body)
			c.want(t, single)
			require.Equal(t, "acme", single.GetTenant())
			require.Equal(t, "web", single.GetSource())
			inBatch := one(t, Batch, `{"batch":[{"type":"`+call.String()+`",`+c.body[1:]+`]}`)
			require.True(t, single.EqualVT(inBatch), "a call means the same in a batch")
		})
	}
}

func TestRootIsMergedUnderItems(t *testing.T) {
	got := decode(Batch, `{
		"messageId":"not-an-event-id", "userId":"root-user", "sentAt":"2026-11-21T10:15:31Z",
		"context":{"library":{"name":"go","version":"3"},"page":{"url":"https://a.example","title":"Root"},"tags":[1,2],"a":{"b":{"c":1}},"n":{}},
		"integrations":{"All":false,"Mail":true},
		"batch":[
			{"type":"track","event":"E","messageId":"1","timestamp":"2026-11-21T10:15:30Z"},
			{"type":"track","event":"E","messageId":"2","userId":"own","context":{"page":{"title":"Own"},"tags":[3],"a":{"b":{"d":2}},"library":"x","n":{"m":1}},"integrations":{"All":true}},
			{"type":"track","event":"E","messageId":"3","sentAt":"2026-11-21T11:15:31Z","timestamp":"2026-11-21T11:15:30Z","context":{"a":{}}}
		]}`)
	require.Nil(t, got.Problem)
	require.Empty(t, got.Rejections)
	first, second, third := got.Events[0], got.Events[1], got.Events[2]

	require.Equal(t, "root-user", first.GetUserId())
	require.JSONEq(t, `{"library":{"name":"go","version":"3"},"page":{"url":"https://a.example","title":"Root"},"tags":[1,2],"a":{"b":{"c":1}},"n":{}}`, string(first.GetContext()))
	require.JSONEq(t, `{"All":false,"Mail":true}`, string(first.GetIntegrations()))
	require.Equal(t, ms("2026-11-21T10:15:30Z"), first.GetTimestampMs())
	require.Equal(t, ms("2026-11-21T10:15:31Z"), first.GetSentAtMs())
	require.Equal(t, "1", first.GetMessageId())

	require.Equal(t, "own", second.GetUserId(), "the item wins")
	require.JSONEq(t, `{"library":"x","page":{"url":"https://a.example","title":"Own"},"tags":[3],"a":{"b":{"c":1,"d":2}},"n":{"m":1}}`, string(second.GetContext()))
	require.JSONEq(t, `{"All":true,"Mail":true}`, string(second.GetIntegrations()))
	require.Equal(t, &eventv1.Page{Url: "https://a.example", Title: "Own"}, second.GetPage())

	require.Equal(t, ms("2026-11-21T11:15:31Z"), third.GetSentAtMs(), "the item's sentAt wins")
	require.Equal(t, ms("2026-11-21T10:15:30Z"), third.GetTimestampMs(), "a clock an hour ahead is corrected")
	require.Contains(t, string(third.GetContext()), `"a":{"b":{"c":1}}`)
}

// Whatever a root and an item say, the merge is what maps would make of it.
func TestMergeEqualsMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, item := drawObject(t, 3), drawObject(t, 3)
		got := decode(Batch, fmt.Sprintf(`{"context":%s,"batch":[{"type":"track","event":"E","userId":"u","context":%s}]}`, mustJSON(root), mustJSON(item)))
		require.Nil(t, got.Problem)
		require.Len(t, got.Events, 1)
		want := mergeMaps(root, item)
		if len(want) == 0 {
			want = map[string]any{}
		}
		context := string(got.Events[0].GetContext())
		if context == "" {
			context = "{}"
		}
		require.JSONEq(t, mustJSON(want), context)
	})
}

func TestSkewedClock(t *testing.T) {
	for _, skew := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		happened, sent := arrivedAt.Add(skew-time.Minute), arrivedAt.Add(skew)
		ev := one(t, Track, fmt.Sprintf(`{"userId":"u","event":"E","timestamp":%q,"sentAt":%q}`, happened.Format(time.RFC3339Nano), sent.Format(time.RFC3339Nano)))
		require.Equal(t, arrivedAt.Add(-time.Minute).UnixMilli(), ev.GetTimestampMs())
		require.Equal(t, happened.UnixMilli(), ev.GetOriginalTimestampMs())
		require.Equal(t, sent.UnixMilli(), ev.GetSentAtMs())
		require.Equal(t, arrivedAt.UnixMilli(), ev.GetReceivedAtMs())
	}
	ev := one(t, Track, `{"userId":"u","event":"E","receivedAt":"2001-01-01T00:00:00Z","originalTimestamp":"2026-11-21T09:00:00Z","timestamp":"2026-11-21T08:00:00Z"}`)
	require.Equal(t, ms("2026-11-21T09:00:00Z"), ev.GetTimestampMs(), "originalTimestamp before timestamp")
	require.Equal(t, arrivedAt.UnixMilli(), ev.GetReceivedAtMs(), "the server's own receivedAt")
}

func TestOldEventIsHistorical(t *testing.T) {
	require.True(t, one(t, Track, `{"userId":"u","event":"E","timestamp":"2026-11-20T10:00:00Z"}`).GetHistorical())
	require.False(t, one(t, Track, `{"userId":"u","event":"E","timestamp":"2026-11-20T11:00:00Z"}`).GetHistorical())
}

func TestIdentifiers(t *testing.T) {
	cases := map[string]struct {
		call Call
		body string
		want []string
	}{
		"numeric userId":                   {Track, `{"event":"E","userId":12345}`, []string{"user_id:12345"}},
		"large numeric userId":             {Track, `{"event":"E","userId":12345678901234567890}`, []string{"user_id:12345678901234567890"}},
		"userId with exponent":             {Track, `{"event":"E","userId":1.5e3}`, []string{"user_id:1500"}},
		"trimmed":                          {Track, `{"event":"E","userId":" u\t","anonymousId":" a "}`, []string{"anonymous_id:a", "user_id:u"}},
		"escaped":                          {Track, `{"event":"E","userId":"caf\u00e9 \ud83d\ude00"}`, []string{"user_id:café 😀"}},
		"refused userId beside a good one": {Track, `{"event":"E","userId":"null","anonymousId":"a"}`, []string{"anonymous_id:a"}},
		"userId of a wrong type":           {Track, `{"event":"E","userId":{"x":1},"anonymousId":"a"}`, []string{"anonymous_id:a"}},
		"anonymousId equal to userId":      {Track, `{"event":"E","userId":"u","anonymousId":"u"}`, []string{"user_id:u"}},
		"email in lower case":              {Identify, `{"userId":"u","traits":{"email":" Ada@Example.COM "}}`, []string{"user_id:u", "email:ada@example.com"}},
		"email in context.traits":          {Track, `{"event":"E","userId":"u","context":{"traits":{"email":"ada@example.com"}}}`, []string{"user_id:u", "email:ada@example.com"}},
		"email alone":                      {Identify, `{"traits":{"email":"ada@example.com"}}`, []string{"email:ada@example.com"}},
		"bad email":                        {Identify, `{"userId":"u","traits":{"email":"call me"}}`, []string{"user_id:u"}},
		"externalIds": {Track, `{"event":"E","userId":"u","context":{"externalIds":[
			{"id":"L1","type":"loyalty_card","collection":"users","encoding":"none"},
			{"id":"acc","type":"account","collection":"accounts","encoding":"none"},
			{"id":"0","type":"loyalty_card","collection":"users","encoding":"none"},
			{"id":7,"type":"crm"}, {"id":"x","type":"a b"}, {"id":"x","type":"profile_id"}, {"id":"x"}, "text", null]}}`,
			[]string{"user_id:u", "loyalty_card:L1", "crm:7"}},
		"device": {Track, `{"event":"E","userId":"u","context":{"device":{"type":"iOS","id":"D","advertisingId":"AD","adTrackingEnabled":true,"token":"T"}}}`,
			[]string{"user_id:u", "ios.id:D", "ios.idfa:AD", "ios.push_token:T"}},
		"device that may not be tracked": {Track, `{"event":"E","userId":"u","context":{"device":{"type":"android","id":"D","advertisingId":"AD","adTrackingEnabled":false}}}`,
			[]string{"user_id:u", "android.id:D"}},
		"alias of oneself": {Alias, `{"previousId":"u","userId":"u"}`, []string{"user_id:u"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ev := one(t, c.call, c.body)
			require.Equal(t, c.want, identifiersOf(ev))
		})
	}
}

func TestDroppedIdentifiersAreCounted(t *testing.T) {
	got := decode(Track, `{"event":"E","userId":"null","anonymousId":"a","context":{"traits":{"email":"x"}}}`)
	require.Len(t, got.Events, 1)
	require.Empty(t, got.Events[0].GetUserId())
	require.Equal(t, 1, got.Identifiers[identifier.Placeholder])
	require.Equal(t, 1, got.Identifiers[identifier.BadEmail])
	got = decode(Alias, `{"previousId":"u","userId":"u","anonymousId":"u"}`)
	require.Equal(t, 2, got.SelfLinks)
	require.Empty(t, got.Events[0].GetPreviousId())
	require.Empty(t, got.Events[0].GetAnonymousId())
}

func TestTenantRefusesItsOwnValues(t *testing.T) {
	source := testSource()
	source.Identifiers = identifier.NewPolicy([]string{"kiosk"})
	got := decodeFor(Track, `{"event":"E","userId":"KIOSK","anonymousId":"a"}`, source, Arrival{Now: arrivedAt, Entropy: zeros{}})
	require.Equal(t, []string{"anonymous_id:a"}, identifiersOf(got.Events[0]))
}

func TestRefusals(t *testing.T) {
	big := `"` + strings.Repeat("x", 33<<10) + `"`
	cases := []struct {
		call Call
		body string
		want Code
	}{
		{Track, `{"event":"E"}`, NoIdentifier},
		{Track, `{"event":"E","userId":null}`, NoIdentifier},
		{Track, `{"event":"E","userId":"undefined","anonymousId":"0"}`, NoUsableIdentifier},
		{Track, `{"event":"E","userId":"  "}`, NoUsableIdentifier},
		{Track, `{"userId":"u"}`, NoEventName},
		{Track, `{"userId":"u","event":" "}`, NoEventName},
		{Track, `{"userId":"u","event":7}`, NoEventName},
		{Group, `{"userId":"u"}`, NoGroupID},
		{Alias, `{"userId":"u"}`, NoPreviousID},
		{Alias, `{"previousId":"a","anonymousId":"b"}`, NoUserID},
		{Track, `{"userId":"u","event":"E","properties":[]}`, BadField},
		{Identify, `{"userId":"u","traits":"x"}`, BadField},
		{Track, `{"userId":"u","event":"E","context":1}`, BadField},
		{Track, `{"userId":"u","event":"E","integrations":true}`, BadField},
		{Track, `{"userId":"u","event":"E","properties":{"x":` + big + `}}`, EventTooLarge},
		{Track, `{"userId":"u","event":"E","properties":{"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}`, TooDeep},
		{Batch, `{"batch":[{"type":"batch","userId":"u","batch":[]}]}`, UnknownType},
		{Batch, `{"batch":[{"userId":"u","event":"E"}]}`, UnknownType},
		{Batch, `{"batch":["x"]}`, NotAnObject},
		{Import, `{"batch":[{"type":"track","event":"E","userId":"u"}]}`, NoTimestamp},
		{Import, `{"batch":[{"type":"track","event":"E","userId":"u","timestamp":"soon"}]}`, NoTimestamp},
	}
	for _, c := range cases {
		got := decode(c.call, c.body)
		require.Nil(t, got.Problem, c.body)
		require.Empty(t, got.Events, c.body)
		require.Len(t, got.Rejections, 1, c.body)
		require.Equal(t, c.want, got.Rejections[0].Code)
		require.NotEmpty(t, got.Rejections[0].Detail)
	}
}

func TestWholeBodyIsRefused(t *testing.T) {
	cases := map[string]struct {
		call Call
		body string
		want Code
		says string
	}{
		"empty":           {Track, ``, BadJSON, "empty"},
		"space":           {Track, "  \n", BadJSON, "empty"},
		"cut off":         {Track, `{"userId":"u"`, BadJSON, "byte 13 of 13"},
		"bad character":   {Track, `{"userId":secret}`, BadJSON, "at byte 11"},
		"two values":      {Track, `{} {}`, BadJSON, "at byte 4"},
		"array":           {Track, `[]`, BadJSON, "no object"},
		"string":          {Batch, `"x"`, BadJSON, "no object"},
		"no batch":        {Batch, `{"userId":"u"}`, NoBatch, "batch"},
		"batch an object": {Batch, `{"batch":{}}`, NoBatch, "batch"},
		"10,000 deep":     {Track, `{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, TooDeep, "1000"},
		"a million deep":  {Batch, strings.Repeat("[", 1_000_000), TooDeep, "1000"},
		"5001 events":     {Batch, `{"batch":[` + strings.Repeat(`{},`, 5000) + `{}]}`, BatchTooLong, "2500"},
		"fanned out":      {Batch, `{"context":{"x":"` + strings.Repeat("x", 30_000) + `"},"batch":[` + strings.Repeat(`{},`, 2000) + `{}]}`, RootTooLarge, "2001"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := decode(c.call, c.body)
			require.NotNil(t, got.Problem)
			require.Equal(t, c.want, got.Problem.Code)
			require.Contains(t, got.Problem.Detail, c.says)
			require.NotContains(t, got.Problem.Detail, "secret")
		})
	}
}

func TestBadItemCostsNothingElse(t *testing.T) {
	got := decode(Batch, `{"batch":[
		{"type":"track","event":"A","userId":"u","messageId":"m0"},
		{"type":"track","userId":"u","messageId":"m1"},
		{"type":"nonsense","userId":"u","messageId":"m2"},
		7,
		{"type":"track","event":"B","userId":"u","messageId":"m4"},
		{"type":"track","event":"C","messageId":"m5"}]}`)
	require.Equal(t, 2, got.Accepted)
	require.Equal(t, "A", got.Events[0].GetName())
	require.Equal(t, "B", got.Events[1].GetName())
	var refused []string
	for _, r := range got.Rejections {
		refused = append(refused, fmt.Sprintf("%d %s %s", r.Index, r.MessageID, r.Code))
	}
	require.Equal(t, []string{"1 m1 no_event", "2 m2 unknown_type", "3  not_an_object", "5 m5 no_user_anon_id"}, refused)
}

func TestEventsBeyondTheLimitAreRefusedOneByOne(t *testing.T) {
	item := `{"type":"track","event":"E","userId":"u"}`
	got := decode(Batch, `{"batch":[`+strings.Repeat(item+",", 2500)+item+`]}`)
	require.Nil(t, got.Problem)
	require.Equal(t, 2500, got.Accepted)
	require.Len(t, got.Rejections, 1)
	require.Equal(t, TooManyEvents, got.Rejections[0].Code)
	require.Equal(t, 2500, got.Rejections[0].Index)
}

func TestMessageID(t *testing.T) {
	const made = "019aa5f5-1f38-7000-8000-000000000000" // UUIDv7 of arrivedAt and zeros
	cases := map[string]struct {
		field  string
		want   string
		server bool
	}{
		"given":              {`"messageId":"m-1",`, "m-1", false},
		"trimmed":            {`"messageId":"  m-1 ",`, "m-1", false},
		"control characters": {`"messageId":"m\u0000-\u00071",`, "m-1", false},
		"number":             {`"messageId":17,`, "17", false},
		"100 characters":     {`"messageId":"` + strings.Repeat("é", 100) + `",`, strings.Repeat("é", 100), false},
		"absent":             {``, made, true},
		"blank":              {`"messageId":" ",`, made, true},
		"null":               {`"messageId":null,`, made, true},
		"object":             {`"messageId":{},`, made, true},
		"101 characters":     {`"messageId":"` + strings.Repeat("x", 101) + `",`, made, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ev := one(t, Track, `{`+c.field+`"event":"E","userId":"u"}`)
			require.Equal(t, c.server, ev.GetServerMessageId())
			if c.server {
				require.Len(t, ev.GetMessageId(), 36)
				require.Equal(t, byte('7'), ev.GetMessageId()[14])
				require.Equal(t, fmt.Sprintf("%012x", arrivedAt.UnixMilli()), strings.ReplaceAll(ev.GetMessageId()[:13], "-", ""))
				return
			}
			require.Equal(t, c.want, ev.GetMessageId())
		})
	}
}

func TestImport(t *testing.T) {
	read := func(body string, now time.Time) []*eventv1.Event {
		got := decodeFor(Import, body, testSource(), Arrival{Now: now, Entropy: zeros{}})
		require.Nil(t, got.Problem)
		require.Empty(t, got.Rejections)
		return got.Events
	}
	first := read(`{"sentAt":"2026-11-21T10:15:00Z","batch":[
		{"type":"track","event":"E","userId":"u","timestamp":"2020-01-01T00:00:00Z","properties":{"a":1,"b":[1, 2]}},
		{"type":"track","event":"E","userId":"u","timestamp":"2020-01-02T00:00:00Z"},
		{"type":"track","event":"E","userId":"u","timestamp":"2020-01-02T00:00:00Z","messageId":"own"}]}`, arrivedAt)
	second := read(`{"sentAt":"2026-11-22T10:15:00Z","batch":[
		{"timestamp":"2020-01-01T00:00:00Z","userId":"u","event":"E","properties":{"b":[1,2],"a":1},"type":"track"},
		{"type":"track","event":"E","userId":"u","timestamp":"2020-01-02T00:00:00Z"},
		{"type":"track","event":"E","userId":"u","timestamp":"2020-01-02T00:00:00Z","messageId":"own"}]}`, arrivedAt.Add(24*time.Hour))
	for i := range first {
		require.Equal(t, first[i].GetMessageId(), second[i].GetMessageId())
		require.Equal(t, first[i].GetTimestampMs(), second[i].GetTimestampMs())
		require.True(t, first[i].GetHistorical())
		require.False(t, first[i].GetServerMessageId())
	}
	require.NotEqual(t, first[0].GetMessageId(), first[1].GetMessageId())
	require.Equal(t, "own", first[2].GetMessageId())
	require.Equal(t, ms("2020-01-01T00:00:00Z"), first[0].GetTimestampMs())

	other := testSource()
	other.Tenant = "globex"
	got := decodeFor(Import, `{"batch":[{"type":"track","event":"E","userId":"u","timestamp":"2020-01-02T00:00:00Z"}]}`, other, Arrival{Now: arrivedAt, Entropy: zeros{}})
	require.NotEqual(t, first[1].GetMessageId(), got.Events[0].GetMessageId())
}

func TestValueAndCurrency(t *testing.T) {
	cases := map[string]struct {
		micros   int64
		currency string
	}{
		`{"revenue":12.34,"value":1,"total":2,"currency":"eur"}`: {12_340_000, "EUR"},
		`{"value":0.1,"total":2,"currency":"EUR"}`:               {100_000, "EUR"},
		`{"total":"19.99"}`:                          {19_990_000, ""},
		`{"revenue":null,"value":3}`:                 {3_000_000, ""},
		`{"revenue":"n/a","value":3}`:                {3_000_000, ""},
		`{"revenue":-5.5}`:                           {-5_500_000, ""},
		`{"revenue":1e3}`:                            {1_000_000_000, ""},
		`{"revenue":0.0000005}`:                      {1, ""},
		`{"revenue":0.00000049}`:                     {0, ""},
		`{"revenue":9223372036854.775807}`:           {9223372036854775807, ""},
		`{"revenue":9223372036854.775808,"value":2}`: {2_000_000, ""},
		`{"revenue":-9223372036854.775808}`:          {-9223372036854775808, ""},
		`{"revenue":1845000000000.0000005}`:          {1845000000000000001, ""},
		`{"revenue":1e9999}`:                         {0, ""},
		`{"revenue":true,"currency":"euro"}`:         {0, ""},
		`{"currency":"€€€"}`:                         {0, ""},
	}
	for properties, want := range cases {
		ev := one(t, Track, `{"userId":"u","event":"E","properties":`+properties+`}`)
		require.Equal(t, want.micros, ev.GetValueMicros(), properties)
		require.Equal(t, want.currency, ev.GetCurrency(), properties)
	}
}

func TestMicrosIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
		exact, ok := new(big.Rat).SetString(text)
		require.True(t, ok)
		want := roundHalfAway(exact.Mul(exact, big.NewRat(1_000_000, 1)))
		got, ok := micros(text)
		if !want.IsInt64() {
			require.False(t, ok)
			return
		}
		require.True(t, ok)
		require.Equal(t, want.Int64(), got)
	})
}

func roundHalfAway(r *big.Rat) *big.Int {
	half := big.NewRat(1, 2)
	if r.Sign() < 0 {
		return new(big.Int).Neg(roundHalfAway(new(big.Rat).Neg(r)))
	}
	sum := new(big.Rat).Add(r, half)
	return new(big.Int).Quo(sum.Num(), sum.Denom())
}

func TestPageCampaignConsent(t *testing.T) {
	ev := one(t, Page, `{"anonymousId":"a","properties":{"url":"https://p.example/x","title":"P"},"context":{
		"page":{"url":"https://c.example","path":"/x","referrer":"https://r.example","search":"?q"},
		"campaign":{"name":"n","source":"s","medium":"m","term":"t","content":"c","id":"ignored"},
		"consent":{"categoryPreferences":{"Advertising":true,"Analytics":false,"Odd":"yes"}}}}`)
	require.Equal(t, &eventv1.Page{Url: "https://p.example/x", Path: "/x", Referrer: "https://r.example", Search: "?q", Title: "P"}, ev.GetPage())
	require.Equal(t, &eventv1.Campaign{Name: "n", Source: "s", Medium: "m", Term: "t", Content: "c"}, ev.GetCampaign())
	require.Equal(t, map[string]bool{"Advertising": true, "Analytics": false}, ev.GetConsent().GetPurposes())

	ev = one(t, Track, `{"anonymousId":"a","event":"E","properties":{"url":"https://p.example"},"context":{"consentManagement":{"allowedConsentIds":["C1","C2"],"deniedConsentIds":["C3","C2"]}}}`)
	require.Nil(t, ev.GetPage(), "only a page call's properties describe the page")
	require.Equal(t, map[string]bool{"C1": true, "C2": false, "C3": false}, ev.GetConsent().GetPurposes())

	require.Nil(t, one(t, Track, `{"anonymousId":"a","event":"E","context":{}}`).GetConsent())
}

func TestRudderStackIdentify(t *testing.T) {
	ev := one(t, Identify, `{"userId":"u","context":{"traits":{"plan":"pro"}}}`)
	require.JSONEq(t, `{"plan":"pro"}`, string(ev.GetTraits()))
}

func TestAddressOfTheCaller(t *testing.T) {
	client, server := testSource(), testSource()
	client.ServerSide = false
	cases := map[string]struct {
		source *Source
		body   string
		want   string
	}{
		"client":                        {client, `{"userId":"u","event":"E"}`, `{"ip":"192.0.2.7"}`},
		"client with context":           {client, `{"userId":"u","event":"E","context":{"locale":"fr"}}`, `{"ip":"192.0.2.7","locale":"fr"}`},
		"client that says it":           {client, `{"userId":"u","event":"E","context":{"ip":"198.51.100.1"}}`, `{"ip":"198.51.100.1"}`},
		"server":                        {server, `{"userId":"u","event":"E","context":{"locale":"fr"}}`, `{"locale":"fr"}`},
		"server that speaks for itself": {server, `{"userId":"u","event":"E","context":{"direct":true}}`, `{"ip":"192.0.2.7","direct":true}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := decodeFor(Track, c.body, c.source, Arrival{Now: arrivedAt, ClientIP: "192.0.2.7", Entropy: zeros{}})
			require.Len(t, got.Events, 1)
			require.JSONEq(t, c.want, string(got.Events[0].GetContext()))
		})
	}
	got := decodeFor(Batch, `{"context":{},"batch":[{"type":"track","userId":"u","event":"E"}]}`, client, Arrival{Now: arrivedAt, ClientIP: "192.0.2.7", Entropy: zeros{}})
	require.JSONEq(t, `{"ip":"192.0.2.7"}`, string(got.Events[0].GetContext()))
}

// Readers disagree on which of two equal keys counts, and ClickHouse refuses the row: one is left.
func TestRepeatedKeys(t *testing.T) {
	ev := one(t, Track, `{"userId":"first","userId":"last","event":"E","properties":{"a":1,"a":2,"b":{"c":[{"d":1,"\u0064":2}]}}}`)
	require.Equal(t, "last", ev.GetUserId())
	require.Equal(t, `{"a":2,"b":{"c":[{"d":2}]}}`, string(ev.GetProperties()))

	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, `"k%d":%d,`, i, i)
	}
	ev = one(t, Track, `{"userId":"u","event":"E","properties":{`+many.String()+`"k50":"last"}}`)
	require.Equal(t, 1, strings.Count(string(ev.GetProperties()), `"k50"`))
	require.Contains(t, string(ev.GetProperties()), `"k50":"last"`)
}

func TestPropertiesStayAsTheyArrived(t *testing.T) {
	for _, properties := range []string{
		`{ "a" : 1.00 , "b":[ ] }`, `{"z":1,"a":{"q":"\"}{]["},"n":12345678901234567890.10}`, `{"\u00e9":1}`, `{"e":"\ud83d\ude00","f":"\\ud800"}`,
	} {
		ev := one(t, Track, `{"userId":"u","event":"E","properties":`+properties+`}`)
		if strings.HasPrefix(properties, `{"\u`) {
			require.JSONEq(t, properties, string(ev.GetProperties()), "an escaped key is written out")
			continue
		}
		require.Equal(t, properties, string(ev.GetProperties()))
	}
	ev := one(t, Track, `{"userId":"u","event":"E","properties":{"x":"\ud800"}}`)
	require.Equal(t, "{\"x\":\"\uFFFD\"}", string(ev.GetProperties()), "half a surrogate pair is no text")
	ev = one(t, Track, "\xef\xbb\xbf{\"userId\":\"u\",\"event\":\"E\xff\"}")
	require.Equal(t, "E\uFFFD", ev.GetName(), "what is not UTF-8 is replaced")
}

func TestDecoderIsReusable(t *testing.T) {
	var d Decoder
	for range 3 {
		for _, body := range []string{
			`{"context":{"a":1},"integrations":{"All":false},"userId":"root","sentAt":"2026-11-21T10:15:31Z","batch":[{"type":"track","event":"E","timestamp":"2026-11-21T10:15:30Z"}]}`,
			`{"batch":[{"type":"track","event":"E","userId":"u","messageId":"m"}]}`,
		} {
			require.Nil(t, d.Parse(Batch, []byte(body)))
			var got []*eventv1.Event
			out := d.Decode(testSource(), Arrival{Now: arrivedAt, Entropy: zeros{}}, func(ev *eventv1.Event) { got = append(got, detach(ev)) })
			require.Equal(t, 1, out.Accepted)
			fresh := decode(Batch, body)
			require.True(t, fresh.Events[0].EqualVT(got[0]))
		}
	}
}
