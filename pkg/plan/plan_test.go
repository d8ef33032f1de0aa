package plan_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/plan"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
)

const order = `{
	"type": "object",
	"required": ["order_id", "revenue"],
	"properties": {
		"order_id": {"type": "string", "minLength": 3},
		"revenue": {"type": "number", "minimum": 0},
		"currency": {"enum": ["EUR", "USD"]},
		"email": {"type": "string", "format": "email"},
		"products": {"type": "array", "items": {"$ref": "#/$defs/product"}}
	},
	"additionalProperties": false,
	"$defs": {"product": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string", "pattern": "^[A-Z]-[0-9]+$"}, "quantity": {"type": "integer"}}}}
}`

func define(spec *definitionv1.TrackingPlan) *definitionv1.Definition {
	return &definitionv1.Definition{Tenant: "acme", Name: "web", Version: 7, Spec: &definitionv1.Definition_TrackingPlan{TrackingPlan: spec}}
}

func compile(t testing.TB, spec *definitionv1.TrackingPlan) *plan.Plan {
	t.Helper()
	p, err := plan.Compile(define(spec))
	require.NoError(t, err)
	return p
}

func track(name, properties string) *eventv1.Event {
	return &eventv1.Event{Tenant: "acme", Source: "web", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name, MessageId: "m", ReceivedAtMs: 5, Properties: []byte(properties)}
}

func orders(mode definitionv1.PlanMode) *definitionv1.TrackingPlan {
	return &definitionv1.TrackingPlan{Source: "web", Mode: mode, Events: []*definitionv1.PlannedEvent{{Event: "Order Completed", Schema: order}, {Event: "Seen"}}}
}

func TestCheck(t *testing.T) {
	p := compile(t, orders(definitionv1.PlanMode_PLAN_MODE_REJECT))
	cases := []struct {
		properties string
		want       string // path keyword planned found
	}{
		{`{"order_id":"o-1","revenue":49.9,"currency":"EUR","products":[{"sku":"A-1","quantity":2}]}`, ""},
		{`{"order_id":"o-1","revenue":0}`, ""},
		{``, "/order_id required  nothing; /revenue required  nothing"},
		{`{"order_id":7,"revenue":1}`, "/order_id type string number"},
		{`{"order_id":"o","revenue":1}`, "/order_id minLength 3 characters or more 1"},
		{`{"order_id":"o-1","revenue":-1}`, "/revenue minimum 0 or more less"},
		{`{"order_id":"o-1","revenue":"49.90"}`, "/revenue type number string"},
		{`{"order_id":"o-1","revenue":1,"currency":"GBP"}`, "/currency enum one of EUR, USD string that is none of them"},
		{`{"order_id":"o-1","revenue":1,"email":"no address"}`, "/email format email string of another form"},
		{`{"order_id":"o-1","revenue":1,"a/b":1}`, "/a~1b additionalProperties no such property "},
		{`{"order_id":"o-1","revenue":1,"products":[{"sku":"A-1"},{"quantity":1.5}]}`, "/products/1/sku required  nothing; /products/1/quantity type integer number"},
		{`{"order_id":"o-1","revenue":1,"products":[{"sku":"a"}]}`, "/products/0/sku pattern ^[A-Z]-[0-9]+$ text of another form"},
		{`{"order_id":"o-1","revenue":1e400}`, ""},
		{`{"order_id":"o-1","revenue":-1e999999999}`, "/revenue minimum 0 or more less"},
	}
	for _, c := range cases {
		got := p.Check(track("Order Completed", c.properties))
		if c.want == "" {
			require.Nil(t, got, "%s: %v", c.properties, got)
			continue
		}
		require.NotNil(t, got, c.properties)
		var found []string
		for _, i := range got.GetIssues() {
			found = append(found, i.GetPath()+" "+i.GetKeyword()+" "+i.GetExpected()+" "+i.GetFound())
		}
		require.ElementsMatch(t, strings.Split(c.want, "; "), found, c.properties)
		require.Equal(t, plan.CodeViolation, got.GetCode())
		require.Equal(t, planv1.Action_ACTION_REJECTED, got.GetAction())
		require.Equal(t, []any{"acme", "web", "web", int64(7), "Order Completed", "m", int64(5)},
			[]any{got.GetTenant(), got.GetSource(), got.GetPlan(), got.GetPlanVersion(), got.GetName(), got.GetMessageId(), got.GetReceivedAtMs()})
	}
	require.Nil(t, p.Check(track("Seen", `{"anything":[1]}`)), "without a schema any properties will do")
	require.Equal(t, "not as the tracking plan web says: /order_id: type: planned string, found number", plan.Describe(p.Check(track("Order Completed", `{"order_id":7,"revenue":1}`))))
	var none *plan.Plan
	require.Nil(t, none.Check(track("Anything", "")))
	require.False(t, none.Lists(track("Anything", "")))
}

