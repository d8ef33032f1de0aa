package rule_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/rule"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func TestOrdinaryExpressionsAreWithinTheCost(t *testing.T) {
	for _, expression := range []string{
		`properties.items.exists(i, i.sku == "x" && i.qty > 2)`,
		`properties.items.all(i, i.price > 10) && properties.items.size() > 2`,
		`properties.items.exists(i, i.name.contains("loan"))`,
		`properties.query.matches("(?i)\\b(close|cancel|terminate)\\b")`,
		`properties.url.startsWith("https://bank.example/loans") || properties.url.endsWith("/apply")`,
		`properties.tags.filter(t, t != "x").size() > 1`,
		`properties.product in ["a", "b", "c"]`,
	} {
		_, err := rule.CompileFilter(&definitionv1.EventFilter{Where: expression})
		require.NoError(t, err, expression)
	}
}

func TestSlowExpressionsAreRefusedWithTheirCost(t *testing.T) {
	for _, expression := range []string{
		`properties.a.all(x, properties.b.all(y, properties.c.all(z, x == y && y == z)))`,
		`properties.a.exists(x, properties.b.exists(y, x.name.contains(y.name)))`,
		`properties.a.map(x, properties.a.map(y, properties.a)).size() > 1`,
		`properties.a.exists(x, x.matches("(a+)+(b+)+(c+)+(d+)+(e+)+(f+)+(g+)+(h+)+(i+)+"))`,
	} {
		_, err := rule.CompileFilter(&definitionv1.EventFilter{Where: expression})
		require.ErrorContains(t, err, "may cost", expression)
		require.ErrorContains(t, err, fmt.Sprint(rule.MaxCost), expression)
	}
}

func TestAnExpressionIsStoppedAtItsLimit(t *testing.T) {
	// The estimate supposes lists of two hundred.
	filter := where(t, `properties.a.all(x, x >= 0 && x < 1000000)`)
	list := func(n int) string {
		elements := make([]string, n)
		for i := range elements {
			elements[i] = fmt.Sprint(i)
		}
		return `{"a":[` + strings.Join(elements, ",") + `]}`
	}
	require.True(t, filter.Match(track("Order", list(200))))
	require.False(t, filter.Match(track("Order", list(50_000))), "over the limit is false")
}

func TestWrongExpressionsSayWhere(t *testing.T) {
	for expression, want := range map[string]string{
		`properties.x = 1`:                     "line 1, column 14",
		"properties.x == 1 &&\n  traits.y > 1": "line 2, column 3: undeclared reference to 'traits'",
		`name == 3`:                            "no matching overload",
		`"text"`:                               "gives a string and must give true or false",
		`nosuch(properties.x)`:                 "undeclared reference to 'nosuch'",
		`properties.x.matches("(")`:            "",
		strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100): "",
		strings.Repeat("true || ", 1000) + "true":                    "bytes",
	} {
		_, err := rule.CompileFilter(&definitionv1.EventFilter{Where: expression})
		require.ErrorContains(t, err, "where: ", expression)
		require.ErrorContains(t, err, want, expression)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`properties.x > 1 && context.y.matches("a+")`, `{"x":2}`)
	f.Add(`properties.items.exists(i, i.qty % 2 == 0)`, `{"items":[{"qty":2}]}`)
	f.Fuzz(func(t *testing.T, expression, properties string) {
		filter, err := rule.CompileFilter(&definitionv1.EventFilter{Event: "Order", Where: expression})
		if err != nil {
			return
		}
		event := track("Order", properties)
		require.Equal(t, filter.Match(event), filter.MatchEvent(rule.NewEvent(event)))
	})
}
