package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// versioned counts the records of each key and sets a timer with each. It writes its version in front of
// everything it keeps, and handles nothing that is of another.
type versioned struct{ version int }

func (p versioned) read(v []byte) (int, error) {
	number, ok := strings.CutPrefix(string(v), fmt.Sprintf("v%d:", p.version))
	if !ok {
		return 0, fmt.Errorf("%q is not of version %d", v, p.version)
	}
	return strconv.Atoi(number)
}

func (p versioned) Process(ctx *Context, rec Record) error {
	n := 0
	if v, ok := ctx.Get("n"); ok {
		var err error
		if n, err = p.read(v); err != nil {
			return err
		}
	}
	if into, ok := strings.CutPrefix(string(rec.Value), "into:"); ok {
		ctx.Emit("counts", []byte(into), fmt.Appendf(nil, "%s has %d", ctx.Key(), n))
		return nil
	}
	value := fmt.Appendf(nil, "v%d:%d", p.version, n+1)
	ctx.Put("n", value)
	ctx.SetTimer(fmt.Sprint("t", n+1), ctx.Now().Add(24*time.Hour), value)
	ctx.Emit("counts", ctx.Key(), fmt.Append(nil, n+1))
	return nil
}

func (p versioned) Timer(_ *Context, timer Timer) error {
	_, err := p.read(timer.Payload)
	return err
}

func (p versioned) Merge(dst *Context, src *Source) error {
	total := 0
	if v, ok := dst.Get("n"); ok {
		n, err := p.read(v)
		if err != nil {
			return err
		}
		total = n
	}
	if v, ok := src.Get("n"); ok {
		n, err := p.read(v)
		if err != nil {
			return err
		}
		total += n
	}
	var errs error
	timers := 0
	src.Timers(func(_ string, _ time.Time, payload []byte) bool {
		_, err := p.read(payload)
		errs = errors.Join(errs, err)
		timers++
		return true
	})
	dst.Put("n", fmt.Appendf(nil, "v%d:%d", p.version, total))
	dst.Emit("counts", dst.Key(), fmt.Appendf(nil, "merged %d with %d timers", total, timers))
	return errs
}

// versionedTopology is the stage of one version. calls counts what was upgraded, committed or not.
func versionedTopology(version int, calls *atomic.Int64) Topology {
	top := Topology{
		Name: "versioned", Inputs: []string{"in"}, Outputs: []string{"counts"}, StateVersion: version,
		New: func() Processor { return versioned{version} },
		Merges: func(rec Record) Merge {
			if into, ok := strings.CutPrefix(string(rec.Value), "into:"); ok {
				return Merge{Kind: MergeInto, Other: []byte(into), ID: string(rec.Key) + into}
			}
			return Merge{}
		},
	}
	top.Upgrade = func(u *Upgrade) error {
		calls.Add(1)
		renew := func(v []byte) ([]byte, error) {
			n, err := versioned{u.From()}.read(v)
			return fmt.Appendf(nil, "v%d:%d", version, n), err
		}
		v, ok := u.Get("n")
		if !ok {
			return errors.New("a key without a count")
		}
		value, errs := renew(v)
		u.Put("n", value)
		u.Timers(func(id string, due time.Time, payload []byte) bool {
			renewed, err := renew(payload)
			errs = errors.Join(errs, err)
			u.SetTimer(id, due, renewed)
			return true
		})
		return errs
	}
	return top
}

// checkCounts: every key has been counted from 1 without a gap, and nothing was refused.
func checkCounts(t *testing.T, brokers []string, records []*kgo.Record, keys, each int) {
	t.Helper()
	got := byKey(records)
	require.Len(t, got, keys)
	for key, values := range got {
		require.Len(t, values, each, "key %s: %v", key, values)
		for i, v := range values {
			require.Equal(t, strconv.Itoa(i+1), v, "key %s: %v", key, values)
		}
	}
	require.Empty(t, startTail(t, brokers, "versioned.dlq").all())
}

func sendRounds(t *testing.T, brokers []string, keys, rounds int) {
	t.Helper()
	w := newWriter(t, brokers)
	for range rounds {
		for k := range keys {
			w.send("in", fmt.Sprint("key-", k), "x")
		}
	}
	w.flush()
}

// TestUpgradeAcrossRestart goes through two versions with a jump over a third; each key is upgraded once.
func TestUpgradeAcrossRestart(t *testing.T) {
	brokers := startKfake(t, "in", "counts").ListenAddrs()
	out := startTail(t, brokers, "counts")
	cfg := quickConfig(brokers, t.TempDir())
	const keys = 200
	for i, version := range []int{0, 1, 3} {
		var calls atomic.Int64
		if version == 3 {
			cfg.DataDir = t.TempDir() // another machine: what it knows is from the changelog
		}
		r := startRunner(t, versionedTopology(version, &calls), cfg, testDeps(t))
		sendRounds(t, brokers, keys, 2)
		out.waitFor(t, keys*2*(i+1))
		waitReady(t, r)
		stopRunner(t, r)
		want := int64(keys)
		if version == 0 {
			want = 0
		}
		require.Equal(t, want, calls.Load(), "version %d", version)
	}
	checkCounts(t, brokers, out.all(), keys, 6)
}

