package mapping_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/mapping"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

var file = mapping.File{Name: "crm.csv", Time: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}

// mapped maps all rows of a CSV text as one event.
func mapped(t *testing.T, yaml, text string) (string, error) {
	t.Helper()
	m, err := mapping.Parse(strings.NewReader(yaml))
	require.NoError(t, err)
	from, err := rows.NewCSV(strings.NewReader(text), m.CSV)
	require.NoError(t, err)
	require.NoError(t, m.Check(from))
	var group []rows.Row
	for {
		row, _, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		group = append(group, row.Clone())
	}
	out, err := m.Event(file, 2, group)
	return string(out), err
}

const receipt = `
group_by: receipt
csv: {delimiter: ";"}
event:
  type: track
  event: {if: receipt, matches: ^R, then: Order Refunded, else: Order Completed}
  userId: $card
  anonymousId: {if: card, else: {column: receipt, prefix: till-}}
  messageId: {column: receipt, prefix: receipt-}
  timestamp: {column: sold, time: "02/01/2006 15:04", zone: Europe/Paris}
  properties:
    order_id: $receipt
    currency: EUR
    price: $$5
    revenue: {sum: [quantity, price], decimal: ","}
    products:
      each:
        product_id: $sku
        quantity: {column: quantity, as: integer}
        price: {column: price, as: number, decimal: ","}
`

func TestMappingsByExample(t *testing.T) {
	event := func(extra string) string {
		return "event: {type: identify, userId: $id, timestamp: $file.time, traits: {" + extra + "}}"
	}
	with := func(traits string) string {
		if traits != "" {
			traits = `,"traits":{` + traits + `}`
		}
		return `{"type":"identify","userId":"7","timestamp":"2026-05-04T03:02:01Z"` + traits + `}`
	}
	cases := map[string]struct{ yaml, text, want string }{
		"a till's receipt of two lines": {
			receipt, "receipt;card;sold;sku;quantity;price\nA1;77;01/07/2026 10:30;milk;2;1,10\nA1;77;01/07/2026 10:30;tea;1;1.003,5\n",
			`{"type":"track","event":"Order Completed","userId":"77","messageId":"receipt-A1","timestamp":"2026-07-01T08:30:00.000Z",` +
				`"properties":{"order_id":"A1","currency":"EUR","price":"$5","revenue":1005.70,"products":[{"product_id":"milk","quantity":2,"price":1.10},{"product_id":"tea","quantity":1,"price":1003.5}]}}`,
		},
		"a refund without a card, in winter": {
			receipt, "receipt;card;sold;sku;quantity;price\nR1;;31/01/2026 23:30;milk;-1;1,1\n",
			`{"type":"track","event":"Order Refunded","anonymousId":"till-R1","messageId":"receipt-R1","timestamp":"2026-01-31T22:30:00.000Z",` +
				`"properties":{"order_id":"R1","currency":"EUR","price":"$5","revenue":-1.1,"products":[{"product_id":"milk","quantity":-1,"price":1.1}]}}`,
		},
		"what is empty is left out":    {event("name: $name"), "id,name\n7,  \n", with("")},
		"or has a default":             {event("name: {column: name, default: null}"), "id,name\n7,\n", with(`"name":null`)},
		"values are looked up":         {event("sex: {column: s, values: {1: m, 2: f}}"), "id,s\n7,2\n", with(`"sex":"f"`)},
		"or fall back":                 {event("sex: {column: s, values: {1: m}, default: other}"), "id,s\n7,9\n", with(`"sex":"other"`)},
		"numbers of all sorts":         {event("a: {column: a, as: number}, b: {column: b, as: integer}"), "id,a,b\n7,\"-1,234.50\",007.0\n", with(`"a":-1234.50,"b":7`)},
		"booleans":                     {event("a: {column: a, as: boolean}, b: {column: b, as: boolean}"), "id,a,b\n7,Yes,0\n", with(`"a":true,"b":false`)},
		"JSON in a column":             {event("a: {column: a, as: json}"), "id,a\n7,\"{\"\"x\"\":[1]}\"\n", with(`"a":{"x":[1]}`)},
		"seconds since 1970":           {event("a: {column: a, time: unix}"), "id,a\n7,1767225600\n", with(`"a":"2026-01-01T00:00:00.000Z"`)},
		"a date":                       {event("a: {column: a, time: date}"), "id,a\n7,2026-01-01\n", with(`"a":"2026-01-01T00:00:00.000Z"`)},
		"lists and literals":           {event("a: [x, $a, $b, 3, true, 2026-01-01]"), "id,a,b\n7,y,\n", with(`"a":["x","y",3,true,"2026-01-01"]`)},
		"where a row is from":          {event("a: $file.name, b: {column: row.line, as: integer}"), "id\n7\n", with(`"a":"crm.csv","b":2`)},
		"signs, and what has no whole": {event("a: {column: a, as: number}, b: {column: b, as: number}, c: {column: c, as: integer}"), "id,a,b,c\n7,+5.10,-.5,-0012\n", with(`"a":5.10,"b":-0.5,"c":-12`)},
		"a factor that is empty":       {event("a: {sum: [n, p]}"), "id,n,p\n7,2,1.25\n7,,9.5\n7,3,\n7,1,1\n", with(`"a":3.50`)},
		"the first row, behind the others": {
			event("a: {each: $n}, b: $n, c: {sum: [n]}, d: $n, e: {column: row.line, as: integer}"), "id,n\n7,1\n8,2\n9,3\n",
			with(`"a":["1","2","3"],"b":"1","c":6,"d":"1","e":2`),
		},
		"a column called as a builtin": {event("a: $file.name"), "id,file.name\n7,mine\n", with(`"a":"mine"`)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := mapped(t, c.yaml, c.text)
			require.NoError(t, err)
			require.JSONEq(t, c.want, got)
			require.Equal(t, c.want, got, "fields keep the order of the mapping, numbers their digits")
		})
	}
}

