package faults

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

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
			require.Eventually(t, func() bool { return !r.Open(zombie) && !r.Member(zombie) },
				time.Minute, 50*time.Millisecond, "the broker neither ends the transaction nor the membership of an instance that is gone")
			changes := zombie.Changes()
			// It wakes up to events of the tasks that it believes to own, and the others are at work on them.
			fed = r.Feeding(part[len(part)/2:], over/2)
			zombie.Thaw()
			slowest = max(slowest, waitBack(t, r, zombie, changes, true))
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

// waitBack waits until a zombie takes part again and says how long that took. It is seen to have gone and
// come back, or, if it has work, to have a transaction again: the one that it was stopped in is over.
func waitBack(t *testing.T, r *rig.Run, zombie *rig.Instance, changes int, working bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		member, ready, now := r.Member(zombie), zombie.Ready(), zombie.Changes()
		if member && ready && (now >= changes+2 || working && r.Open(zombie)) {
			return time.Since(begun)
		}
		require.Less(t, time.Since(begun), time.Minute, "%s does not take part again: ready %v, member %v, %d changes and %d before",
			zombie.Name, ready, member, now, changes)
		<-time.After(5 * time.Millisecond)
	}
}

// freezeInTransaction stops an instance at a moment when its transaction is open.
func freezeInTransaction(t *testing.T, r *rig.Run, in *rig.Instance, rng *rand.Rand) {
	t.Helper()
	require.Eventually(t, func() bool {
		in.Freeze()
		if r.Open(in) {
			return true
		}
		in.Thaw()
		<-time.After(time.Duration(rng.IntN(20)) * time.Millisecond)
		return false
	}, time.Minute, time.Millisecond, "no transaction of %s was ever open", in.Name)
}

// TestR6ZombieTimers stops an instance that has nothing to do but timers, until the others have fired them
// all, and continues it: it believes that they are its own to fire, in a transaction that has read nothing.
// What stops it is the offset that such a transaction commits all the same. On kfake its first heartbeats
// are answered as if they had come in time: it must not depend on being told first.
func TestR6ZombieTimers(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		rounds, events := 1, 2_000
		if rig.Full() {
			rounds, events = 4, 20_000
		}
		options := workload.NewDefaultOptions(seed, events)
		options.Timers, options.Poison, options.MaxDelay = 1, 0, 5*time.Second
		r := rig.New(t, rig.Options{
			Scenario: "R6", What: "SIGSTOP while timers wait, SIGCONT when others fired them", Broker: broker, Seed: seed,
			Events: workload.Generate(options),
		})
		late := &lateHeartbeats{}
		late.install(broker)
		fleet := r.Fleet(2)
		share := len(r.Events) / rounds
		handled, fired := 0, 0
		slowest := time.Duration(0)
		for n := range rounds {
			part := r.Events[n*share : (n+1)*share]
			if n == rounds-1 {
				part = r.Events[n*share:]
			}
			r.Feed(part, 0)
			for _, e := range part {
				if e.Op == workload.Timer {
					fired++
				}
				if e.Op != workload.Into && e.Op != workload.From {
					handled++
				}
			}
			// Everything has been handled but timers.
			wait := func(what string, done func() bool) {
				require.Eventually(t, done, time.Minute, 5*time.Millisecond, what)
			}
			wait("the events are not handled", func() bool { return r.Judge.Came(r.Names.Out) >= handled })
			zombie := fleet[2*(n%2)] // of the first stage
			zombie.Freeze()
			r.Inject("SIGSTOP before timers", 1)
			wait("the group does not forget an instance that is gone", func() bool { return !r.Member(zombie) })
			wait("the timers of an instance that is gone do not fire", func() bool { return r.Judge.Came(r.Names.Fired) >= fired })
			changes := zombie.Changes()
			late.of.Store(&zombie.Name)
			zombie.Thaw()
			<-time.After(500 * time.Millisecond)
			late.of.Store(nil)
			slowest = max(slowest, waitBack(t, r, zombie, changes, false))
		}
		r.Measure("rebuilt s", slowest.Seconds())
		r.Settle()
		r.StateSettled()
		fleet.Stop()
		require.Empty(t, r.OpenTransactions())
		r.Check(fleet.Dirs())
	})
}

