package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Run(m)) }

// A plan is drafted from what ClickHouse has of the source, and of nothing else.
func TestPlanDraft(t *testing.T) {
	server := clickhousetest.Start(t)
	conn := server.Conn(t)
	require.NoError(t, conn.Exec(t.Context(), `CREATE TABLE events (tenant String, source String, type String, name String, timestamp DateTime64(3, 'UTC'),
		properties JSON, traits JSON, internal Bool) ENGINE = MergeTree ORDER BY tenant`))
	for _, row := range []string{
		`'demo', 'web', 'track', 'Order', now64(3), '{"id":"1","total":2.5,"lines":[{"sku":"A"}],"address":{"zip":"75001"}}', '{}', false`,
		`'demo', 'web', 'track', 'Order', now64(3), '{"id":"2","total":3,"coupon":"X"}', '{}', false`,
		`'demo', 'web', 'page', 'Home', now64(3), '{"url":"https://shop.example/"}', '{}', false`,
		`'demo', 'web', 'page', 'Loans', now64(3), '{"url":"https://shop.example/loans"}', '{}', false`,
		`'demo', 'web', 'identify', '', now64(3), '{}', '{"email":"ada@shop.example"}', false`,
		`'demo', 'web', 'track', 'Message Opened', now64(3), '{}', '{}', true`,
		`'demo', 'web', 'track', 'Long Ago', now64(3) - toIntervalDay(31), '{}', '{}', false`,
		`'demo', 'app', 'track', 'Other Source', now64(3), '{}', '{}', false`,
		`'acme', 'web', 'track', 'Other Tenant', now64(3), '{}', '{}', false`,
	} {
		require.NoError(t, conn.Exec(t.Context(), "INSERT INTO events SELECT "+row))
	}
	command := planDraftCmd{planSource: planSource{Tenant: "demo", Source: "web"}, Days: 30, clickHouse: clickHouse{Addr: server.Addr, Database: server.Database}}
	var out, errs bytes.Buffer
	require.NoError(t, command.Run(t.Context(), Streams{Out: &out, Err: &errs}))
	require.Empty(t, errs.String())
	require.Equal(t, `kind: tracking_plan
tenant: demo
name: web
description: Drafted from what was seen
spec:
  source: web
  mode: observe
  events:
    - type: page
      schema:
        properties:
          url:
            type: string
        required: [url]
        type: object
    - event: Order
      schema:
        properties:
          address:
            properties:
              zip:
                type: string
            type: object
          coupon:
            type: string
          id:
            type: string
          lines:
            items:
              type: object
            type: array
          total:
            type: number
        required: [id, total]
        type: object
    - type: identify
      schema:
        properties:
          email:
            type: string
        required: [email]
        type: object
`, out.String())
	_, err := definition.ParseYAML(strings.NewReader(out.String()), "draft")
	require.NoError(t, err, "what is printed can be applied")

	command.Source = "nowhere"
	require.ErrorContains(t, command.Run(t.Context(), Streams{Out: &out, Err: &errs}), "nothing was seen of this source")
	command.Source = "web' OR 1=1 --"
	require.ErrorContains(t, command.Run(t.Context(), Streams{Out: &out, Err: &errs}), "is not a name")
	command.Source, command.Addr = "web", "127.0.0.1:1"
	require.ErrorContains(t, command.Run(t.Context(), Streams{Out: &out, Err: &errs}), "start `sillage up`")
}
