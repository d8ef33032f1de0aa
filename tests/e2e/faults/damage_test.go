package faults

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// damage is something that happens to the stores of an instance.
type damage struct {
	name string
	// running: while the instance works, else while it is stopped.
	running bool
	// quiet: nothing is wrong that a warning would have to tell of; the store is just not where the changelog is.
	quiet bool
	// backup: it takes a copy of earlier, which is to be older than what the stores have by then.
	backup bool
	do     func(d *damaged)
}

func damages() []damage {
	return []damage{
		{name: "store removed", quiet: true, do: func(d *damaged) { d.each(func(dir string) { require.NoError(d.t, os.RemoveAll(dir)) }) }},
		{name: "bits of tables flipped", do: func(d *damaged) { d.flip("*.sst", 512) }},
		{name: "bits of tables flipped at work", running: true, do: func(d *damaged) { d.flip("*.sst", 512) }},
		{name: "one bit of each table flipped at work", running: true, quiet: true, do: func(d *damaged) { d.flip("*.sst", 1<<40) }},
		{name: "manifest damaged", do: func(d *damaged) { d.flip("MANIFEST-*", 16) }},
		{name: "table missing", do: func(d *damaged) { d.remove("*.sst") }},
		{name: "table cut short", do: func(d *damaged) { d.cut("*.sst") }},
		{name: "store behind its changelog", quiet: true, backup: true, do: (*damaged).takeBackup},
		{name: "store ahead of its changelog", do: func(d *damaged) { d.stamp(func(stamp []byte) { at(stamp, 17, 1<<40) }) }},
		{name: "store of another changelog", do: func(d *damaged) { d.stamp(func(stamp []byte) { stamp[1] ^= 0xff }) }},
		{name: "store of another format", do: func(d *damaged) { d.stamp(func(stamp []byte) { stamp[0] ^= 0x40 }) }},
		{name: "store older than its changelog's deletions", do: func(d *damaged) { d.stamp(func(stamp []byte) { at(stamp, 26, 0) }) }},
	}
}

func at(stamp []byte, offset int, v uint64) { binary.BigEndian.PutUint64(stamp[offset:], v) }

// damaged is an instance whose disk fails it.
type damaged struct {
	*inside
	*rand.Rand
	backup string
}

// stores are the directories of the instance's stores.
func (d *damaged) stores() []string {
	entries, err := os.ReadDir(filepath.Join(d.dir, d.topology.Name))
	require.NoError(d.t, err)
	var dirs []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil && e.IsDir() {
			dirs = append(dirs, filepath.Join(d.dir, d.topology.Name, e.Name()))
		}
	}
	require.NotEmpty(d.t, dirs)
	return dirs
}

func (d *damaged) each(fn func(dir string)) {
	for _, dir := range d.stores() {
		fn(dir)
	}
}

func (d *damaged) files(pattern string) []string {
	var files []string
	d.each(func(dir string) {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(d.t, err)
		files = append(files, found...)
	})
	require.NotEmpty(d.t, files, "no store has %s", pattern)
	return files
}

// flip flips a bit in every so many bytes of each file, at least one, in place.
func (d *damaged) flip(pattern string, every int64) {
	for _, name := range d.files(pattern) {
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if os.IsNotExist(err) {
			continue // compacted away meanwhile
		}
		require.NoError(d.t, err)
		info, err := file.Stat()
		require.NoError(d.t, err)
		for offset := d.Int64N(max(1, min(every, info.Size()))); offset < info.Size(); offset += every {
			b := make([]byte, 1)
			_, err := file.ReadAt(b, offset)
			require.NoError(d.t, err)
			b[0] ^= 1 << d.IntN(8)
			_, err = file.WriteAt(b, offset)
			require.NoError(d.t, err)
		}
		require.NoError(d.t, file.Close())
	}
}

func (d *damaged) remove(pattern string) {
	files := d.files(pattern)
	require.NoError(d.t, os.Remove(files[d.IntN(len(files))]))
}

func (d *damaged) cut(pattern string) {
	for _, name := range d.files(pattern) {
		info, err := os.Stat(name)
		require.NoError(d.t, err)
		require.NoError(d.t, os.Truncate(name, d.Int64N(max(1, info.Size()))))
	}
}

// saveBackup copies the stores; takeBackup puts the copies back.
func (d *damaged) saveBackup() {
	d.backup = d.t.TempDir()
	d.each(func(dir string) {
		require.NoError(d.t, os.CopyFS(filepath.Join(d.backup, filepath.Base(dir)), os.DirFS(dir)))
	})
}

func (d *damaged) takeBackup() {
	d.each(func(dir string) { require.NoError(d.t, os.RemoveAll(dir)) })
	require.NoError(d.t, os.CopyFS(filepath.Join(d.dir, d.topology.Name), os.DirFS(d.backup)))
}

