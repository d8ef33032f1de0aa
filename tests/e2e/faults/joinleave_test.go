package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// TestR4JoinLeave lets an instance of a stage join or leave every two seconds, at full length for a
// minute, with more events waiting than can be handled, and compares the throughput with that of the same
// stages left alone.
func TestR4JoinLeave(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		changes, every, events := 6, time.Second, 20_000
		if rig.Full() {
			changes, every, events = 30, 2*time.Second, 200_000
		}
		r := rig.New(t, rig.Options{
			Scenario: "R4", What: "an instance joins or leaves", Broker: broker, Seed: seed,
			Events: workload.Generate(workload.NewDefaultOptions(seed, events)),
			// Small transactions: what the protocol costs shows, and the events last.
			MaxBatch: 100,
		})
		c := &crowd{r: r, rng: rand.New(rand.NewPCG(seed, 4)), live: r.Fleet(2), next: 2}
		c.all = append(c.all, c.live...)

		quarter, tenth := len(r.Events)/4, len(r.Events)/10
		ticks := 0
		tick := time.NewTicker(every)
		defer tick.Stop()
		fed := r.Feeding(r.Events[:quarter], 0)
		steady := c.throughput(quarter, func() bool { return false })
		require.NoError(t, <-fed)
		// The last tenth comes while instances do: they never have nothing to do.
		rest := make(chan error, 1)
		go func() {
			ctx := context.Background()
			err := r.Feeder.Feed(ctx, r.Events[quarter:len(r.Events)-tenth], 0)
			rest <- errors.Join(err, r.Feeder.Feed(ctx, r.Events[len(r.Events)-tenth:], time.Duration(changes)*every))
		}()
		churned := c.throughput(len(r.Events)-tenth-quarter, func() bool {
			select {
			case <-tick.C:
				ticks++
				c.change()
			default:
			}
			return ticks == changes
		})
		for ; ticks < changes; ticks++ {
			<-tick.C
			c.change()
		}
		require.NoError(t, <-rest)
		r.Measure("steady records/s", steady)
		r.Measure("churned records/s", churned)
		r.Measure("least share of steady %", 100*churned/steady)
		r.Settle()
		r.StateSettled()
		c.live.Stop()
		require.Empty(t, r.OpenTransactions())
		r.Check(c.all.Dirs())
	})
}

// crowd is a fleet whose instances come and go.
type crowd struct {
	r    *rig.Run
	rng  *rand.Rand
	live rig.Fleet
	gone rig.Fleet
	all  rig.Fleet
	next int
}

// change lets one instance join or leave. One to three of each stage are there at any time. Half of those
// that join are new, the others come back with the state that they had.
func (c *crowd) change() {
	stage := []string{"first", "second"}[c.rng.IntN(2)]
	var there []int
	for i, in := range c.live {
		if in.Stage == stage {
			there = append(there, i)
		}
	}
	if len(there) == 3 || len(there) > 1 && c.rng.IntN(2) == 0 {
		i := there[c.rng.IntN(len(there))]
		leaver := c.live[i]
		c.live = append(c.live[:i:i], c.live[i+1:]...)
		leaver.Stop()
		c.gone = append(c.gone, leaver)
		c.r.Inject("leave", 1)
		return
	}
	c.r.Inject("join", 1)
	for i, in := range c.gone {
		if in.Stage == stage && c.rng.IntN(2) == 0 {
			c.gone = append(c.gone[:i:i], c.gone[i+1:]...)
			in.Start()
			c.live = append(c.live, in)
			return
		}
	}
	in := c.r.Instance(stage, fmt.Sprint(stage, c.next))
	c.next++
	in.Start()
	c.live, c.all = append(c.live, in), append(c.all, in)
}

// throughput is how many records a second come of the next so many events, which are being fed as fast as
// the broker takes them: from one tenth to nine tenths of them, or until it is told to stop.
func (c *crowd) throughput(events int, stop func() bool) float64 {
	_, before := c.r.Judge.Missing()
	want := c.r.Judge.Wanted() * events / len(c.r.Events)
	begun, first := time.Now(), 0
	for limit := begun.Add(5 * time.Minute); ; {
		stopped := stop()
		_, now := c.r.Judge.Missing()
		came := now - before
		if first == 0 && came >= want/10 {
			begun, first = time.Now(), came
		}
		if stopped || came >= want*9/10 {
			return float64(came-first) / time.Since(begun).Seconds()
		}
		require.True(c.r.T(), time.Now().Before(limit), "the events are not handled")
		<-time.After(5 * time.Millisecond)
	}
}
