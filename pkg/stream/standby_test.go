package stream

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
)

// TestStandbyProperties: every task has as many copies as the members want, none with its owner, none with
// a member that keeps none, spread evenly, and a plan that is carried out is a plan at rest. When an owner
// dies, its tasks go to those who have the copies.
func TestStandbyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := int32(rapid.IntRange(1, 24).Draw(t, "tasks"))
		members := make([]balanceMember, rapid.IntRange(1, 6).Draw(t, "members"))
		wanted, keepers := 0, 0
		for i := range members {
			members[i] = balanceMember{id: fmt.Sprint("m", i), memberData: memberData{
				standbys: rapid.IntRange(0, 3).Draw(t, "standbys"),
				stored:   rapid.MapOf(rapid.Int32Range(0, tasks-1), rapid.Int64Range(0, 5)).Draw(t, "stored"),
			}}
			wanted = max(wanted, members[i].standbys)
			if members[i].standbys > 0 {
				keepers++
			}
		}
		owner := settle(t, members, tasks)
		standbys := carryOut(members, tasks)
		copies := make([]int, tasks)
		for m, list := range standbys {
			require.True(t, members[m].standbys > 0 || len(list) == 0)
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(list))), len(list))
			for _, task := range list {
				require.NotEqual(t, m, owner[task], "an owner is no standby of itself")
				copies[task]++
			}
		}
		for task, n := range copies {
			available := keepers
			if members[owner[task]].standbys > 0 {
				available--
			}
			require.Equal(t, min(wanted, available), n, "task %d", task)
		}
		require.Equal(t, standbys, carryOut(members, tasks), "at rest nothing moves")

		// Every member has caught up; one dies.
		for m := range members {
			for task := range members[m].stored {
				members[m].stored[task] = 1
			}
			for _, task := range append(slices.Clone(standbys[m]), members[m].owned...) {
				members[m].stored[task] = 100
			}
		}
		if len(members) == 1 {
			return
		}
		dead := rapid.IntRange(0, len(members)-1).Draw(t, "dead")
		orphans := members[dead].owned
		members = slices.Delete(slices.Clone(members), dead, dead+1)
		first := planTasks(members, tasks).owner
		warm := 0
		for _, task := range orphans {
			if first[task] >= 0 && members[first[task]].stored[task] == 100 {
				warm++
			}
		}
		if len(members) == 1 && members[0].standbys > 0 {
			require.Equal(t, len(orphans), warm)
		}
		room := 0
		for m := range members {
			have := 0
			for _, task := range orphans {
				if members[m].stored[task] == 100 {
					have++
				}
			}
			room += min(have, max(0, int(tasks)/len(members)-len(members[m].owned)))
		}
		if wanted == 1 { // each orphan has one copy at most: nobody competes for it
			require.GreaterOrEqual(t, warm, room, "copies are used as far as fair shares allow")
		}
	})
}

// carryOut plans, and lets every member have the copies that it was given.
func carryOut(members []balanceMember, tasks int32) [][]int32 {
	standbys := planTasks(members, tasks).standbys
	for m, list := range standbys {
		stored := make(map[int32]int64)
		for _, task := range append(slices.Clone(list), members[m].owned...) {
			stored[task] = 10
		}
		members[m].stored = stored
		slices.Sort(standbys[m])
	}
	return standbys
}

func TestBalanceAvoidsWhoRefuses(t *testing.T) {
	old := balanceMember{id: "old", generation: 1, owned: []int32{0, 1}, memberData: memberData{refused: map[int32]bool{0: true}, stored: map[int32]int64{0: 9}}}
	renewed := balanceMember{id: "renewed", generation: 1, owned: []int32{2, 3}}
	plan := planTasks([]balanceMember{old, renewed}, 4)
	require.Equal(t, -1, plan.owner[0], "it is given up first")
	require.Equal(t, []int{-1, 0}, plan.owner[:2])
	old.owned = []int32{1}
	plan = planTasks([]balanceMember{old, renewed}, 4)
	require.Equal(t, 0, plan.owner[1])
	require.NotEqual(t, 0, plan.owner[0])
	require.Equal(t, []int{0, 0}, planTasks([]balanceMember{old}, 2).owner, "if everybody refuses it stands still somewhere")
}

