package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// hoarder counts the records of each key and keeps much with each, so that its stores write to disk.
type hoarder struct{ counter }

func (hoarder) Process(ctx *Context, _ Record) error {
	var n uint64
	if v, ok := ctx.Get("n"); ok {
		n = binary.BigEndian.Uint64(v)
	}
	ctx.Put("n", binary.BigEndian.AppendUint64(nil, n+1))
	ballast := make([]byte, 300<<10)
	for i := range ballast {
		ballast[i] = byte(uint64(i) * (n + 17) >> 3)
	}
	ctx.Put(fmt.Sprint("ballast-", n%8), ballast)
	ctx.Emit("out", ctx.Key(), fmt.Append(nil, n+1))
	return nil
}

func hoardTopology() Topology {
	return Topology{Name: "hoard", Inputs: []string{"in"}, Outputs: []string{"out"}, New: func() Processor { return hoarder{} }}
}

// fillableDisk is full, when told so, for all paths that hold the given part.
func fillableDisk(full *atomic.Bool, part string) vfs.FS {
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileClose, errorfs.OpRemove, errorfs.OpRemoveAll, errorfs.OpLock:
			return nil
		default:
		}
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || !full.Load() || !strings.Contains(op.Path, part) {
			return nil
		}
		return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
	}))
}

// keysOfPartitions finds a key for each partition.
func keysOfPartitions(t testing.TB) []string {
	t.Helper()
	keys := make([]string, testPartitions)
	hash := kgo.StickyKeyPartitioner(nil).ForTopic("in")
	for i, found := 0, 0; found < testPartitions; i++ {
		key := fmt.Sprint("k", i)
		if p := hash.Partition(&kgo.Record{Key: []byte(key)}, testPartitions); keys[p] == "" {
			keys[p] = key
			found++
		}
	}
	return keys
}

func startOnDisk(t testing.TB, top Topology, cfg Config, fs vfs.FS) *Runner {
	t.Helper()
	r, err := NewRunner(top, cfg, testDeps(t))
	require.NoError(t, err)
	r.fs = fs
	require.NoError(t, r.Start(context.Background()))
	t.Cleanup(func() { stopRunner(t, r) })
	return r
}

// TestFullDiskSuspendsThePartition fills the disk under one partition while it works: it stands still and
// says why and what to do, the others go on, and with room again it goes on by itself. Nothing is lost or
// doubled.
func TestFullDiskSuspendsThePartition(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	out := startTail(t, brokers, "out")
	cfg := quickConfig(brokers, t.TempDir())
	cfg.MaxBatchRecords = 10
	var full atomic.Bool
	r := startOnDisk(t, hoardTopology(), cfg, fillableDisk(&full, filepath.Join("hoard", "0")))
	keys := keysOfPartitions(t)
	w := newWriter(t, brokers)
	send := func(n int) {
		for range n {
			for _, key := range keys {
				w.send("in", key, "x")
			}
		}
		w.flush()
	}
	send(5)
	out.waitFor(t, 5*testPartitions)
	full.Store(true)
	send(60)
	require.Eventually(t, func() bool {
		err := r.Ready(context.Background())
		return err != nil && strings.Contains(err.Error(), "partition 0 stands still") && strings.Contains(err.Error(), "no space left on device; free space under")
	}, 60*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		done := byKey(out.all())
		for _, key := range keys[1:] {
			if len(done[key]) < 65 {
				return false
			}
		}
		return true
	}, 60*time.Second, 10*time.Millisecond, "the others go on")
	require.Equal(t, int64(1), r.ready.blocked())
	full.Store(false)
	out.waitFor(t, 65*testPartitions)
	waitReady(t, r)
	for key, values := range byKey(out.all()) {
		require.Len(t, values, 65, key)
		for i, v := range values {
			require.Equal(t, fmt.Sprint(i+1), v, key)
		}
	}
	require.Zero(t, r.ready.blocked())
	select {
	case err := <-r.Failed():
		require.NoError(t, err)
	default:
	}
}

// TestStartOnFullDisk: an instance that starts on a full disk is not ready, says why, and begins when there
// is room, with the state that it had.
func TestStartOnFullDisk(t *testing.T) {
	brokers := startKfake(t, "in", "out").ListenAddrs()
	out := startTail(t, brokers, "out")
	cfg := quickConfig(brokers, t.TempDir())
	r := startRunner(t, counterTopology(), cfg, testDeps(t))
	produce(t, brokers, record("in", "k", "x"))
	out.waitFor(t, 1)
	stopRunner(t, r)
	var full atomic.Bool
	full.Store(true)
	r = startOnDisk(t, counterTopology(), cfg, fillableDisk(&full, cfg.DataDir))
	produce(t, brokers, record("in", "k", "x"))
	require.Eventually(t, func() bool {
		err := r.Ready(context.Background())
		return err != nil && strings.Count(err.Error(), "free space under") == testPartitions
	}, 30*time.Second, 5*time.Millisecond)
	require.Len(t, out.all(), 1)
	full.Store(false)
	require.Equal(t, []string{"k x=1", "k x=2"}, sortedOutputs(out.waitFor(t, 2)))
	waitReady(t, r)
}

// TestInstanceIDIsWholeOrNone: what a crash or a full disk left of it is not taken for an id.
func TestInstanceIDIsWholeOrNone(t *testing.T) {
	r := &Runner{logger: testLogger(t)}
	path := filepath.Join(t.TempDir(), "instance")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	first, err := r.instanceID(path)
	require.NoError(t, err)
	require.NotEmpty(t, first)
	again, err := r.instanceID(path)
	require.NoError(t, err)
	require.Equal(t, first, again)
	unwritable := filepath.Join(t.TempDir(), "none", "instance")
	other, err := r.instanceID(unwritable)
	require.NoError(t, err)
	require.NotEmpty(t, other)
}