// stamp changes what a store says of itself (format, id of the changelog, offset, whether it is being loaded, time), and what it knows
// of all keys: who trusts it gives wrong answers.
func (d *damaged) stamp(change func([]byte)) {
	d.each(func(dir string) {
		db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, DisableWAL: true, Logger: quietPebble{}})
		require.NoError(d.t, err)
		value, closer, err := db.Get([]byte{'m'})
		require.NoError(d.t, err)
		stamp := bytes.Clone(value)
		require.NoError(d.t, closer.Close())
		change(stamp)
		batch := db.NewBatch()
		require.NoError(d.t, batch.Set([]byte{'m'}, stamp, nil))
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'s'}, UpperBound: []byte{'t'}})
		require.NoError(d.t, err)
		for ok := it.First(); ok; ok = it.Next() {
			require.NoError(d.t, batch.Set(bytes.Clone(it.Key()), []byte("0123456789abcdef"), nil))
		}
		require.NoError(d.t, it.Close())
		require.NoError(d.t, batch.Commit(pebble.NoSync))
		require.NoError(d.t, db.Flush())
		require.NoError(d.t, db.Close())
	})
}

type quietPebble struct{}

func (quietPebble) Infof(string, ...any)  {}
func (quietPebble) Errorf(string, ...any) {}
func (quietPebble) Fatalf(format string, _ ...any) {
	panic("changing a store: " + format)
}

// TestR14Damage does to the local stores of a stage, one after the other, what disks and people do to
// them. Each is noticed and made good from the changelog, and no event is answered from a state that is not
// its own: the chains of all keys go on right through it.
func TestR14Damage(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		all := damages()
		rounds, events := 1, 8_000
		if rig.Full() {
			rounds, events = 3, 200_000
		}
		r := rig.New(t, rig.Options{
			Scenario: "R14", What: "stores wiped, damaged, ahead, behind", Broker: broker, Seed: seed, Partitions: 2,
			Events: workload.Generate(workload.NewDefaultOptions(seed, events)),
		})
		first, second := newInside(t, r.Names.FirstStage(), broker.Addrs), newInside(t, r.Names.SecondStage(), broker.Addrs)
		first.tune = func(cfg *stream.Config) { cfg.CacheBytes = 1 } // what is read is read from the disk
		d := &damaged{inside: first, Rand: rand.New(rand.NewPCG(seed, 14))}
		first.start()
		second.start()
		steps := rounds*len(all) + 2
		share := len(r.Events) / steps
		fed := 0
		feed := func(n int) {
			r.Feed(r.Events[fed:fed+n], 0)
			fed += n
			untilHandled(r, fed)
		}
		feed(share)
		first.stop()
		d.saveBackup()
		first.start()
		feed(share)
		slowest := time.Duration(0)
		for range rounds {
			for _, n := range d.Perm(len(all)) {
				first.stop()
				if d.IntN(3) == 0 && !all[n].backup {
					d.saveBackup()
				}
				slowest = max(slowest, d.suffer(all[n], func() { feed(share) }))
				r.Inject(all[n].name, 1)
			}
		}
		r.Feed(r.Events[fed:], 0)
		r.Measure("slowest restore s", slowest.Seconds())
		r.Settle()
		r.StateSettled()
		first.ready()
		first.stop()
		second.stop()
		r.Check([]string{first.dir}, []string{second.dir})
	})
}

// suffer lets a stopped instance suffer damage, runs it and says how long it took to be ready.
func (d *damaged) suffer(what damage, feed func()) time.Duration {
	d.forget()
	if !what.running {
		what.do(d)
	}
	begun := time.Now()
	d.start()
	d.ready()
	took := time.Since(begun)
	if what.running {
		what.do(d)
	}
	feed()
	restores, warnings := d.noticed()
	d.t.Logf("%s: ready after %s, %d steps of restore", what.name, took.Round(time.Millisecond), restores)
	if !what.quiet {
		require.NotEmpty(d.t, warnings, "%s: nobody noticed", what.name)
	}
	if what.name != "one bit of each table flipped at work" { // it may be where nobody reads
		require.Positive(d.t, restores, "%s: nothing was restored\n%s", what.name, warnings)
	}
	if what.running {
		d.renew()
	}
	return took
}

// renew begins the stores anew: a flipped bit that nobody has read is still there, and would be taken for
// the work of the next damage.
func (d *damaged) renew() {
	d.stop()
	d.each(func(dir string) { require.NoError(d.t, os.RemoveAll(dir)) })
	d.start()
	d.ready()
}

// untilHandled waits until what the first events ask for has come out.
func untilHandled(r *rig.Run, events int) {
	all, _ := oracle.NewJudge(r.Names, r.Events).Missing()
	some, _ := oracle.NewJudge(r.Names, r.Events[:events]).Missing()
	looks := time.NewTicker(5 * time.Millisecond)
	defer looks.Stop()
	deadline := time.After(r.Stuck)
	for {
		missing, _ := r.Judge.Missing()
		if missing <= all-some {
			return
		}
		select {
		case <-looks.C:
		case <-deadline:
			v := r.Judge.Verdict()
			require.Failf(r.T(), "stuck", "%d records are missing after %s\n%s\n%s", missing-(all-some), r.Stuck, v.String(), goroutines())
		}
	}
}
