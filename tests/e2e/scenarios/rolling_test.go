package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// TestRolling restarts the stack with SIGTERM under load. A client sees nothing worse than a refused
// connection or a request to wait, and everything that was acknowledged is stored, once.
func TestRolling(t *testing.T) {
	t.Parallel()
	const clients, restarts, apart = 8, 3, 300
	s := stack.New(t, stack.Options{})
	s.Start()
	load := &load{stack: s, troubles: map[string]int{}}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var group errgroup.Group
	for i := range clients {
		group.Go(func() error { return load.post(ctx, i) })
	}
	for i := range restarts {
		stack.Eventually(t, soon, "some load has passed", func(c *assert.CollectT) {
			require.Greater(c, load.acknowledged(), (i+1)*apart)
		})
		s.Terminate()
		s.Start()
	}
	more := load.acknowledged() + apart
	stack.Eventually(t, soon, "load passes after the last restart", func(c *assert.CollectT) { require.Greater(c, load.acknowledged(), more) })
	stop()
	require.NoError(t, group.Wait())
	t.Logf("%d events acknowledged; while it was down: %v", load.acknowledged(), load.troubles)
	sent := load.acknowledged()
	stack.Eventually(t, soon, "everything is stored", func(c *assert.CollectT) {
		type row struct{ Rows, Messages int }
		require.Equal(c, row{sent, sent}, stack.One[row](c, s,
			`SELECT toInt32(count()) AS Rows, toInt32(uniqExact(message_id)) AS Messages FROM events WHERE tenant = 'demo'`))
		require.Zero(c, stack.One[struct{ N int }](c, s, `SELECT toInt32(sum(difference)) AS N FROM ledger_balance`).N)
	})
	s.Terminate()
}

// TestStopWhileStarting sends SIGTERM at moments of the start: the process stops in order each time, as
// it does later, and a start on what it leaves works.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{})
	for _, milliseconds := range []int{0, 50, 100, 200, 300, 400, 500, 600, 700, 800} {
		process := s.Launch()
		stack.Eventually(t, soon, "it has begun to start", func(c *assert.CollectT) {
			require.Contains(c, process.Output(), "starting Sillage on")
		})
		<-time.After(time.Duration(milliseconds) * time.Millisecond)
		s.Terminate()
	}
	s.Start()
	s.Terminate()
}

// load are clients that post one event after the other, each until it is acknowledged.
type load struct {
	stack    *stack.Stack
	mu       sync.Mutex // guards acked and troubles
	acked    int
	troubles map[string]int
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

func (l *load) note(trouble string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if trouble == "" {
		l.acked++
	} else {
		l.troubles[trouble]++
	}
}

// post sends the events of one client until ctx ends; the last one is brought to its end.
func (l *load) post(ctx context.Context, client int) error {
	for n := 0; ctx.Err() == nil; n++ {
		body := stack.Event{"userId": fmt.Sprintf("u-%d-%d", client, n%50), "event": "Seen", "messageId": fmt.Sprintf("r-%d-%d", client, n)}
		for {
			answer, err := l.stack.Post(context.Background(), "demo-key", "/v1/track", body)
			if err == nil && answer.Code == http.StatusOK {
				l.note("")
				break
			}
			if err := l.bearable(answer, err); err != nil {
				return err
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	return nil
}

// bearable tells the troubles that a client must expect of a process that restarts from errors.
func (l *load) bearable(answer stack.Answer, err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		l.note("connection refused")
	case err != nil:
		return fmt.Errorf("a request broke: %w", err)
	case answer.Code == http.StatusServiceUnavailable && answer.RetryAfter != "":
		l.note("503 with Retry-After")
	default:
		return fmt.Errorf("ingest answers %d: %s", answer.Code, answer.Body)
	}
	return nil
}
