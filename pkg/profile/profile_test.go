package profile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/profile"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

func resolved(ev *eventv1.Event) *profilev1.ResolvedEvent {
	return &profilev1.ResolvedEvent{Event: ev}
}

func identify(at int64, traits string) *profilev1.ResolvedEvent {
	return resolved(&eventv1.Event{Tenant: "demo", Type: eventv1.EventType_EVENT_TYPE_IDENTIFY, TimestampMs: at, Traits: []byte(traits)})
}

func fold(events ...*profilev1.ResolvedEvent) *profilev1.Profile {
	p := &profilev1.Profile{}
	for _, ev := range events {
		profile.Fold(p, ev)
	}
	return p
}

func TestTheLaterTraitCountsWhateverTheOrder(t *testing.T) {
	early, late := identify(10, `{"city":"Lyon","age":41}`), identify(20, `{"city":"Paris"}`)
	for _, p := range []*profilev1.Profile{fold(early, late), fold(late, early)} {
		require.JSONEq(t, `{"city":"Paris","age":41}`, string(profile.TraitsJSON(p)))
		require.Equal(t, []int64{10, 20, 2}, []int64{p.GetFirstSeenMs(), p.GetLastSeenMs(), p.GetEvents()})
		require.Equal(t, "demo", p.GetTenant())
	}
}

func TestNullDeletesAndKeepsOlderValuesAway(t *testing.T) {
	set, remove := identify(10, `{"city":"Lyon"}`), identify(20, `{"city":null}`)
	require.Equal(t, `{}`, string(profile.TraitsJSON(fold(set, remove))))
	require.Equal(t, `{}`, string(profile.TraitsJSON(fold(remove, set))))
	require.JSONEq(t, `{"city":"Nice"}`, string(profile.TraitsJSON(fold(remove, set, identify(30, `{"city":"Nice"}`)))))
}

func TestTraitsOfTheContextCountAndThoseOfAGroupDoNot(t *testing.T) {
	p := fold(resolved(&eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, TimestampMs: 1,
		Context: []byte(`{"traits":{"plan":"gold","city":"Lyon"}}`), Traits: []byte(`{"city":"Paris"}`)}))
	require.JSONEq(t, `{"plan":"gold","city":"Paris"}`, string(profile.TraitsJSON(p)), "traits go before context.traits")

	p = fold(resolved(&eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_GROUP, TimestampMs: 1,
		Context: []byte(`{"traits":{"plan":"gold"}}`), Traits: []byte(`{"industry":"bank"}`)}))
	require.JSONEq(t, `{"plan":"gold"}`, string(profile.TraitsJSON(p)))
}

func TestTraitsJSONIsJSON(t *testing.T) {
	p := fold(identify(1, `{"q\"uote":"<é>","n":1.50,"o":{"a":[1,null]},"b":false}`))
	require.JSONEq(t, `{"q\"uote":"<é>","n":1.5,"o":{"a":[1,null]},"b":false}`, string(profile.TraitsJSON(p)))
	require.Equal(t, `{}`, string(profile.TraitsJSON(nil)))
}

func TestOutcomesOfSendsAreNoSignOfLife(t *testing.T) {
	p := fold(identify(5, `{}`), resolved(&eventv1.Event{Internal: true, Name: "Message Delivered", TimestampMs: 9}))
	require.Equal(t, []int64{5, 5, 1}, []int64{p.GetFirstSeenMs(), p.GetLastSeenMs(), p.GetEvents()})
}

