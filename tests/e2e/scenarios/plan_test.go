package scenarios

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

const planYAML = `
kind: tenant
name: shop
spec: {display_name: Shop}
---
kind: source
tenant: shop
name: web
spec: {write_keys: [shop-web-key]}
---
kind: tracking_plan
tenant: shop
name: web
spec:
  source: web
  mode: quarantine
  unplanned: observe
  events:
    - event: Order Completed
      schema:
        required: [order_id, revenue]
        properties:
          order_id: {type: string}
          revenue: {type: number}
`

// TestTrackingPlan sets an event aside, lets it in once the plan is mended, twice, and drafts a plan of what
// came in. The ledger is in balance before and after: what was set aside has come in once.
func TestTrackingPlan(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{})
	s.Start()
	s.Apply(t, planYAML)
	s.Send(t, "shop-web-key",
		stack.Event{"type": "track", "event": "Order Completed", "userId": "ada", "messageId": "good", "properties": map[string]any{"order_id": "1", "revenue": 2.5}},
		stack.Event{"type": "track", "event": "Seen", "userId": "ada", "messageId": "unplanned"})
	answer, err := s.Post(t.Context(), "shop-web-key", "/v1/track",
		stack.Event{"event": "Order Completed", "userId": "ada", "messageId": "aside", "properties": map[string]any{"order_id": 2, "revenue": 3}})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Code, answer.Body)

	type issue struct{ Name, Path, Planned, Was string }
	stack.Eventually(t, soon, "the violation is told", func(c *assert.CollectT) {
		require.Equal(c, issue{"Order Completed", "/order_id", "string", "number"}, stack.One[issue](c, s,
			`SELECT name AS Name, path AS Path, planned AS Planned, was AS Was FROM plan_issues WHERE tenant = 'shop' AND path != ''`))
		require.Equal(c, 1, stack.One[struct{ N int }](c, s, `SELECT toInt32(sum(events)) AS N FROM unplanned_events WHERE tenant = 'shop' AND name = 'Seen'`).N)
	})
	inBalance(t, s, "3 events came in: 2 stored 0 deduplicated 1 rejected")

	s.Apply(t, strings.Replace(planYAML, "{type: string}", "{type: [string, integer]}", 1))
	replay := []string{"plan", "replay", "--tenant", "shop", "--source", "web"}
	for range 2 {
		got := s.CLI(t, replay...)
		require.Equal(t, 0, got.Code, got.Out+got.Err)
	}
	type row struct{ Rows, Messages int }
	stack.Eventually(t, soon, "what was set aside is an event", func(c *assert.CollectT) {
		require.Equal(c, row{3, 3}, stack.One[row](c, s,
			`SELECT toInt32(count()) AS Rows, toInt32(uniqExact(message_id)) AS Messages FROM events WHERE tenant = 'shop'`))
	})
	inBalance(t, s, "everything is accounted for")

	draft := s.CLI(t, "plan", "draft", "--tenant", "shop", "--source", "web")
	require.Equal(t, 0, draft.Code, draft.Err)
	for _, want := range []string{"event: Order Completed", "event: Seen", "order_id", "revenue"} {
		require.Contains(t, draft.Out, want)
	}
	file := filepath.Join(t.TempDir(), "plan.yaml")
	require.NoError(t, os.WriteFile(file, []byte(draft.Out), 0o600))
	applied := s.CLI(t, "apply", "-f", file)
	require.Equal(t, 0, applied.Code, applied.Out+applied.Err)
	s.Terminate()
}

// inBalance says that the check of the ledger finds nothing, and what it says.
func inBalance(t *testing.T, s *stack.Stack, says string) {
	t.Helper()
	got := s.CLI(t, "ledger", "check")
	require.Equal(t, 0, got.Code, got.Out+got.Err)
	require.Contains(t, got.Out, says)
}
