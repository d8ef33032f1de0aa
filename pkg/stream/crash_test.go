package stream

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
)

// child starts an instance in a process of its own.
func child(t *testing.T, brokers []string, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=none")
	cmd.Env = append(os.Environ(), envChildBrokers+"="+strings.Join(brokers, ","), envChildDir+"="+dir)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
	})
	return cmd
}

// TestKillNine kills whole processes in rotation while records flow; each comes back on its own directory.
func TestKillNine(t *testing.T) {
	kafkatest.Each(t, func(t *testing.T, brokers []string) {
		rng := newSeed(t)
		if !strings.Contains(t.Name(), "kfake") {
			createTopics(t, brokers, "chain-in", "chain-in2", "chain-out", "chain-fired")
		} else {
			brokers = startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired").ListenAddrs()
		}
		w := newWorkload(rng, 6000)
		out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")
		dirs := []string{t.TempDir(), t.TempDir()}
		procs := []*exec.Cmd{child(t, brokers, dirs[0]), child(t, brokers, dirs[1])}
		fed := w.feeding(brokers, 6*time.Second)
		pause := time.NewTicker(400 * time.Millisecond)
		defer pause.Stop()
		kills := 0
		for running := true; running; {
			<-pause.C
			select {
			case err := <-fed:
				require.NoError(t, err)
				running = false
			default:
			}
			i := rng.IntN(2)
			require.NoError(t, procs[i].Process.Kill())
			_, _ = procs[i].Process.Wait()
			procs[i] = child(t, brokers, dirs[i])
			kills++
		}
		out.waitFor(t, w.outputs())
		t.Logf("%d kills", kills)
		w.check(t, out.all())
	})
}

// TestZombieIsFenced stops a process until the group has given its tasks away and its transaction has
// timed out, and lets it go on then.
func TestZombieIsFenced(t *testing.T) {
	rng := newSeed(t)
	brokers := startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired").ListenAddrs()
	w := newWorkload(rng, 5000)
	out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")
	zombie := child(t, brokers, t.TempDir())
	half := *w
	half.records = w.records[:len(w.records)/2]
	fed := half.feeding(brokers, time.Second)
	require.Eventually(t, func() bool { return len(out.all()) > 200 }, 20*time.Second, time.Millisecond)
	require.NoError(t, zombie.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, <-fed)
	startRunner(t, chainTopology(), quickConfig(brokers, t.TempDir()), testDeps(t))
	seen := len(out.all())
	require.Eventually(t, func() bool { return len(out.all()) > seen+500 }, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, zombie.Process.Signal(syscall.SIGCONT))
	half.records = w.records[len(w.records)/2:]
	half.feed(t, brokers, 2*time.Second)
	out.waitFor(t, w.outputs())
	w.check(t, out.all())
}

// TestBrokerErrors answers the requests that end a transaction with every error that a broker may give.
func TestBrokerErrors(t *testing.T) {
	rng := newSeed(t)
	cluster := startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired")
	brokers := cluster.ListenAddrs()
	w := newWorkload(rng, 4000)
	var mu sync.Mutex
	injected := 0
	fail := func(key kmsg.Key, errs ...*kerr.Error) {
		cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			mu.Lock()
			defer mu.Unlock()
			if injected >= 25 || rng.IntN(6) != 0 {
				return nil, nil, false
			}
			injected++
			return answerWith(req, errs[rng.IntN(len(errs))]), nil, true
		})
	}
	fail(kmsg.EndTxn, kerr.UnknownServerError, kerr.CoordinatorNotAvailable, kerr.ConcurrentTransactions,
		kerr.InvalidTxnState, kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.NotCoordinator)
	fail(kmsg.TxnOffsetCommit, kerr.UnknownServerError, kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress,
		kerr.CoordinatorLoadInProgress, kerr.InvalidProducerEpoch)
	startRunner(t, chainTopology(), quickConfig(brokers, t.TempDir()), testDeps(t))
	out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")
	w.feed(t, brokers, 3*time.Second)
	out.waitFor(t, w.outputs())
	mu.Lock()
	t.Logf("%d errors injected", injected)
	mu.Unlock()
	w.check(t, out.all())
}

func answerWith(req kmsg.Request, err *kerr.Error) kmsg.Response {
	resp := req.ResponseKind()
	switch r := resp.(type) {
	case *kmsg.EndTxnResponse:
		r.ErrorCode = err.Code
	case *kmsg.TxnOffsetCommitResponse:
		asked, _ := req.(*kmsg.TxnOffsetCommitRequest)
		for _, topic := range asked.Topics {
			rt := kmsg.NewTxnOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, err.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
	}
	return resp
}

// TestStoreIsRebuilt damages stores, removes one, and moves on to another machine: the chains would break
// if any state were missing or wrong.
func TestStoreIsRebuilt(t *testing.T) {
	rng := newSeed(t)
	brokers := startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired").ListenAddrs()
	w := newWorkload(rng, 3000)
	out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")
	cfg := quickConfig(brokers, t.TempDir())
	r := startRunner(t, chainTopology(), cfg, testDeps(t))
	third := len(w.records) / 3
	part := *w
	part.records = w.records[:third]
	part.feed(t, brokers, time.Second)
	require.Eventually(t, func() bool { return len(out.all()) > third/2 }, 30*time.Second, 5*time.Millisecond)
	stopRunner(t, r)

	damage(t, filepath.Join(cfg.DataDir, "chain"), rng)
	progress := 0
	deps := testDeps(t)
	var mu sync.Mutex
	deps.OnRestore = func(RestoreProgress) {
		mu.Lock()
		defer mu.Unlock()
		progress++
	}
	r = startRunner(t, chainTopology(), cfg, deps)
	part.records = w.records[third : 2*third]
	part.feed(t, brokers, time.Second)
	waitReady(t, r)
	stopRunner(t, r)
	mu.Lock()
	require.Positive(t, progress)
	mu.Unlock()

	cfg.DataDir = t.TempDir() // another machine
	startRunner(t, chainTopology(), cfg, testDeps(t))
	part.records = w.records[2*third:]
	part.feed(t, brokers, time.Second)
	out.waitFor(t, w.outputs())
	w.check(t, out.all())
}

// damage flips bits in the tables of all stores but one, and removes that one.
func damage(t *testing.T, dir string, rng *rand.Rand) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		for range 3 {
			data[rng.IntN(len(data))] ^= 0x10
		}
		require.NoError(t, os.WriteFile(f, data, 0o600))
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "0")))
}