func TestConsent(t *testing.T) {
	states := func(at int64, purposes map[string]bool) *profilev1.ResolvedEvent {
		return resolved(&eventv1.Event{TimestampMs: at, Consent: &eventv1.Consent{Purposes: purposes}})
	}
	unsubscribe := func(at int64, internal bool) *profilev1.ResolvedEvent {
		return resolved(&eventv1.Event{Internal: internal, Name: profile.Unsubscribed, TimestampMs: at, Properties: []byte(`{"channel":"email"}`)})
	}
	for _, test := range []struct {
		name           string
		events         []*profilev1.ResolvedEvent
		granted, known bool
	}{
		{"nothing said", nil, false, false},
		{"agreed", []*profilev1.ResolvedEvent{states(1, map[string]bool{"marketing": true})}, true, true},
		{"another purpose", []*profilev1.ResolvedEvent{states(1, map[string]bool{"analytics": true})}, false, false},
		{"taken back", []*profilev1.ResolvedEvent{states(2, map[string]bool{"marketing": false}), states(1, map[string]bool{"marketing": true})}, false, true},
		{"at once both", []*profilev1.ResolvedEvent{states(1, map[string]bool{"marketing": true}), states(1, map[string]bool{"marketing": false})}, false, true},
		{"unsubscribed", []*profilev1.ResolvedEvent{states(1, map[string]bool{"marketing": true}), unsubscribe(2, true)}, false, true},
		{"unsubscribed before agreeing to the purpose", []*profilev1.ResolvedEvent{unsubscribe(1, true), states(2, map[string]bool{"marketing": true})}, false, true},
		{"subscribed again", []*profilev1.ResolvedEvent{unsubscribe(1, true), states(2, map[string]bool{"channel:email": true})}, true, true},
		{"a producer cannot unsubscribe by an event's name", []*profilev1.ResolvedEvent{states(1, map[string]bool{"marketing": true}), unsubscribe(2, false)}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			granted, known := profile.ConsentFor(fold(test.events...), "email", "")
			require.Equal(t, test.granted, granted)
			require.Equal(t, test.known, known)
		})
	}
	granted, known := profile.ConsentFor(fold(unsubscribe(1, true)), "sms", "marketing")
	require.False(t, granted)
	require.False(t, known, "one channel says nothing of another")
}

func TestAProfileStaysBounded(t *testing.T) {
	many := map[string]any{}
	for i := range 3 * profile.MaxTraits {
		many[fmt.Sprintf("t%05d", i)] = i
	}
	manyJSON, err := json.Marshal(many)
	require.NoError(t, err)
	kept := identify(2, `{"email":"a@b.example"}`)
	tooLarge := identify(3, `{"email":"`+strings.Repeat("x", profile.MaxTraitBytes)+`","`+strings.Repeat("n", profile.MaxTraitName+1)+`":1}`)
	for _, p := range []*profilev1.Profile{
		fold(identify(1, string(manyJSON)), kept, tooLarge), fold(tooLarge, kept, identify(1, string(manyJSON))),
	} {
		require.Len(t, p.GetTraits(), profile.MaxTraits)
		require.Equal(t, `"a@b.example"`, string(p.GetTraits()["email"].GetJson()), "what is newer stays")
		require.Contains(t, p.GetTraits(), "t00000")
	}
	purposes := map[string]bool{}
	for i := range 2 * profile.MaxConsents {
		purposes[fmt.Sprint(i)] = true
	}
	require.Len(t, fold(resolved(&eventv1.Event{Consent: &eventv1.Consent{Purposes: purposes}})).GetConsents(), profile.MaxConsents)
}

func TestBrokenJSONDoesNoHarm(t *testing.T) {
	for _, text := range []string{``, `[]`, `"x"`, `{"a"`, `{"a":}`, "\xff"} {
		p := fold(identify(1, text), resolved(&eventv1.Event{Context: []byte(`{"traits":` + text)}))
		require.True(t, json.Valid(profile.TraitsJSON(p)), "%q gives %q", text, profile.TraitsJSON(p))
	}
	profile.Fold(&profilev1.Profile{}, nil)
	profile.Fold(&profilev1.Profile{}, &profilev1.ResolvedEvent{})
}

func TestLocation(t *testing.T) {
	for _, test := range []struct{ trait, tenant, want string }{
		{`"America/New_York"`, "Europe/Paris", "America/New_York"},
		{`"Nowhere/Nothing"`, "Europe/Paris", "Europe/Paris"},
		{`"../../etc/passwd"`, "Europe/Paris", "Europe/Paris"},
		{`"Local"`, "Europe/Paris", "Europe/Paris"},
		{`7`, "Europe/Paris", "Europe/Paris"},
		{``, "Europe/Paris", "Europe/Paris"},
		{``, "", "UTC"},
		{``, "Nowhere", "UTC"},
	} {
		p := &profilev1.Profile{Traits: map[string]*profilev1.Trait{"timezone": {Json: []byte(test.trait)}}}
		require.Equal(t, test.want, profile.Location(p, test.tenant).String(), test.trait)
	}
	require.Equal(t, time.UTC, profile.Location(nil, ""))
}

