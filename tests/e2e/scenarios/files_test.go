package scenarios

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

const filesYAML = `
kind: tenant
tenant: shop
name: shop
spec: {display_name: Shop}
---
kind: source
tenant: shop
name: tills
spec: {write_keys: [tills-key]}
`

// TestFilesAndTheLedger imports a CRM's customers and a till's receipts through mappings, twice, and shows
// them as one person with two orders; then the ledger is checked, a row is taken away behind Sillage's
// back, and the check names it.
func TestFilesAndTheLedger(t *testing.T) {
	s := stack.New(t, stack.Options{})
	s.Start()
	s.Apply(t, filesYAML)
	examples := filepath.Join(stack.Root(), "services/sillage/examples/import")
	dir := t.TempDir()
	for range 2 {
		got := s.CLI(t, "import", "--source", "tills-key", "--mapping", filepath.Join(examples, "receipts.yaml"), filepath.Join(examples, "receipts.csv"))
		require.Equal(t, 0, got.Code, got.Out+got.Err)
		require.Contains(t, got.Out, "3 events accepted, 0 rows refused")
	}
	refused := filepath.Join(dir, "refused.csv")
	customers := filepath.Join(examples, "customers.csv")
	got := s.CLI(t, "import", "--source", "tills-key", "--mapping", filepath.Join(examples, "customers.yaml"), "--refused", refused, customers)
	require.Equal(t, 1, got.Code, got.Out)
	require.Contains(t, got.Out, "2 events accepted, 1 rows refused")
	require.Contains(t, got.Out, customers+`:4: bad_value: column "customer_no" is empty`)
	text, err := os.ReadFile(refused)
	require.NoError(t, err)
	require.Equal(t, "line,code,reason\n4,bad_value,\"column \"\"customer_no\"\" is empty\"\n", string(text))

	type orders struct {
		Orders int
		Total  float64
	}
	stack.Eventually(t, soon, "the receipts are orders", func(c *assert.CollectT) {
		require.Equal(c, orders{3, 3.45}, stack.One[orders](c, s,
			"SELECT toInt32(count()) AS Orders, toFloat64(sum(total)) AS Total FROM orders WHERE tenant = 'shop'"))
	})
	got = s.CLI(t, "ledger", "check")
	require.Equal(t, 0, got.Code, got.Out+got.Err)
	require.Contains(t, got.Out, "8 events came in: 5 stored 3 deduplicated 0 rejected")
	require.Contains(t, got.Out, "everything is accounted for")

	gone := stack.One[struct{ Partition, Offset int }](t, s, `SELECT toInt32(log_partition) AS Partition, toInt32(log_offset) AS Offset
		FROM events WHERE message_id = 'receipt-A-1002'`)
	require.Equal(t, 0, s.CLI(t, "sql", "DELETE FROM events WHERE message_id = 'receipt-A-1002'").Code)
	got = s.CLI(t, "ledger", "check", "--wait", "0s")
	require.Equal(t, 1, got.Code, got.Out)
	require.Contains(t, got.Out, fmt.Sprintf("MISSING in table events: 1 rows of profile.log.v1 partition %d, offsets %d\n", gone.Partition, gone.Offset))
	s.Terminate()
}

// TestTail looks on while events come in and are refused.
func TestTail(t *testing.T) {
	s := stack.New(t, stack.Options{})
	s.Start()
	ended := make(chan stack.Result, 1)
	go func() { ended <- s.CLI(new(assert.CollectT), "tail", "--tenant", "demo", "-n", "20") }()
	for again := time.NewTicker(200 * time.Millisecond); ; {
		s.Send(t, "demo-key", stack.Event{"type": "track", "event": "Seen", "userId": "ada"})
		answer, err := s.Post(t.Context(), "demo-key", "/v1/track", stack.Event{"userId": "ada"})
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, answer.Code)
		select {
		case got := <-ended:
			require.Equal(t, 0, got.Code, got.Err)
			require.Regexp(t, `(?m)^\d\d:\d\d:\d\d\.\d{3} accepted     \S+ \S+ track Seen$`, got.Out)
			require.Regexp(t, `(?m)^\d\d:\d\d:\d\d\.\d{3} rejected     \S+ .*no_event: `, got.Out)
			require.NotContains(t, got.Out, "ada", "personal data is printed only on demand")
			s.Terminate()
			return
		case <-again.C:
		}
	}
}
