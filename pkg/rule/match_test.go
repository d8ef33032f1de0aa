package rule_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/rule"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

func compile(t testing.TB, def *definitionv1.EventFilter) *rule.Filter {
	t.Helper()
	filter, err := rule.CompileFilter(def)
	require.NoError(t, err)
	return filter
}

func TestNameAndType(t *testing.T) {
	page := &eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_PAGE, Name: "Order"}
	internal := &eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Message Opened", Internal: true}
	for _, test := range []struct {
		name  string
		def   *definitionv1.EventFilter
		event *eventv1.Event
		want  bool
	}{
		{"name", &definitionv1.EventFilter{Event: "Order"}, track("Order", ""), true},
		{"another name", &definitionv1.EventFilter{Event: "Refund"}, track("Order", ""), false},
		{"case counts", &definitionv1.EventFilter{Event: "order"}, track("Order", ""), false},
		{"track unless said", &definitionv1.EventFilter{Event: "Order"}, page, false},
		{"page", &definitionv1.EventFilter{Event: "Order", Type: "page"}, page, true},
		{"any name", &definitionv1.EventFilter{}, track("Order", ""), true},
		{"any name of a type", &definitionv1.EventFilter{Type: "page"}, track("Order", ""), false},
		{"no filter", nil, page, true},
		{"Sillage's own by name", &definitionv1.EventFilter{Event: "Message Opened"}, internal, true},
		{"Sillage's own are not the person's", &definitionv1.EventFilter{}, internal, false},
		{"Sillage's own are not the person's either", nil, internal, false},
	} {
		require.Equal(t, test.want, compile(t, test.def).Match(test.event), test.name)
		require.Equal(t, test.want, compile(t, test.def).MatchEvent(rule.NewEvent(test.event)), test.name)
	}
	_, err := rule.CompileFilter(&definitionv1.EventFilter{Type: "click"})
	require.ErrorContains(t, err, `type: "click" is not a type of event`)
}

func TestOneEventForManyFilters(t *testing.T) {
	event := rule.NewEvent(track("Order", `{"amount":3}`))
	require.True(t, where(t, `properties.amount == 3`).MatchEvent(event))
	require.False(t, where(t, `properties.amount == 4`).MatchEvent(event))
	event.Reset(track("Order", `{"amount":4}`))
	require.True(t, where(t, `properties.amount == 4`).MatchEvent(event))
	require.False(t, where(t, `properties.amount == 3`).MatchEvent(event))
}

func TestBrokenPropertiesMatchNothing(t *testing.T) {
	for _, properties := range []string{``, `[]`, `"x"`, `{"amount"`, "\xff", `null`} {
		require.False(t, where(t, `properties.amount == 3`).Match(track("Order", properties)), properties)
	}
}

func TestProfiles(t *testing.T) {
	vars := rule.Vars{
		Traits: map[string]*profilev1.Trait{
			"country": {Json: []byte(`"FR"`)}, "age": {Json: []byte(`41`)}, "vip": {Json: []byte(`true`)},
			"address": {Json: []byte(`{"city":"Lyon"}`)}, "deleted": {AtMs: 9},
		},
		Consents: map[string]*profilev1.ConsentState{"marketing": {Granted: true}, "channel:email": {Granted: false}},
		Scores:   map[string]float64{"heat": 30},
		Trigger:  []byte(`{"amount":12000}`),
	}
	for expression, want := range map[string]bool{
		`traits.country == "FR" && traits.age >= 18`: true,
		`traits.vip`:                                   true,
		`traits.age`:                                   false,
		`traits.address.city == "Lyon"`:                true,
		`traits.missing == "x"`:                        false,
		`traits.missing != "x"`:                        false,
		`traits.deleted == null`:                       false,
		`has(traits.deleted)`:                          false,
		`!has(traits.missing)`:                         true,
		`"country" in traits`:                          true,
		`size(traits) == 4`:                            true,
		`consents.marketing`:                           true,
		`!consents["channel:email"]`:                   true,
		`!consents.analytics`:                          false,
		`has(consents.analytics)`:                      false,
		`scores.heat >= 30`:                            true,
		`scores.heat == 30`:                            true,
		`scores.cold > 0`:                              false,
		`trigger.amount > 10000 && scores.heat > 29.5`: true,
		`traits.country + "" == "FR"`:                  true,
		`traits.exists(name, name == "vip")`:           true,
	} {
		compiled, err := rule.CompileProfile(expression)
		require.NoError(t, err, expression)
		require.Equal(t, want, compiled.Match(vars), expression)
		require.False(t, compiled.Match(rule.Vars{}) && expression != `!has(traits.missing)`, expression)
	}
	_, err := rule.CompileProfile("")
	require.ErrorContains(t, err, "empty")
	_, err = rule.CompileProfile(`properties.x == 1`)
	require.ErrorContains(t, err, "undeclared reference to 'properties'")
}

func TestAProfileExpressionTellsWhatItLooksAt(t *testing.T) {
	compiled, err := rule.CompileProfile(`trigger.amount > 1 || has(traits.x) || traits["y"] == 1`)
	require.NoError(t, err)
	require.Equal(t, []string{"traits", "trigger"}, compiled.Variables())
}

func BenchmarkOtherName(b *testing.B) {
	filter, event := where(b, `properties.amount > 3`), track("Refund", `{"amount":3}`)
	b.ReportAllocs()
	for b.Loop() {
		filter.Match(event)
	}
}

const order = `{"order_id":"o-1","amount":120.5,"currency":"EUR","product":"loan","months":36,"items":[{"sku":"x","qty":2},{"sku":"y","qty":1}],"coupon":null}`

func BenchmarkNameOnly(b *testing.B) {
	filter, event := compile(b, &definitionv1.EventFilter{Event: "Order"}), track("Order", order)
	b.ReportAllocs()
	for b.Loop() {
		filter.Match(event)
	}
}

func BenchmarkWhereAlone(b *testing.B) {
	filter, event := where(b, `properties.amount > 100 && properties.product == "loan"`), track("Order", order)
	b.ReportAllocs()
	for b.Loop() {
		filter.Match(event)
	}
}

// BenchmarkWhereAgain is each further filter on an event that is split already.
func BenchmarkWhereAgain(b *testing.B) {
	filter, event := where(b, `properties.amount > 100 && properties.product == "loan"`), rule.NewEvent(track("Order", order))
	b.ReportAllocs()
	for b.Loop() {
		filter.MatchEvent(event)
	}
}

func BenchmarkLoop(b *testing.B) {
	filter, event := where(b, `properties.items.exists(i, i.sku == "y")`), rule.NewEvent(track("Order", order))
	b.ReportAllocs()
	for b.Loop() {
		filter.MatchEvent(event)
	}
}

func BenchmarkProfile(b *testing.B) {
	compiled, err := rule.CompileProfile(`traits.country == "FR" && traits.age > 18`)
	require.NoError(b, err)
	vars := rule.Vars{Traits: map[string]*profilev1.Trait{"country": {Json: []byte(`"FR"`)}, "age": {Json: []byte(`41`)}}}
	b.ReportAllocs()
	for b.Loop() {
		compiled.Match(vars)
	}
}

func BenchmarkCompile(b *testing.B) {
	def := &definitionv1.EventFilter{Event: "Order", Where: `properties.amount > 100 && properties.product == "loan"`}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rule.CompileFilter(def); err != nil {
			b.Fatal(err)
		}
	}
}