func TestMerges(t *testing.T) {
	record := func(topic string, body *profilev1.ProfileRecord) stream.Record {
		body.Tenant, body.ProfileId = "demo", "p1"
		value, err := body.MarshalVT()
		require.NoError(t, err)
		return stream.Record{Topic: topic, Key: topics.Key("demo", "p1"), Value: value}
	}
	announced := &profilev1.ProfileRecord{Body: &profilev1.ProfileRecord_MergeAnnounced{
		MergeAnnounced: &profilev1.MergeAnnounced{FromProfileId: "p2", MergeId: "m"}}}
	into := &profilev1.ProfileRecord{Body: &profilev1.ProfileRecord_MergedInto{
		MergedInto: &profilev1.MergedInto{IntoProfileId: "p3", MergeId: "m"}}}
	event := &profilev1.ProfileRecord{Body: &profilev1.ProfileRecord_Event{Event: identify(1, `{}`)}}

	require.Equal(t, stream.Merge{Kind: stream.MergeAnnounced, Other: []byte("demo/p2"), ID: "m"}, profile.Merges(record(topics.ProfileLog, announced)))
	require.Equal(t, stream.Merge{Kind: stream.MergeInto, Other: []byte("demo/p3"), ID: "m"}, profile.Merges(record(topics.ProfileLog, into)))
	require.Equal(t, stream.Merge{}, profile.Merges(record(topics.ProfileLog, event)))
	require.Equal(t, stream.Merge{}, profile.Merges(record(topics.Segments, into)), "other topics never merge")
	require.Equal(t, stream.Merge{}, profile.Merges(stream.Record{Topic: topics.ProfileLog, Value: []byte{0x22, 0xff}}))
	require.Equal(t, stream.Merge{}, profile.Merges(stream.Record{Topic: topics.ProfileLog}))
}

func FuzzFold(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":null}`), []byte(`{"traits":{"c":[1]}}`))
	f.Fuzz(func(t *testing.T, traits, context []byte) {
		if !json.Valid(traits) || !json.Valid(context) {
			return // the door lets only JSON in
		}
		p := fold(resolved(&eventv1.Event{TimestampMs: 1, Traits: traits, Context: context}))
		require.True(t, json.Valid(profile.TraitsJSON(p)), "%q", profile.TraitsJSON(p))
	})
}

func BenchmarkFoldTrack(b *testing.B) {
	ev := resolved(&eventv1.Event{Tenant: "demo", Type: eventv1.EventType_EVENT_TYPE_TRACK, TimestampMs: 1,
		Context: []byte(`{"locale":"fr-FR","device":{"type":"mobile"},"userAgent":"Mozilla/5.0"}`)})
	p := fold(identify(1, `{"email":"a@b.example"}`))
	b.ReportAllocs()
	for b.Loop() {
		profile.Fold(p, ev)
	}
}

func BenchmarkMergesOfAnEvent(b *testing.B) {
	value, err := (&profilev1.ProfileRecord{Tenant: "demo", ProfileId: "p1", Body: &profilev1.ProfileRecord_Event{Event: identify(1, `{"a":1}`)}}).MarshalVT()
	require.NoError(b, err)
	rec := stream.Record{Topic: topics.ProfileLog, Value: value}
	b.ReportAllocs()
	for b.Loop() {
		profile.Merges(rec)
	}
}

func TestABotIsSeenAndNotBelieved(t *testing.T) {
	said := identify(10, `{"city":"Lyon"}`)
	said.Event.Bot = true
	said.Event.Consent = &eventv1.Consent{Purposes: map[string]bool{"marketing": false}}
	p := fold(said)
	require.Equal(t, `{}`, string(profile.TraitsJSON(p)))
	require.EqualValues(t, 1, p.GetEvents())
	granted, known := profile.ConsentFor(p, "email", "")
	require.True(t, known, "a person may be taken for a bot: what is refused stays refused")
	require.False(t, granted)
}
