package definition_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
)

const planned = `kind: tracking_plan
tenant: demo
name: web
spec:
  source: web
  mode: quarantine
  unplanned: observe
  events:
    - event: Order Completed
      description: A paid order
      schema:
        additionalProperties: false
        properties:
          note:
            maxLength: 10
            type: string
          order_id:
            pattern: ^[0-9]+$
            type: string
          revenue:
            minimum: 0.5
            type: number
          status:
            enum: [paid, "null", "1", true, 1, null]
        required: [order_id, revenue]
        type: object
    - event: Seen
      mode: reject
`

// A schema is written as fields and values, kept as JSON, and printed as it was written.
func TestASchemaIsYAMLOutsideAndJSONInside(t *testing.T) {
	def := parse(t, planned)[0]
	events := def.GetTrackingPlan().GetEvents()
	require.JSONEq(t, `{"type":"object","additionalProperties":false,"required":["order_id","revenue"],"properties":{
		"note":{"type":"string","maxLength":10},"order_id":{"type":"string","pattern":"^[0-9]+$"},"revenue":{"type":"number","minimum":0.5},
		"status":{"enum":["paid","null","1",true,1,null]}}}`, events[0].GetSchema())
	require.Empty(t, events[1].GetSchema())
	text, err := definition.FormatYAML(def)
	require.NoError(t, err)
	require.Equal(t, planned, string(text))

	asText := parse(t, `{kind: tracking_plan, tenant: demo, name: web, spec: {source: web, events: [{event: E, schema: '{"type":"object"}'}]}}`)[0]
	require.Equal(t, `{"type":"object"}`, asText.GetTrackingPlan().GetEvents()[0].GetSchema())

	_, err = definition.ParseYAML(strings.NewReader(strings.Replace(planned, "minimum: 0.5", "minimum: .nan", 1)), "plan.yaml")
	require.ErrorContains(t, err, `plan.yaml: document 1, line 21: spec.events[0].schema.properties.revenue.minimum: ".nan" is not a number`)
}

func TestPlanOfASource(t *testing.T) {
	snapshot := definition.NewSnapshot(parse(t, world)...)
	require.Equal(t, "app", snapshot.Plan("demo", "app").GetName())
	require.Nil(t, snapshot.Plan("demo", "site"))
	require.Nil(t, snapshot.Plan("other", "app"))
}