// TestR6ZombieCommits stops an instance between the offsets of a transaction and its end, past the session
// time-out but not past that of the transaction, and continues it: nothing keeps it from committing but
// what it is told first. Who has its tasks by then must have waited for the end, whichever it is, or the
// records of the transaction are handled twice. The table says how many did commit.
func TestR6ZombieCommits(t *testing.T) {
	rig.EachKfake(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		rounds, events := 1, 6_000
		if rig.Full() {
			rounds, events = 4, 200_000
		}
		r := rig.New(t, rig.Options{
			Scenario: "R6", What: "SIGSTOP between offsets and commit, SIGCONT before the transaction times out", Broker: broker, Seed: seed,
			Events: workload.Generate(workload.NewDefaultOptions(seed, events)), Transaction: 5 * time.Minute,
		})
		late := &lateHeartbeats{}
		late.install(broker)
		ends := &endings{}
		ends.install(broker)
		fleet := r.Fleet(2)
		share := len(r.Events) / rounds
		for n := range rounds {
			zombie := fleet[n%len(fleet)]
			frozen := ends.freeze(zombie)
			part := r.Events[n*share : (n+1)*share]
			fed := r.Feeding(part, 2*time.Second)
			select {
			case <-frozen:
			case <-time.After(time.Minute):
				require.Fail(t, "no transaction was ever to end")
			}
			r.Inject("SIGSTOP before a commit", 1)
			require.NoError(t, <-fed)
			require.Eventually(t, func() bool { return !r.Member(zombie) }, time.Minute, 50*time.Millisecond, "the group does not forget an instance that is gone")
			// The others have its tasks by now, or would have them if they did not wait.
			<-time.After(2 * time.Second)
			changes := zombie.Changes()
			late.of.Store(&zombie.Name)
			zombie.Thaw()
			require.Eventually(t, func() bool { return ends.ended.Load() > int64(n) }, time.Minute, time.Millisecond, "the zombie does not end its transaction")
			late.of.Store(nil)
			waitBack(t, r, zombie, changes, true)
		}
		r.Inject("commits of zombies", int(ends.committed.Load()))
		r.Feed(r.Events[rounds*share:], 0)
		r.Settle()
		r.StateSettled()
		fleet.Stop()
		require.Empty(t, r.OpenTransactions())
		r.Check(fleet.Dirs())
	})
}

// endings watches transactions end.
type endings struct {
	target    atomic.Pointer[rig.Instance] // to be frozen at the offsets of its next transaction
	frozen    atomic.Pointer[chan struct{}]
	zombie    atomic.Pointer[rig.Instance] // was
	ended     atomic.Int64                 // transactions that a zombie has ended after all
	committed atomic.Int64                 // those that it has committed
}

// freeze has the instance stopped when the broker next gets offsets of a transaction from it; the channel
// is closed then.
func (e *endings) freeze(in *rig.Instance) <-chan struct{} {
	frozen := make(chan struct{})
	e.frozen.Store(&frozen)
	e.target.Store(in)
	return frozen
}

func (e *endings) install(broker rig.Broker) {
	broker.Cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.Cluster.KeepControl()
		offsets, ok := req.(*kmsg.TxnOffsetCommitRequest)
		in := e.target.Load()
		if ok && in != nil && offsets.TransactionalID == in.TransactionalID() {
			in.Freeze() // the answer will wait for it
			e.target.Store(nil)
			e.zombie.Store(in)
			close(*e.frozen.Load())
		}
		return nil, nil, false
	})
	broker.Cluster.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.Cluster.KeepControl()
		end, ok := req.(*kmsg.EndTxnRequest)
		if in := e.zombie.Load(); ok && in != nil && end.TransactionalID == in.TransactionalID() {
			e.zombie.Store(nil)
			if end.Commit {
				e.committed.Add(1)
			}
			e.ended.Add(1)
		}
		return nil, nil, false
	})
}

// lateHeartbeats answers the heartbeats of one instance as if it still were a member.
type lateHeartbeats struct{ of atomic.Pointer[string] }

// install does nothing on a broker without a control surface.
func (l *lateHeartbeats) install(broker rig.Broker) {
	if broker.Cluster == nil {
		return
	}
	broker.Cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.Cluster.KeepControl()
		beat, ok := req.(*kmsg.HeartbeatRequest)
		name := l.of.Load()
		if !ok || name == nil || beat.InstanceID == nil || *beat.InstanceID != *name {
			return nil, nil, false
		}
		return beat.ResponseKind(), nil, true
	})
}