func TestTypesOfJSONAreKept(t *testing.T) {
	m, err := mapping.Parse(strings.NewReader("event: {type: identify, userId: $id, timestamp: $at, traits: {a: $x.y, b: {column: id, as: text}, c: {column: at, time: rfc3339}}}"))
	require.NoError(t, err)
	row, _, err := rows.NewJSONLines(strings.NewReader(`{"id":7,"at":"2026-01-01T01:00:00+01:00","x":{"y":[1,"z"]}}`)).Next()
	require.NoError(t, err)
	got, err := m.Event(file, 1, []rows.Row{row})
	require.NoError(t, err)
	require.Equal(t, `{"type":"identify","userId":7,"timestamp":"2026-01-01T01:00:00+01:00","traits":{"a":[1,"z"],"b":"7","c":"2026-01-01T00:00:00.000Z"}}`, string(got))
}

// A row that is not what the mapping says is refused with its column, and never with what it holds.
func TestWrongRowsAreExplained(t *testing.T) {
	for how, text := range map[string]string{
		"as: number": "secret", "as: integer": "1.5", "as: boolean": "secret", "as: json": "secret{", "time: date": "secret",
		"time: unix": "secret", "required: true": " ", "values: {a: b}": "secret", "decimal: ','": "secret",
	} {
		_, err := mapped(t, "event: {type: identify, userId: $id, timestamp: $file.time, traits: {a: {column: col, "+how+"}}}", "id,col\n7,"+text+"\n")
		var bad *rows.Bad
		require.ErrorAs(t, err, &bad, how)
		require.Equal(t, mapping.BadValue, bad.Code)
		require.Contains(t, bad.Detail, `column "col"`)
		require.NotContains(t, bad.Detail, "secret")
	}
	for _, number := range []string{"+-5", "--5", "-+5", "5-", "-", "+", "1.2.3", "1e3", "0x1", "NaN", "\u0661", strings.Repeat("9", 41)} {
		_, err := mapped(t, "event: {type: identify, userId: $id, timestamp: $file.time, traits: {a: {column: col, as: number}}}", "id,col\n7,"+number+"\n")
		require.ErrorContains(t, err, "holds no number", number)
	}
	deep := strings.Repeat("[", 5_000_000)
	_, err := mapped(t, "event: {type: identify, userId: $id, timestamp: $file.time, traits: {a: {column: col, as: json}}}", "id,col\n7,"+deep+"\n")
	require.ErrorContains(t, err, "holds no JSON")
	_, err = mapped(t, "event: {type: track, event: E, userId: $id, timestamp: $file.time, properties: {r: {sum: [col]}}}", "id,col\n7,secret\n")
	require.ErrorContains(t, err, `column "col" holds no number`)
}

