package kafka

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCleanRestarts stops and opens the broker again and again under the
// exactly-once load: transactions and group members go on, nothing is lost or
// doubled.
func TestCleanRestarts(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SegmentBytes = 256 << 10
	cfg.Addr = freeAddr(t)
	b := startBroker(t, cfg)
	var acked ledger
	w := newWorkload(b.Addrs(), 0)
	w.acked = acked.add
	require.NoError(t, w.start())
	for range iterations(t, 10) {
		before := w.commits.Load()
		waitFor(t, "no transaction was committed", func() bool { return w.commits.Load() > before+3 })
		require.NoError(t, b.Stop(context.Background()))
		b = startBroker(t, cfg)
		require.Zero(t, b.Repaired())
	}
	w.stop()
	for i := range 2 {
		fence(t, b, fmt.Sprintf("transformer-%d", i))
	}
	require.NoError(t, newOracle(b.Addr(), false).check(t.Context(), acked.snapshot()))
}