// TestUpgradeSurvivesDeath cuts an instance off in the middle of an upgrade, again and again; another goes
// on where its last transaction ended.
func TestUpgradeSurvivesDeath(t *testing.T) {
	brokers := startKfake(t, "in", "counts").ListenAddrs()
	out := startTail(t, brokers, "counts")
	const keys = 9000 // more than two steps for each partition
	var calls atomic.Int64
	r := startRunner(t, versionedTopology(0, &calls), quickConfig(brokers, t.TempDir()), testDeps(t))
	sendRounds(t, brokers, keys, 1)
	out.waitFor(t, keys)
	stopRunner(t, r)
	rng := newSeed(t)
	for range 2 {
		network := newBadNetwork(nil)
		deps := testDeps(t)
		deps.KafkaOptions = []kgo.Opt{kgo.Dialer(network.dial)}
		var seen atomic.Int64
		top := versionedTopology(1, &calls)
		upgrade, death := top.Upgrade, 1+rng.Int64N(keys/3)
		top.Upgrade = func(u *Upgrade) error {
			if seen.Add(1) == death {
				network.setCut(true)
			}
			return upgrade(u)
		}
		startRunner(t, top, quickConfig(brokers, t.TempDir()), deps)
		require.Eventually(t, func() bool { return network.cut.Load() }, 60*time.Second, 5*time.Millisecond)
		t.Cleanup(func() { network.setCut(false) })
	}
	startRunner(t, versionedTopology(1, &calls), quickConfig(brokers, t.TempDir()), testDeps(t))
	sendRounds(t, brokers, keys, 1)
	out.waitFor(t, 2*keys)
	t.Logf("%d upgrades of %d keys", calls.Load(), keys)
	checkCounts(t, brokers, out.all(), keys, 2)
}

// TestRollingUpgrade restarts two instances with a new version, one after the other, while records flow
// and keys merge between partitions of both versions.
func TestRollingUpgrade(t *testing.T) {
	brokers := startKfake(t, "in", "counts").ListenAddrs()
	out := startTail(t, brokers, "counts")
	var calls atomic.Int64
	start := func(version int, dir string) *Runner {
		r := startRunner(t, versionedTopology(version, &calls), quickConfig(brokers, dir), testDeps(t))
		waitReady(t, r)
		return r
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	first, second := start(0, dirs[0]), start(0, dirs[1])
	const keys = 100
	sendRounds(t, brokers, keys, 1)
	out.waitFor(t, keys)
	stopRunner(t, first)
	sendRounds(t, brokers, keys, 1)
	startRunner(t, versionedTopology(1, &calls), quickConfig(brokers, dirs[0]), testDeps(t))
	out.waitFor(t, 2*keys)
	sendRounds(t, brokers, keys, 1)
	out.waitFor(t, 3*keys) // what goes on has all that it is sent before it is merged into
	// Half of the keys end in others; what they had may go from either version to the other.
	w := newWriter(t, brokers)
	for k := 0; k < keys; k += 2 {
		w.send("in", fmt.Sprint("key-", k), fmt.Sprint("into:key-", k+1))
	}
	w.flush()
	// An old instance stops at state of the new version; it is the next to be restarted.
	stopRunner(t, second)
	startRunner(t, versionedTopology(1, &calls), quickConfig(brokers, dirs[1]), testDeps(t))
	sent := 3*keys + 2*keys/2
	out.waitFor(t, sent)
	merged := 0
	for _, r := range out.all() {
		if text := string(r.Value); strings.HasPrefix(text, "merged") {
			require.Equal(t, "merged 6 with 3 timers", text)
			merged++
		}
	}
	require.Equal(t, keys/2, merged)
	require.Empty(t, startTail(t, brokers, "versioned.dlq").all())
}

// TestDowngradeIsRefused: an instance of an earlier version neither reads nor changes what is not for it,
// says so, and leaves it to one of the new version when that comes.
func TestDowngradeIsRefused(t *testing.T) {
	brokers := startKfake(t, "in", "counts").ListenAddrs()
	out := startTail(t, brokers, "counts")
	var calls atomic.Int64
	cfg := quickConfig(brokers, t.TempDir())
	const keys = 40
	r := startRunner(t, versionedTopology(2, &calls), cfg, testDeps(t))
	sendRounds(t, brokers, keys, 1)
	out.waitFor(t, keys)
	stopRunner(t, r)
	end := changelogEnd(t, brokers, "versioned.changelog")

	old := startRunner(t, versionedTopology(1, &calls), cfg, testDeps(t))
	sendRounds(t, brokers, keys, 1)
	require.Eventually(t, func() bool {
		err := old.Ready(context.Background())
		return err != nil && strings.Count(err.Error(), "upgrade the instance") == testPartitions
	}, 30*time.Second, 5*time.Millisecond)
	require.Equal(t, end, changelogEnd(t, brokers, "versioned.changelog"))
	require.Len(t, out.all(), keys)

	// All that the old one has goes to the new one, and stays there.
	cfg.DataDir = t.TempDir()
	startRunner(t, versionedTopology(2, &calls), cfg, testDeps(t))
	out.waitFor(t, 2*keys)
	checkCounts(t, brokers, out.all(), keys, 2)
	require.Zero(t, calls.Load())
}

// TestUpgradeThatFailsLeavesThePartition: as it was, and the others at work.
func TestUpgradeThatFailsLeavesThePartition(t *testing.T) {
	brokers := startKfake(t, "in", "counts").ListenAddrs()
	out := startTail(t, brokers, "counts")
	var calls atomic.Int64
	cfg := quickConfig(brokers, t.TempDir())
	const keys = 40
	r := startRunner(t, versionedTopology(0, &calls), cfg, testDeps(t))
	sendRounds(t, brokers, keys, 1)
	out.waitFor(t, keys)
	stopRunner(t, r)
	top := versionedTopology(1, &calls)
	upgrade := top.Upgrade
	top.Upgrade = func(u *Upgrade) error {
		if string(u.Key()) == "key-7" {
			panic("not thought of")
		}
		return upgrade(u)
	}
	r = startRunner(t, top, cfg, testDeps(t))
	sendRounds(t, brokers, keys, 1)
	require.Eventually(t, func() bool {
		err := r.Ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "could not be upgraded") && !strings.Contains(err.Error(), "\n") && len(r.ready.tasks()) == testPartitions-1
	}, 30*time.Second, 5*time.Millisecond)
	stopRunner(t, r)
	startRunner(t, versionedTopology(1, &calls), cfg, testDeps(t))
	out.waitFor(t, 2*keys)
	checkCounts(t, brokers, out.all(), keys, 2)
}