func TestWrongMappingsAreExplained(t *testing.T) {
	for yaml, want := range map[string]string{
		"":                                  "empty",
		"[1]":                               "must be a mapping",
		"group_by: x":                       "`event:` is missing",
		"evnet: {}":                         `"evnet" is unknown`,
		"event: 1":                          "event must be a mapping",
		"event: {timestamp: $t}":            "event.type is missing",
		"event: {type: buy, timestamp: $t}": `"buy" is none of`,
		"event: {type: track}":              "event.timestamp is missing",
		"event: {type: track, timestamp: $t, user_id: $x}":                                                           `"user_id" is no field`,
		"event: {type: track, timestamp: {column: t, as: date}}":                                                     `as: "date" is none of`,
		"event: {type: track, timestamp: {column: t, time: yyyy}}":                                                   "is no layout",
		"event: {type: track, timestamp: {column: t, time: date, zone: Paris}}":                                      "is no zone",
		"event: {type: track, timestamp: {column: t, zone: UTC}}":                                                    "`zone` goes with `time`",
		"event: {type: track, timestamp: {column: t, format: x}}":                                                    `"format" does not go with`,
		"event: {type: track, timestamp: $t, properties: {a: {sum: x}}}":                                             "sum: must be a list",
		"event: {type: track, timestamp: $t, properties: {a: {if: x, matches: '(', then: 1}}}":                       "matches:",
		"event: {type: track, timestamp: $t, properties: {a: {if: x}}}":                                              "needs `then` or `else`",
		"event: {type: track, timestamp: $t, properties: {a: {column: [x]}}}":                                        "name of a column",
		"event: {type: track, timestamp: $t, properties: {a: {column: x, prefix: y, as: number}}}":                   "do not go with",
		"event: {type: track, timestamp: $t, properties: {a: {column: x, as: number, decimal: '.,'}}}":               "decimal:",
		"csv: {delimiter: ab}\nevent: {type: track, timestamp: $t}":                                                  "csv.delimiter",
		"csv: {quote: x}\nevent: {type: track, timestamp: $t}":                                                       "quote",
		"event: {type: track, timestamp: $t, properties: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}": "nested deeper",
		"event: {type: &a track, timestamp: *a}":                                                                     "aliases",
	} {
		_, err := mapping.Parse(strings.NewReader(yaml))
		require.ErrorContains(t, err, want, yaml)
	}
}

func TestColumnsThatAreNotThereAreNamed(t *testing.T) {
	m, err := mapping.Parse(strings.NewReader("group_by: receipt\nevent:\n  type: track\n  timestamp: $file.time\n  userId: $card\n"))
	require.NoError(t, err)
	from, err := rows.NewCSV(strings.NewReader("receipt,crad\n"), m.CSV)
	require.NoError(t, err)
	require.EqualError(t, m.Check(from), `line 5: the file has no column "card"`)
}

func FuzzParse(f *testing.F) {
	f.Add(receipt, "receipt;card;sold;sku;quantity;price\nA1;77;01/07/2026 10:30;milk;2;1,10\n")
	f.Add("event: {type: identify, timestamp: $file.time, traits: {a: [{column: x, as: json}]}}", "x\n1\n")
	f.Fuzz(func(t *testing.T, yaml, text string) {
		m, err := mapping.Parse(strings.NewReader(yaml))
		if err != nil {
			return
		}
		from, err := rows.NewCSV(strings.NewReader(text), m.CSV)
		if err != nil {
			return
		}
		row, line, err := from.Next()
		if err != nil {
			return
		}
		if out, err := m.Event(file, line, []rows.Row{row}); err == nil {
			require.True(t, json.Valid(out), "%s", out)
		}
	})
}

// The examples of the README map as they stand.
func TestExamples(t *testing.T) {
	for name, want := range map[string]string{
		"customers": `{"type":"identify","userId":"1001","timestamp":"2026-05-01T08:00:00.000Z","traits":{"email":"ada@example.com","firstName":"Ada","birthday":"1990-12-10T00:00:00.000Z","title":"Ms","newsletter":true,"balance":1250.00}}`,
		"receipts":  `{"type":"track","event":"Order Completed","messageId":"receipt-A-1001","userId":"778899","timestamp":"2026-05-02T08:31:00.000Z","properties":{"order_id":"A-1001","currency":"EUR","revenue":2.30,"products":[{"product_id":"330012","name":"Milk 1 l","quantity":2,"price":1.15}]}}`,
	} {
		yaml, err := os.ReadFile("../../examples/import/" + name + ".yaml")
		require.NoError(t, err)
		text, err := os.ReadFile("../../examples/import/" + name + ".csv")
		require.NoError(t, err)
		m, err := mapping.Parse(bytes.NewReader(yaml))
		require.NoError(t, err)
		from, err := rows.NewCSV(bytes.NewReader(text), m.CSV)
		require.NoError(t, err)
		require.NoError(t, m.Check(from))
		row, line, err := from.Next()
		require.NoError(t, err)
		got, err := m.Event(file, line, []rows.Row{row})
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
}