func TestModes(t *testing.T) {
	action := func(spec *definitionv1.TrackingPlan, ev *eventv1.Event) planv1.Action {
		return compile(t, spec).Check(ev).GetAction()
	}
	bad, unknown := track("Order Completed", "{}"), track("Made Up", "{}")
	spec := orders(definitionv1.PlanMode_PLAN_MODE_UNSPECIFIED)
	require.Equal(t, planv1.Action_ACTION_OBSERVED, action(spec, bad))
	require.Equal(t, planv1.Action_ACTION_OBSERVED, action(spec, unknown))
	spec.Mode = definitionv1.PlanMode_PLAN_MODE_QUARANTINE
	require.Equal(t, planv1.Action_ACTION_QUARANTINED, action(spec, bad))
	require.Equal(t, planv1.Action_ACTION_QUARANTINED, action(spec, unknown))
	spec.Unplanned = definitionv1.PlanMode_PLAN_MODE_REJECT
	spec.Events[0].Mode = definitionv1.PlanMode_PLAN_MODE_OBSERVE
	require.Equal(t, planv1.Action_ACTION_OBSERVED, action(spec, bad))
	require.Equal(t, planv1.Action_ACTION_REJECTED, action(spec, unknown))
	require.Equal(t, plan.CodeUnplanned, compile(t, spec).Check(unknown).GetCode())
}

// Calls other than track need not be listed; where they are, pages may be planned by name or all together, and
// traits stand in the place of properties.
func TestOtherCalls(t *testing.T) {
	p := compile(t, &definitionv1.TrackingPlan{Source: "web", Events: []*definitionv1.PlannedEvent{
		{Type: "page", Schema: `{"required":["url"]}`}, {Type: "page", Event: "Home"}, {Type: "identify", Schema: `{"required":["email"]}`},
	}})
	ev := func(kind eventv1.EventType, name, properties, traits string) *eventv1.Event {
		return &eventv1.Event{Type: kind, Name: name, Properties: []byte(properties), Traits: []byte(traits)}
	}
	require.NotNil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_PAGE, "Loans", `{}`, "")))
	require.NotNil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_PAGE, "", `{}`, "")))
	require.Nil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_PAGE, "Loans", `{"url":"x"}`, "")))
	require.Nil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_PAGE, "Home", `{}`, "")))
	require.NotNil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_IDENTIFY, "", `{"email":"x"}`, `{}`)))
	require.Nil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_IDENTIFY, "", ``, `{"email":"x"}`)))
	require.Nil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_SCREEN, "Any", ``, "")))
	require.Nil(t, p.Check(ev(eventv1.EventType_EVENT_TYPE_ALIAS, "", ``, "")))
	require.True(t, p.Lists(ev(eventv1.EventType_EVENT_TYPE_PAGE, "Home", ``, "")))
	require.False(t, p.Lists(ev(eventv1.EventType_EVENT_TYPE_PAGE, "Loans", ``, "")), "any page is no name of its own")
}

