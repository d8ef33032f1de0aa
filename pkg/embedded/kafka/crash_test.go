package kafka

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// envIterations sets how often each crash test kills the broker.
const envIterations = "SILLAGE_CRASH_ITERATIONS"

// envSeed repeats a run's moments.
const envSeed = "SILLAGE_CRASH_SEED"

func iterations(t *testing.T, quick int) int {
	t.Helper()
	if v := os.Getenv(envIterations); v != "" {
		n, err := strconv.Atoi(v)
		require.NoError(t, err, envIterations)
		return n
	}
	return quick
}

// moments draws how long the load runs before each kill.
func moments(t *testing.T) func() time.Duration {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv(envSeed); v != "" {
		var err error
		seed, err = strconv.ParseUint(v, 10, 64)
		require.NoError(t, err, envSeed)
	}
	t.Logf("seed %d (repeat with %s=%d)", seed, envSeed, seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	return func() time.Duration { return time.Duration(20+rng.IntN(180)) * time.Millisecond }
}

// ledger collects acknowledged records.
type ledger struct {
	mu  sync.Mutex
	ids []uint64
}

func (l *ledger) add(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, id)
}

func (l *ledger) snapshot() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.ids)
}

// perDirectory is how many kills a data directory sees before a new one: every
// check reads all of it.
const perDirectory = 25

// TestKillBroker kills the broker's process at random moments of a full load.
// Its clients live on and find it again; between, the oracle looks at the
// directory through a broker that the clients cannot reach, and kills that, too.
func TestKillBroker(t *testing.T) {
	killBroker(t, iterations(t, 8), false)
}

func killBroker(t *testing.T, n int, bare bool) {
	wait := moments(t)
	for done := 0; done < n; done += perDirectory {
		dir, addr := t.TempDir(), freeAddr(t)
		var acked ledger
		w := newWorkload([]string{addr}, 0)
		w.acked = acked.add
		c := startChild(t, childOptions{role: roleBroker, dir: dir, addr: addr, bare: bare})
		require.NoError(t, w.start())
		for i := range min(perDirectory, n-done) {
			before := w.commits.Load()
			waitFor(t, "no transaction was committed", func() bool { return w.commits.Load() > before+2 })
			pause(wait())
			if !bare && i%4 == 3 {
				// A clean restart keeps transactions open, and fits in between.
				c.stop(t)
				c = startChild(t, childOptions{role: roleBroker, dir: dir, addr: addr})
				pause(wait())
			}
			c.kill()
			known := acked.snapshot()
			look := startChild(t, childOptions{role: roleBroker, dir: dir, addr: "127.0.0.1:0", bare: bare})
			err := newOracle(look.addr, bare).check(t.Context(), known)
			look.kill()
			require.NoError(t, err, "after kill %d (%d acknowledged, %d commits)\nbroker: %s", done+i+1, len(known), w.commits.Load(), c.log)
			c = startChild(t, childOptions{role: roleBroker, dir: dir, addr: addr, bare: bare})
		}
		w.stop()
		c.kill()
		t.Logf("%d kills: %d acknowledged, %d transactions", min(perDirectory, n-done), len(acked.snapshot()), w.commits.Load())
	}
}

// TestKillAllInOne kills a process that holds the broker and its clients, as
// the all-in-one product does.
func TestKillAllInOne(t *testing.T) {
	killAllInOne(t, iterations(t, 10), false)
}

func killAllInOne(t *testing.T, n int, bare bool) {
	wait := moments(t)
	for done := 0; done < n; done += perDirectory {
		dir := t.TempDir()
		var acked ledger
		var from uint64
		for i := range min(perDirectory, n-done) {
			c := startChild(t, childOptions{role: roleAllInOne, dir: dir, addr: "127.0.0.1:0", bare: bare, from: from})
			heard := c.acks(acked.add)
			pause(150*time.Millisecond + wait())
			c.kill()
			<-heard
			known := acked.snapshot()
			for _, id := range known {
				from = max(from, id+1)
			}
			from += 1 << 20 // records in flight have numbers of their own
			look := startChild(t, childOptions{role: roleBroker, dir: dir, addr: "127.0.0.1:0", bare: bare})
			err := newOracle(look.addr, bare).check(t.Context(), known)
			look.kill()
			require.NoError(t, err, "after kill %d (%d acknowledged)\nchild: %s", done+i+1, len(known), c.log)
		}
		t.Logf("%d kills: %d acknowledged", min(perDirectory, n-done), len(acked.snapshot()))
	}
}

// pause lets the load run for a moment: when the kill comes is the input of
// these tests, not something to wait for.
func pause(d time.Duration) { <-time.After(d) }

func freeAddr(t *testing.T) string {
	t.Helper()
	p, err := listen("127.0.0.1:0", "")
	require.NoError(t, err)
	p.close(false)
	return p.advertised.String()
}

// newOracle looks at the broker at addr. Without the repair a partition that
// ends in an open transaction cannot be read to its end.
func newOracle(addr string, bare bool) *oracle {
	o := &oracle{brokers: []string{addr}}
	if bare {
		o.settle = 500 * time.Millisecond
	}
	return o
}
