package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// TestR6Zombie stops an instance with SIGSTOP in the middle of a transaction, lets the group give its tasks
// away and the broker abort its transaction, and continues it while the others are at work: it is fenced,
// nothing that it still writes is seen, and it takes part again.
func TestR6Zombie(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		rounds, events, over := 2, 12_000, 4*time.Second
		if rig.Full() {
			rounds, events, over = 4, 200_000, 8*time.Second
		}
		rng := rand.New(rand.NewPCG(seed, 6))
		r := rig.New(t, rig.Options{
			Scenario: "R6", What: "SIGSTOP past all time-outs, SIGCONT", Broker: broker, Seed: seed,
			Events: workload.Generate(workload.NewDefaultOptions(seed, events)),
		})
		fleet := r.Fleet(2)
		share := len(r.Events) / rounds
		slowest := time.Duration(0)
		for n := range rounds {
			part := r.Events[n*share : (n+1)*share]
			fed := r.Feeding(part[:len(part)/2], over/2)
			zombie := fleet[n%len(fleet)]
			freezeInTransaction(t, r, zombie, rng)
			r.Inject("SIGSTOP in a transaction", 1)
			require.NoError(t, <-fed)
			require.Eventually(t, func() bool { return !r.Open(zombie.Topology(), zombie.Name) && !r.Member(zombie) },
				time.Minute, 50*time.Millisecond, "the broker neither ends the transaction nor the membership of an instance that is gone")
			changes := zombie.Changes()
			// It wakes up to events of the tasks that it believes to own, and the others are at work on them.
			fed = r.Feeding(part[len(part)/2:], over/2)
			zombie.Thaw()
			thawed := time.Now()
			// Either it is seen to have gone and come back, or it has a transaction of its own again: the one that
			// it was stopped in is over.
			back := func() bool {
				return r.Member(zombie) && zombie.Ready() && (zombie.Changes() >= changes+2 || r.Open(zombie.Topology(), zombie.Name))
			}
			for !back() {
				require.Less(t, time.Since(thawed), time.Minute, "%s does not take part again: ready %v, member %v, %d changes and %d before",
					zombie.Name, zombie.Ready(), r.Member(zombie), zombie.Changes(), changes)
				<-time.After(5 * time.Millisecond)
			}
			slowest = max(slowest, time.Since(thawed))
			require.NoError(t, <-fed)
		}
		r.Feed(r.Events[rounds*share:], 0)
		r.Measure("rebuilt s", slowest.Seconds())
		r.Settle()
		r.StateSettled()
		fleet.Stop()
		require.Empty(t, r.OpenTransactions())
		r.Check(fleet.Dirs())
	})
}

// freezeInTransaction stops an instance at a moment when its transaction is open.
func freezeInTransaction(t *testing.T, r *rig.Run, in *rig.Instance, rng *rand.Rand) {
	t.Helper()
	require.Eventually(t, func() bool {
		in.Freeze()
		if r.Open(in.Topology(), in.Name) {
			return true
		}
		in.Thaw()
		<-time.After(time.Duration(rng.IntN(20)) * time.Millisecond)
		return false
	}, time.Minute, time.Millisecond, "no transaction of %s was ever open", in.Name)
}
