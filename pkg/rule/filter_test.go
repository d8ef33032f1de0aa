package rule_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/rule"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

func track(name, properties string) *eventv1.Event {
	return &eventv1.Event{
		Tenant: "demo", MessageId: "m1", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name,
		Properties: []byte(properties), Context: []byte(`{"locale":"fr-FR","device":{"type":"mobile"}}`),
		TimestampMs: 1_700_000_000_000, ValueMicros: 100_000_000,
	}
}

func where(t testing.TB, expression string) *rule.Filter {
	t.Helper()
	filter, err := rule.CompileFilter(&definitionv1.EventFilter{Event: "Order", Where: expression})
	require.NoError(t, err, expression)
	return filter
}

func TestWhere(t *testing.T) {
	event := track("Order", `{"amount":12000,"rate":3.5,"product":"loan","tags":["a","b"],"items":[{"sku":"x","qty":2},{"sku":"y","qty":1}],
		"nested":{"deep":{"leaf":true}},"nothing":null,"big":9007199254740993,"text":"12000"}`)
	for _, test := range []struct {
		expression string
		want       bool
	}{
		{`properties.amount > 10000`, true},
		{`properties.amount >= 12000.0 && properties.rate < 4`, true},
		{`properties.amount == 12000`, true},
		{`properties.amount == 12000.0`, true},
		{`properties["amount"] in [1, 12000]`, true},
		{`properties.product == "loan"`, true},
		{`properties.product != "loan"`, false},
		{`properties.missing == "x"`, false},
		{`properties.missing != "x"`, false},
		{`!(properties.missing == "x")`, false},
		{`properties.missing == "x" || properties.product == "loan"`, true},
		{`properties.missing.deeper.still > 3`, false},
		{`has(properties.product)`, true},
		{`has(properties.missing)`, false},
		{`!has(properties.missing)`, true},
		{`"product" in properties`, true},
		{`"missing" in properties`, false},
		{`properties.product > 3`, false},
		{`properties.text > 3`, false},
		{`properties.nothing == null`, true},
		{`properties.nested.deep.leaf`, true},
		{`properties.nested == {"deep": {"leaf": true}}`, true},
		{`properties.items.exists(i, i.sku == "y" && i.qty == 1)`, true},
		{`properties.items.all(i, i.qty > 1)`, false},
		{`properties.items.filter(i, i.qty > 1).size() == 1`, true},
		{`size(properties.items) == 2`, true},
		{`properties.items[1].sku == "y"`, true},
		{`properties.items[7].sku == "y"`, false},
		{`"b" in properties.tags`, true},
		{`properties.big == 9007199254740993`, true},
		{`properties.product.startsWith("lo") && properties.product.matches("^l.+n$")`, true},
		{`context.locale.startsWith("fr") && context.device.type == "mobile"`, true},
		{`name == "Order"`, true},
		{`value >= 100`, true},
		{`value == 100.0`, true},
		{`value == 100`, true},
		{`100 == value`, true},
		{`value != 100`, false},
		{`value * 2 > 199`, true},
		{`2 * value - 1 == 199`, true},
		{`properties.amount / 5000 == 2.4`, true},
		{`properties.amount + 1 == 12001`, true},
		{`properties.amount % 5 == 0`, true},
		{`7 % 5 == 2`, true},
		{`size(properties.items) * 1.5 == 3.0`, true},
		{`properties.product + "er" == "loaner"`, true},
		{`properties.product * 2 == 4`, false},
		{`timestamp + duration("1h") > timestamp`, true},
		{`9223372036854775807 + 1 > 0`, false},
		{`value > 100.5`, false},
		{`timestamp > timestamp("2023-01-01T00:00:00Z")`, true},
		{`timestamp.getHours() == 22`, true},
		{`timestamp.getHours("Europe/Paris") == 23`, true},
		{`properties.amount / 0.0 > 1`, true},
		{`1 / 0 == 1`, false},
		{`properties.nested.exists(k, k == "deep")`, true},
	} {
		require.Equal(t, test.want, where(t, test.expression).Match(event), test.expression)
	}
}