func TestSchemasThatAreRefused(t *testing.T) {
	laughs := `{"$defs":{"d0":{"type":"string"}`
	for i := 1; i < 40; i++ {
		laughs += fmt.Sprintf(`,"d%d":{"anyOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i-1, i-1)
	}
	laughs += `},"$ref":"#/$defs/d39"}`
	for text, problem := range map[string]string{
		`{"type":`:         "is not JSON",
		`true`:             "must be an object",
		`{"type":"strin"}`: "is no JSON Schema: /type",
		`{"$schema":"http://json-schema.org/draft-07/schema#"}`:             "$schema must be https://json-schema.org/draft/2020-12/schema",
		`{"$ref":"https://example.com/schema.json"}`:                        "refers to https://example.com/schema.json, which is no part of it",
		`{"$ref":"file:///etc/passwd"}`:                                     "which is no part of it",
		`{"$ref":"#"}`:                                                      "which is no part of it",
		`{"$ref":"#/$defs/none"}`:                                           "refers to #/$defs/none",
		`{"$defs":{"a":{"items":{"$ref":"#/$defs/a"}}},"$ref":"#/$defs/a"}`: "refers to itself in a circle",
		`{"properties":{"x":{"$ref":"#/properties/x"}}}`:                    "refers to itself in a circle",
		`{"properties":{"x":{"$ref":"#/properties"}}}`:                      "refers to itself in a circle",
		`{"$dynamicRef":"#x"}`:                                              "has $dynamicRef",
		`{"$id":"https://example.com/"}`:                                    "has $id",
		`{"pattern":"(?=x)"}`:                                               "is no JSON Schema",
		`{"title":"` + strings.Repeat("x", plan.MaxSchemaBytes) + `"}`:      "bytes and 65536 are allowed",
		strings.Repeat(`{"not":`, 100) + `{}` + strings.Repeat(`}`, 100):    "nests deeper than 64 levels",
		laughs: "has more than 10000 parts with its references written out",
	} {
		_, err := plan.CompileSchema(text)
		require.ErrorContains(t, err, problem, text[:min(len(text), 100)])
	}
}

func TestErrorsNameTheField(t *testing.T) {
	_, err := plan.Compile(define(&definitionv1.TrackingPlan{Events: []*definitionv1.PlannedEvent{
		{Event: "A"}, {Event: "A"}, {}, {Event: "B", Type: "alias"}, {Event: "B", Type: "identify"}, {Event: "C", Schema: `{"type":7}`},
	}}))
	for _, want := range []string{
		`events[1].event: "A" is there twice`, `events[2].event: is missing`, `events[3].type: "alias" is not a type`,
		`events[4].event: must be empty`, `events[5].schema: is no JSON Schema: /type`,
	} {
		require.ErrorContains(t, err, want)
	}
}

// What an event holds stands in no violation: not in its issues, not in its sample, not in its sentence.
func TestViolationsHoldNoValues(t *testing.T) {
	spec := &definitionv1.TrackingPlan{Events: []*definitionv1.PlannedEvent{{Event: "E", Schema: `{
		"properties": {
			"a": {"enum": ["x"]}, "b": {"const": 1}, "c": {"pattern": "^x$"}, "d": {"format": "email"}, "e": {"maximum": 1},
			"f": {"multipleOf": 2}, "g": {"maxLength": 2}, "h": {"not": {}}, "i": {"uniqueItems": true}, "j": {"contains": {"const": 1}},
			"k": {"anyOf": [{"type": "null"}, {"const": 5}]}, "l": false
		}}`}}}
	const secret = "ada@example.com"
	properties := `{"a":"S","b":"S","c":"S","d":"S x","e":987654321,"f":987654321,"g":"S","h":"S","i":["S","S"],"j":["S"],"k":"S","l":"S"}`
	properties = strings.ReplaceAll(properties, "S", secret)
	for i := range 12 {
		name := string(rune('a' + i))
		var all map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(properties), &all))
		alone, err := json.Marshal(map[string]json.RawMessage{name: all[name]})
		require.NoError(t, err)
		got := compile(t, spec).Check(track("E", string(alone)))
		require.NotNil(t, got, name)
		require.NotEmpty(t, got.GetIssues(), name)
		raw, err := got.MarshalVT()
		require.NoError(t, err)
		for _, value := range []string{secret, "987654321"} {
			require.NotContains(t, string(raw), value, name)
			require.NotContains(t, plan.Describe(got), value, name)
		}
	}
	spec.SampleValues = true
	require.Equal(t, properties, string(compile(t, spec).Check(track("E", properties)).GetSample()), "unless the plan allows it")
}

func TestViolationsAreBounded(t *testing.T) {
	big := map[string]any{}
	for i := range 5000 {
		big[fmt.Sprintf("%d-%s", i, strings.Repeat("x", 300))] = i
	}
	properties, err := json.Marshal(big)
	require.NoError(t, err)
	for _, values := range []bool{false, true} {
		spec := &definitionv1.TrackingPlan{SampleValues: values, Events: []*definitionv1.PlannedEvent{{Event: "E", Schema: `{"additionalProperties":false}`}}}
		got := compile(t, spec).Check(track("E", string(properties)))
		require.Len(t, got.GetIssues(), plan.MaxIssues)
		require.Less(t, got.SizeVT(), 16<<10)
		require.True(t, json.Valid(got.GetSample()))
	}
}

// Whatever properties are, a check ends soon, does not panic, and its sample is JSON.
func FuzzCheck(f *testing.F) {
	p := compile(f, orders(definitionv1.PlanMode_PLAN_MODE_OBSERVE))
	f.Add(`{"order_id":"o-1","revenue":1e999999999,"products":[{"sku":"A-1"}]}`)
	f.Add(`{"revenue":-0.000000000000000000000000000000000001,"products":{}}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, properties string) {
		if !json.Valid([]byte(properties)) || !strings.HasPrefix(properties, "{") {
			properties = "{}"
		}
		if v := p.Check(track("Order Completed", properties)); v != nil {
			require.True(t, json.Valid(v.GetSample()))
			require.NotEmpty(t, plan.Describe(v))
		}
	})
}

// A thousand numbers with exponents that exact arithmetic would unfold to a million digits each.
func TestHugeExponentsCostNothing(t *testing.T) {
	p := compile(t, &definitionv1.TrackingPlan{Events: []*definitionv1.PlannedEvent{{Event: "E", Schema: `{"properties":{"n":{"items":{"multipleOf":0.01,"minimum":0}}}}`}}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Check(track("E", `{"n":[`+strings.Repeat("1e999999,", 1000)+`1e-999999]}`))
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		require.Fail(t, "exact arithmetic on huge numbers")
	}
}

func BenchmarkCheck(b *testing.B) {
	p := compile(b, orders(definitionv1.PlanMode_PLAN_MODE_OBSERVE))
	ev := track("Order Completed", `{"order_id":"o-1","revenue":49.9,"currency":"EUR","products":[{"sku":"A-1","quantity":2},{"sku":"B-2","quantity":1}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if p.Check(ev) != nil {
			b.Fatal("as planned")
		}
	}
}

func BenchmarkCompileSchema(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := plan.CompileSchema(`{"type":"object"}`); err != nil {
			b.Fatal(err)
		}
	}
}