// TestRestoreWaitsForOpenTransaction: a changelog whose end is in an open transaction is not complete.
func TestRestoreWaitsForOpenTransaction(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	cfg := quickConfig(brokers, t.TempDir())
	r := startRunner(t, counterTopology(), cfg, testDeps(t))
	waitReady(t, r)
	stopRunner(t, r)
	other, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.BeginTransaction())
	key := appendStoreKey(nil, kindState, []byte("k"), "n")
	for p := range int32(testPartitions) {
		rec := &kgo.Record{Topic: "counter.changelog", Partition: p, Key: key, Value: []byte{0, 0, 0, 0, 0, 0, 0, 41}}
		require.NoError(t, other.ProduceSync(context.Background(), rec).FirstErr())
	}
	r = startRunner(t, counterTopology(), cfg, testDeps(t))
	require.Eventually(t, func() bool {
		err := r.Ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "restoring partition 3")
	}, 10*time.Second, 5*time.Millisecond)
	produce(t, brokers, record("in", "k", "x"))
	require.NoError(t, other.Flush(context.Background()))
	require.NoError(t, other.EndTransaction(context.Background(), kgo.TryCommit))
	waitReady(t, r)
	out := startTail(t, brokers, "out")
	require.Equal(t, []string{"k x=42"}, sortedOutputs(out.waitFor(t, 1)))
}

// TestDamageFoundAtWork flips bits under a running instance: what it finds damaged is rebuilt, and no
// wrong answer comes out meanwhile.
func TestDamageFoundAtWork(t *testing.T) {
	s := benchLikeStore(t)
	for i := range 2000 {
		key := appendStoreKey(nil, kindState, []byte{byte(i >> 8), byte(i)}, "n")
		require.NoError(t, s.apply([]write{{key: key, value: make([]byte, 200)}}, int64(i)))
	}
	require.NoError(t, s.db.Flush())
	files, err := filepath.Glob(filepath.Join(s.dir, "*.sst"))
	require.NoError(t, err)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		for i := 0; i < len(data)*3/4; i += 512 {
			data[i] ^= 0x10
		}
		require.NoError(t, os.WriteFile(f, data, 0o600))
	}
	top := counterTopology()
	task := newTask(&top, 0, s)
	task.begin(time.Unix(0, 0))
	for i := 0; i < 2000 && task.fault() == nil; i++ {
		task.process(&Record{Topic: "in", Key: []byte{byte(i >> 8), byte(i)}, Value: []byte("x")})
	}
	require.ErrorIs(t, task.fault(), errCorrupt)
	require.True(t, s.broken.Load())
	task.abort()
	dir := s.dir
	require.NoError(t, s.close())
	require.NoDirExists(t, dir)
}

func benchLikeStore(t *testing.T) *pebbleStore {
	t.Helper()
	caches := newStoreCaches(1 << 20)
	s, err := openPebble(filepath.Join(t.TempDir(), "0"), [16]byte{1}, caches.settings(testLogger(t)))
	require.NoError(t, err)
	t.Cleanup(caches.close)
	return s
}

// TestUnusableStoresBeginAnew: of another changelog, of another format, too old.
func TestUnusableStoresBeginAnew(t *testing.T) {
	caches := newStoreCaches(1 << 20)
	defer caches.close()
	settings := caches.settings(testLogger(t))
	dir := filepath.Join(t.TempDir(), "0")
	open := func(id byte, later time.Duration) *pebbleStore {
		settings.now = func() time.Time { return time.Now().Add(later) }
		s, err := openPebble(dir, [16]byte{id}, settings)
		require.NoError(t, err)
		return s
	}
	closeAt := func(s *pebbleStore, position int64) {
		require.NoError(t, s.apply([]write{{key: []byte("sk"), value: []byte("v")}}, position))
		require.NoError(t, s.close())
	}
	closeAt(open(1, 0), 7)
	s := open(1, time.Hour)
	require.Equal(t, int64(7), s.position())
	closeAt(s, 8)
	s = open(2, time.Hour)
	require.Zero(t, s.position(), "another changelog")
	closeAt(s, 9)
	s = open(2, 14*time.Hour)
	require.Zero(t, s.position(), "older than the tombstones of its changelog")
	_, ok, err := s.get([]byte("sk"), &arena{})
	require.NoError(t, err)
	require.False(t, ok)
	require.NoError(t, s.close())
}