// TestUpgradeProperties cuts upgrades at random keys, lets later versions take over in the middle, and
// upgrades what is left; every key goes through each call with the version that it is of.
func TestUpgradeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := newMemStore()
		var writes []write
		keys := rapid.SliceOfDistinct(rapid.StringN(0, 3, 6), rapid.ID).Draw(t, "keys")
		for i, key := range keys {
			kind := byte(kindState)
			value := []byte("0")
			if i%3 == 0 {
				kind, value = kindTimer, appendTimerValue(nil, int64(i), "", []byte("0"))
			}
			writes = append(writes, write{key: appendStoreKey(nil, kind, []byte(key), "n"), value: value})
		}
		require.NoError(t, store.apply(writes, 1))
		version := 0
		for version < 6 {
			version += rapid.IntRange(1, 2).Draw(t, "versions")
			top := Topology{Name: "x", Inputs: []string{"in"}, StateVersion: version, New: func() Processor { return versioned{} }}
			top.Upgrade = func(u *Upgrade) error {
				check := func(v []byte) []byte {
					require.Equal(t, strconv.Itoa(u.From()), string(v))
					return []byte(strconv.Itoa(version))
				}
				if v, ok := u.Get("n"); ok {
					u.Put("n", check(v))
				}
				u.Timers(func(id string, due time.Time, payload []byte) bool {
					u.SetTimer(id, due, check(payload))
					return true
				})
				return nil
			}
			steps := rapid.IntRange(0, 8).Draw(t, "steps")
			if version >= 6 {
				steps = 1000
			}
			for range steps {
				task := newTask(&top, 0, store) // as after a crash: nothing is remembered
				task.begin(time.UnixMilli(1))
				done, err := task.upgrade(rapid.IntRange(1, 4).Draw(t, "limit"))
				require.NoError(t, err)
				require.NoError(t, task.commit(store.position()+1))
				if done {
					break
				}
			}
		}
		seen := 0
		require.NoError(t, store.scan([]byte{kindState}, []byte{kindTimer + 1}, func(k, v []byte) bool {
			if k[0] == kindTimer {
				timer, err := parseTimerValue(v)
				require.NoError(t, err)
				v = timer.payload
			}
			require.Equal(t, strconv.Itoa(version), string(v))
			seen++
			return true
		}))
		require.Equal(t, len(keys), seen)
		old := Topology{Name: "x", Inputs: []string{"in"}, StateVersion: version - 1, New: func() Processor { return versioned{} }}
		_, err := newTask(&old, 0, store).versions()
		require.ErrorIs(t, err, errNewer)
	})
}

func TestPartsCarryTheirVersion(t *testing.T) {
	for _, version := range []int{0, 1, 300} {
		p := &part{version: version, key: "k", merge: "m", count: 1, state: []named{{name: "n", value: []byte("v")}}}
		got, err := decodePart(encodePart(p))
		require.NoError(t, err)
		require.Equal(t, version, got.version)
		require.Equal(t, p.state, got.state)
	}
	require.True(t, bytes.HasPrefix(encodePart(&part{count: 1}), []byte{handoverPart}), "as written before there were versions")
}
