package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// TestR3KillNine kills every instance of both stages in rotation with SIGKILL while events flow; each
// comes back on its own directory, now and then killed again before it is ready, now and then two at once.
func TestR3KillNine(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		kills, events, over := 6, 12_000, 700*time.Millisecond
		if rig.Full() {
			kills, events, over = 20, 200_000, 2*time.Second
		}
		rng := rand.New(rand.NewPCG(seed, 3))
		r := rig.New(t, rig.Options{
			Scenario: "R3", What: "kill -9 of every stage in rotation", Broker: broker, Seed: seed,
			Events: workload.Generate(workload.NewDefaultOptions(seed, events)),
		})
		fleet := r.Fleet(2)
		kill := func(i *rig.Instance) {
			i.Kill()
			r.Inject("kill -9", 1)
		}
		share := len(r.Events) / (kills + 1)
		for n := range kills {
			fed := r.Feeding(r.Events[n*share:(n+1)*share], over)
			<-time.After(time.Duration(rng.Int64N(int64(over))))
			victim := fleet[n%len(fleet)]
			kill(victim)
			switch rng.IntN(5) {
			case 0: // again, while it starts
				victim.Start()
				<-time.After(time.Duration(rng.Int64N(int64(over))))
				kill(victim)
			case 1: // with another
				other := fleet[(n+1+rng.IntN(len(fleet)-1))%len(fleet)]
				kill(other)
				other.Start()
			}
			victim.Start()
			require.NoError(t, <-fed)
		}
		r.Feed(r.Events[kills*share:], over)
		r.Settle()
		r.StateSettled()
		fleet.Stop()
		require.Empty(t, r.OpenTransactions())
		r.Check(fleet.Dirs())
	})
}
