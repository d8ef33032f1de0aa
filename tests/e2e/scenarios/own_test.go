package scenarios

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// TestOwnClickHouse runs a stack on the ClickHouse of another one, by its address alone:
// nothing but where things are changes.
func TestOwnClickHouse(t *testing.T) {
	t.Parallel()
	host := stack.New(t, stack.Options{})
	host.Start()
	// Each has a database of its own.
	guest := stack.New(t, stack.Options{Flags: []string{"--clickhouse", host.Ports.SQL, "--set", "clickhouse.database=guest"}})
	guest.Start()
	guest.Send(t, "demo-key", stack.Event{"type": "track", "event": "Seen", "userId": "u-1"})
	count := func(c require.TestingT, database string) int {
		return stack.One[struct{ N int }](c, host, "SELECT toInt32(count()) AS N FROM "+database+".events").N
	}
	stack.Eventually(t, soon, "the row is in the other's ClickHouse", func(c *assert.CollectT) { require.Equal(c, 1, count(c, "guest")) })
	require.Zero(t, count(t, "sillage"))
	guest.Terminate()
	host.Terminate()
}
