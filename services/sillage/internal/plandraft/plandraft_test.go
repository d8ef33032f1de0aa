package plandraft_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/plan"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/sillage/internal/plandraft"
)

func property(name, path string, count int64, kinds ...string) plandraft.Property {
	return plandraft.Property{Type: "track", Name: name, Path: path, Kinds: kinds, Count: count}
}

func TestDraft(t *testing.T) {
	def, left, err := plandraft.Draft(plandraft.Seen{
		Tenant: "demo", Source: "web",
		Events: []plandraft.Event{{Type: "page", Count: 5}, {Type: "track", Name: "Order", Count: 10}, {Type: "track", Name: "Seen", Count: 2}},
		Properties: []plandraft.Property{
			property("Order", "id", 10, "String"), property("Order", "coupon", 3, "String"), property("Order", "total", 10, "Int64", "Float64"),
			property("Order", "gift", 10, "Bool", "String"), property("Order", "tags", 10, "Array(Nullable(String))"), property("Order", "lines", 4, "Array(JSON)"),
			property("Order", "address.city", 9, "String"), property("Order", "address.zip", 2, "Int64", "String"), property("Order", "when", 10, "DateTime64(9)"),
		},
	})
	require.NoError(t, err)
	require.Zero(t, left)
	text, err := definition.FormatYAML(def)
	require.NoError(t, err)
	require.Equal(t, `kind: tracking_plan
tenant: demo
name: web
description: Drafted from what was seen
spec:
  source: web
  mode: observe
  events:
    - event: Order
      schema:
        properties:
          address:
            properties:
              city:
                type: string
              zip:
                type: [integer, string]
            type: object
          coupon:
            type: string
          gift:
            type: [boolean, string]
          id:
            type: string
          lines:
            items:
              type: object
            type: array
          tags:
            items:
              type: string
            type: array
          total:
            type: number
          when:
            type: string
        required: [gift, id, tags, total, when]
        type: object
    - type: page
      schema:
        type: object
    - event: Seen
      schema:
        type: object
`, string(text))

	compiled, err := plan.Compile(def)
	require.NoError(t, err)
	require.Nil(t, compiled.Check(&eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Order", Properties: []byte(
		`{"id":"1","total":2.5,"gift":true,"tags":["a"],"when":"2026-11-21","address":{"zip":1234},"lines":[{"sku":"A"}]}`)}), "what was seen is as planned")
	require.NotNil(t, compiled.Check(&eventv1.Event{Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Order", Properties: []byte(`{"id":1}`)}))
}

func TestDraftIsBounded(t *testing.T) {
	seen := plandraft.Seen{Tenant: "demo", Source: "web"}
	for i := range definition.MaxPlannedEvents + 7 {
		seen.Events = append(seen.Events, plandraft.Event{Type: "track", Name: fmt.Sprint("E", i), Count: int64(i)})
	}
	def, left, err := plandraft.Draft(seen)
	require.NoError(t, err)
	require.Equal(t, 7, left)
	require.Equal(t, fmt.Sprint("E", definition.MaxPlannedEvents+6), def.GetTrackingPlan().GetEvents()[0].GetEvent(), "the most frequent first")
	_, _, err = plandraft.Draft(plandraft.Seen{Tenant: "demo", Source: "web"})
	require.ErrorContains(t, err, "nothing was seen")
}