func TestMemberDataSurvivesItsJourney(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := memberData{
			standbys: rapid.IntRange(0, maxStandbys).Draw(t, "standbys"),
			stored:   rapid.MapOf(rapid.Int32Range(0, 1000), rapid.Int64Range(0, 1<<50)).Draw(t, "stored"),
			refused:  map[int32]bool{},
		}
		for _, p := range rapid.SliceOf(rapid.Int32Range(0, 9)).Draw(t, "refused") {
			d.refused[p] = true
		}
		require.Equal(t, d, decodeMemberData(d.encode()))
		cut := rapid.SliceOf(rapid.Byte()).Draw(t, "noise")
		decodeMemberData(cut)
		decodeStandbys(cut)
	})
	require.Equal(t, memberData{stored: map[int32]int64{3: 0, 7: 0}, refused: map[int32]bool{}}, decodeMemberData([]byte{1, 2, 3, 7}), "of an earlier version")
	require.Equal(t, []int32{4, 2}, decodeStandbys(encodeStandbys([]int32{4, 2})))
}

// restoreLog notes what restores read.
type restoreLog struct {
	mu      sync.Mutex
	records map[int32]int64 // of the last restore of each partition
}

func (l *restoreLog) note(p RestoreProgress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.records == nil {
		l.records = make(map[int32]int64)
	}
	l.records[p.Partition] = p.Records
}

func (l *restoreLog) total() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		n += r
	}
	return n
}

func (l *restoreLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.records)
}

// awaitStandbys waits until a runner keeps copies of n partitions and all of them are at the end.
func awaitStandbys(t testing.TB, brokers []string, r *Runner, n int) {
	t.Helper()
	admin, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer admin.Close()
	end := &restorer{top: &r.top, client: admin}
	require.Eventually(t, func() bool {
		behind, copies := r.lags.total()
		if behind > 0 || copies != int64(n) {
			return false
		}
		for _, p := range r.lags.partitions() {
			at, err := end.endOf(context.Background(), p)
			require.NoError(t, err)
			r.held.mu.Lock()
			there := r.held.positions[p]
			r.held.mu.Unlock()
			if there < at {
				return false
			}
		}
		return true
	}, 60*time.Second, 20*time.Millisecond)
}

// TestStandbyTakesOver kills the owner of all partitions under an instance that joined later and keeps
// copies: it reads no more of the changelog than what was written after its copies stood still, and the
// chains go on unbroken. Before that it must not have answered for anything.
func TestStandbyTakesOver(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		if !strings.Contains(t.Name(), "kfake") {
			createTopics(t, brokers, "chain-in", "chain-in2", "chain-out", "chain-fired")
		} else {
			brokers = startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired").ListenAddrs()
		}
		w := newWorkload(newSeed(t), 2000)
		out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")
		network := newBadNetwork(nil)
		deps := testDeps(t)
		deps.KafkaOptions = []kgo.Opt{kgo.Dialer(network.dial)}
		cfg := quickConfig(brokers, t.TempDir())
		cfg.Standbys = 1
		owner := startRunner(t, chainTopology(), cfg, deps)
		waitReady(t, owner)
		half := *w
		half.records = w.records[:len(w.records)/2]
		half.feed(t, brokers, time.Second)

		var log restoreLog
		deps = testDeps(t)
		deps.OnRestore = log.note
		cfg.DataDir = t.TempDir()
		second := startRunner(t, chainTopology(), cfg, deps)
		waitReady(t, second)
		// Half of the tasks have moved, with their state, and each has copies of what the other owns.
		require.Eventually(t, func() bool {
			return len(second.ready.tasks()) == testPartitions/2 && len(owner.ready.tasks()) == testPartitions/2
		}, 60*time.Second, 10*time.Millisecond)
		awaitStandbys(t, brokers, second, testPartitions/2)
		awaitStandbys(t, brokers, owner, testPartitions/2)
		written := changelogEnd(t, brokers, "chain.changelog")
		require.Greater(t, written, int64(200))
		log.reset()

		network.setCut(true) // as if it died: it neither answers nor leaves
		half.records = w.records[len(w.records)/2:]
		half.feed(t, brokers, time.Second)
		require.Eventually(t, func() bool { return len(second.ready.tasks()) == testPartitions }, 60*time.Second, 10*time.Millisecond)
		waitReady(t, second)
		require.LessOrEqual(t, log.total(), changelogEnd(t, brokers, "chain.changelog")-written)
		network.setCut(false)
		out.waitFor(t, w.outputs())
		w.check(t, out.all())
	})
}

// changelogEnd is the sum of the ends of all partitions of a topic.
func changelogEnd(t testing.TB, brokers []string, topic string) (sum int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	top := Topology{Name: strings.TrimSuffix(topic, ".changelog")}
	r := &restorer{top: &top, client: client}
	for p := range int32(testPartitions) {
		end, err := r.endOf(context.Background(), p)
		require.NoError(t, err)
		sum += end
	}
	return sum
}

