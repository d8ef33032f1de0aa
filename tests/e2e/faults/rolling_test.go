package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// TestR15RollingRestart ends every instance of both stages in rotation with SIGTERM under load and starts
// it again: each ends in order and leaves no transaction open, and nobody logs an error.
func TestR15RollingRestart(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		rotations, events, over := 1, 12_000, time.Second
		if rig.Full() {
			rotations, events, over = 4, 200_000, 2*time.Second
		}
		r := rig.New(t, rig.Options{
			Scenario: "R15", What: "rolling restart of stages by SIGTERM", Broker: broker, Seed: seed,
			Events: workload.Generate(workload.NewDefaultOptions(seed, events)),
			// Nobody dies here: an instance that a busy machine holds up for seconds is to stay a member.
			Session: 20 * time.Second,
		})
		fleet := r.Fleet(2)
		var complaints []string
		restarts := rotations * len(fleet)
		share := len(r.Events) / restarts
		slowest := time.Duration(0)
		for n := range restarts {
			in := fleet[n%len(fleet)]
			fed := r.Feeding(r.Events[n*share:(n+1)*share], over)
			_, before := r.Judge.Missing()
			require.Eventually(t, func() bool {
				_, now := r.Judge.Missing()
				return now > before
			}, time.Minute, time.Millisecond, "there is no load")
			stopping := time.Now()
			in.Stop()
			slowest = max(slowest, time.Since(stopping))
			require.False(t, r.Open(in), "%s left a transaction open", in.Name)
			r.Inject("SIGTERM", 1)
			complaints = append(complaints, in.Complaints()...)
			in.Start()
			in.WaitReady()
			require.NoError(t, <-fed)
		}
		r.Feed(r.Events[restarts*share:], 0)
		r.Measure("slowest stop s", slowest.Seconds())
		r.Settle()
		r.StateSettled()
		fleet.Stop()
		for _, in := range fleet {
			complaints = append(complaints, in.Complaints()...)
		}
		require.Empty(t, complaints, "errors were logged")
		require.Empty(t, r.OpenTransactions())
		r.Check(fleet.Dirs())
	})
}
