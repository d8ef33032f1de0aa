package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// TestR15RollingIngest restarts two ingest processes in rotation with SIGTERM under load, behind clients
// that do what a load balancer does: who is refused a connection goes to the other address. No client sees
// an error, and what was acknowledged is stored, exactly once.
func TestR15RollingIngest(t *testing.T) {
	t.Parallel()
	clients, rotations, apart := 8, 1, 300
	if os.Getenv(envFaults) == "full" {
		clients, rotations, apart = 16, 10, 1_000
	}
	begun := time.Now()
	row := report.Row{Scenario: "R15", What: "rolling restart of two ingests", Broker: "embedded", Injected: map[string]int{}, Measured: map[string]float64{}}
	t.Cleanup(func() {
		row.Failed, row.Seconds = t.Failed(), time.Since(begun).Seconds()
		require.NoError(t, report.Write(row))
	})
	s := stack.New(t, stack.Options{})
	s.Start()
	binary := stack.BuildService(t, "ingest")
	ingests := []*stack.Service{s.Service(t, binary), s.Service(t, binary)}
	for _, in := range ingests {
		in.Start()
	}
	b := &balanced{stack: s, ingests: ingests}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		group.Go(func() error { return b.post(ctx, i) })
	}
	some := func(when string) {
		more := b.sum().acked + apart
		stack.Eventually(t, soon, "load passes "+when, func(c *assert.CollectT) {
			require.True(c, ctx.Err() != nil || b.sum().acked > more)
		})
	}
	for range rotations {
		for _, in := range ingests {
			some("before a restart")
			in.Terminate()
			require.Empty(t, in.Complaints())
			some("while one is away")
			in.Start()
			row.Injected["SIGTERM"]++
		}
	}
	some("after the last restart")
	stop()
	require.NoError(t, group.Wait())
	sum := b.sum()
	row.Events, row.Checked, row.Measured["connections refused"] = sum.acked, sum.acked, float64(sum.refused)
	t.Logf("%d events acknowledged, %d connections refused", sum.acked, sum.refused)
	type counts struct{ Rows, Messages int }
	var stored counts
	stack.Eventually(t, soon, "everything is stored", func(c *assert.CollectT) {
		stored = stack.One[counts](c, s, `SELECT toInt32(count()) AS Rows, toInt32(uniqExact(message_id)) AS Messages FROM events WHERE tenant = 'demo'`)
		row.Lost, row.Doubled = max(0, sum.acked-stored.Messages), stored.Rows-stored.Messages
		require.Equal(c, counts{sum.acked, sum.acked}, stored)
		require.Zero(c, stack.One[struct{ N int }](c, s, `SELECT toInt32(sum(difference)) AS N FROM ledger_balance`).N)
	})
	for _, in := range ingests {
		in.Terminate()
	}
	s.Terminate()
}

// balanced are clients with a list of addresses. It posts each event until one of them has taken it.
type balanced struct {
	stack   *stack.Stack
	ingests []*stack.Service
	mu      sync.Mutex // guards counts
	counts  sums
}

type sums struct{ acked, refused int }

func (b *balanced) sum() sums {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// post sends the events of one client until ctx ends; the last one is brought to its end. Anything but
// success and a refused connection is an error, and so is an event that no address takes.
func (b *balanced) post(ctx context.Context, client int) error {
	for n := 0; ctx.Err() == nil; n++ {
		body := stack.Event{"userId": fmt.Sprintf("u-%d-%d", client, n%50), "event": "Seen", "messageId": fmt.Sprintf("b-%d-%d", client, n)}
		if err := b.one(client+n, body); err != nil {
			return err
		}
	}
	return nil
}

func (b *balanced) one(first int, body stack.Event) error {
	for try := range b.ingests {
		addr := b.ingests[(first+try)%len(b.ingests)].HTTP
		answer, err := b.stack.PostTo(context.Background(), addr, "demo-key", "/v1/track", body)
		b.mu.Lock()
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			b.counts.refused++
		case err == nil && answer.Code == http.StatusOK:
			b.counts.acked++
		case err == nil:
			err = fmt.Errorf("ingest answers %d: %s", answer.Code, answer.Body)
		default:
			err = fmt.Errorf("a request broke: %w", err)
		}
		b.mu.Unlock()
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
	}
	return errors.New("every address refuses the connection")
}