// TestStandbyFollows: a copy is what the changelog says, read-committed, and holds nothing of a transaction
// that is open or was aborted.
func TestStandbyFollows(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	cfg := quickConfig(brokers, t.TempDir())
	cfg.Standbys = 1
	startRunner(t, counterTopology(), cfg, testDeps(t))
	cfg.DataDir = t.TempDir()
	second := startRunner(t, counterTopology(), cfg, testDeps(t))
	waitReady(t, second)
	awaitStandbys(t, brokers, second, testPartitions/2)
	copies := second.lags.partitions()

	other, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer other.Close()
	put := func(value string) {
		for _, p := range copies {
			rec := &kgo.Record{Topic: "counter.changelog", Partition: p, Key: appendStoreKey(nil, kindState, []byte("k"), "x"), Value: []byte(value)}
			require.NoError(t, other.ProduceSync(context.Background(), rec).FirstErr())
		}
	}
	end := func(how kgo.TransactionEndTry) {
		require.NoError(t, other.Flush(context.Background()))
		require.NoError(t, other.EndTransaction(context.Background(), how))
	}
	require.NoError(t, other.BeginTransaction())
	put("committed")
	end(kgo.TryCommit)
	require.NoError(t, other.BeginTransaction())
	put("aborted")
	end(kgo.TryAbort)
	require.NoError(t, other.BeginTransaction())
	put("open")
	at := make(map[int32]int64)
	require.Eventually(t, func() bool {
		behind, _ := second.lags.total()
		for _, p := range copies {
			second.held.mu.Lock()
			at[p] = second.held.positions[p]
			second.held.mu.Unlock()
		}
		return behind == int64(len(copies)) // what is open is not read
	}, 30*time.Second, 20*time.Millisecond)
	stopRunner(t, second)
	end(kgo.TryAbort)
	settings := testSettings(t, second.fs)
	id, err := (&restorer{top: &second.top, client: other}).lookUp(context.Background(), copies[0])
	require.NoError(t, err)
	for _, p := range copies {
		s, err := openPebble(filepath.Join(cfg.DataDir, "counter", fmt.Sprint(p)), id.id, settings)
		require.NoError(t, err)
		require.Equal(t, at[p], s.position())
		v, ok, err := s.get(appendStoreKey(nil, kindState, []byte("k"), "x"), &arena{})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "committed", string(v))
		require.NoError(t, s.close())
	}
}

// TestStoresThatStayedAwayAreRemoved: once they are old enough, and not before; what is in use or a copy
// stays, and so does what is no store.
func TestStoresThatStayedAwayAreRemoved(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	cfg := quickConfig(brokers, t.TempDir())
	cfg.Standbys = 1
	dir := filepath.Join(cfg.DataDir, "counter")
	old := time.Now().Add(-13 * time.Hour)
	leave := func(name string, at time.Time) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "000001.sst"), []byte("x"), 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name, "000001.sst"), at, at))
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	leave("17", old)                        // no partition of that number
	leave("18", time.Now().Add(-time.Hour)) // may come back
	leave("19"+removedSuffix, time.Now())   // the process died while it removed it
	leave("backup", old)
	r := startRunner(t, counterTopology(), cfg, testDeps(t))
	waitReady(t, r)
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "17"))
		return os.IsNotExist(err)
	}, 20*time.Second, 5*time.Millisecond)
	require.NoDirExists(t, filepath.Join(dir, "19"+removedSuffix))
	require.DirExists(t, filepath.Join(dir, "18"))
	require.DirExists(t, filepath.Join(dir, "backup"))
	for p := range testPartitions {
		require.DirExists(t, filepath.Join(dir, fmt.Sprint(p)))
	}
}

// TestJanitorKeepsItsPace: it looks again after a while, and by the age of what was written last.
func TestJanitorKeepsItsPace(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	var removed []int32
	j := &janitor{
		fs: vfs.Default, dir: dir, keep: time.Hour, logger: testLogger(t),
		now: func() time.Time { return now }, removed: func(p int32) { removed = append(removed, p) },
	}
	used := map[int32]bool{1: true}
	for p := range 3 {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(p)), 0o700))
	}
	sweep := func() { j.sweep(context.Background(), func(p int32) bool { return used[p] }) }
	sweep()
	require.Empty(t, removed)
	now = now.Add(59 * time.Minute)
	sweep()
	require.Empty(t, removed)
	now = now.Add(5 * time.Minute)
	sweep()
	require.Empty(t, removed, "it looked a moment ago")
	now = now.Add(5 * time.Minute)
	sweep()
	slices.Sort(removed)
	require.Equal(t, []int32{0, 2}, removed)
	require.DirExists(t, filepath.Join(dir, "1"))
}
