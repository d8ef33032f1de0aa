package stream

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkTimers is P13: timers set over 30 days and fired day by day, on Pebble, and in turns with them
// what they are compared with, as many batched puts of 256 bytes. Run it with -benchtime 1000000x -count 5
// and take the medians. ns/op and allocs/op are of a timer, set and fired; "rate-ratio" and "cpu-ratio" are
// the time of a put over that of a timer.
func BenchmarkTimers(b *testing.B) {
	b.StopTimer()
	puts := putMany(b, b.N)
	b.ReportAllocs()
	b.StartTimer()
	timers := setAndFire(b, b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/timers.wall.Seconds(), "timers/s")
	b.ReportMetric(float64(b.N)/puts.wall.Seconds(), "puts/s")
	b.ReportMetric(float64(puts.wall)/float64(timers.wall), "rate-ratio")
	b.ReportMetric(float64(puts.cpu)/float64(timers.cpu), "cpu-ratio")
	b.ReportMetric(float64(timers.cpu.Nanoseconds())/float64(b.N), "cpu-ns/timer")
	b.ReportMetric(float64(puts.cpu.Nanoseconds())/float64(b.N), "cpu-ns/put")
}

// spent is wall and processor time, of the store's background work, too.
type spent struct{ wall, cpu time.Duration }

func startSpending() func() spent {
	begun, used := time.Now(), processorTime()
	return func() spent { return spent{wall: time.Since(begun), cpu: processorTime() - used} }
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// setAndFire sets n timers, 5000 a batch, and fires them 1000 a sweep.
func setAndFire(b *testing.B, n int) spent {
	b.Helper()
	top := alarmTopology()
	top.New = func() Processor { return benchAlarm{} }
	s, done := benchStore(b)
	defer done()
	t := newTask(&top, 0, s)
	start := time.Unix(1_700_000_000, 0)
	const month = 30 * 24 * 3600
	rec := Record{Topic: "in", Value: make([]byte, 8)}
	stop := startSpending()
	for i := range n {
		if i%5000 == 0 {
			commitBench(b, t, i)
			t.begin(start)
		}
		binary.BigEndian.PutUint64(rec.Value, uint64((i*7919)%month))
		rec.Key = fmt.Appendf(rec.Key[:0], "tenant/profile-%d", i%benchKeys)
		t.process(&rec)
	}
	commitBench(b, t, 0)
	fired := 0
	for day := range 31 {
		t.begin(start.Add(time.Duration(day) * 24 * time.Hour))
		for {
			n := t.fireTimers(1000)
			fired += n
			commitBench(b, t, 0)
			if n < 1000 {
				break
			}
		}
	}
	took := stop()
	if fired > n || fired < n*9/10 { // a name that comes again for a key moves its timer
		b.Fatalf("%d of %d fired", fired, n)
	}
	return took
}

type benchAlarm struct{ benchCounter }

func (benchAlarm) Process(ctx *Context, rec Record) error {
	in := binary.BigEndian.Uint64(rec.Value)
	ctx.SetTimer("t"+string(rec.Value), ctx.Now().Add(time.Duration(in)*time.Second), rec.Key)
	return nil
}

func benchStore(b *testing.B) (s *pebbleStore, done func()) {
	b.Helper()
	caches := newStoreCaches(32 << 20)
	s, err := openPebble(b.TempDir()+"/0", [16]byte{1}, caches.settings(testLogger(b)))
	require.NoError(b, err)
	return s, func() {
		require.NoError(b, s.close())
		caches.close()
	}
}

func commitBench(b *testing.B, t *task, position int) {
	b.Helper()
	t.takeOutputs()
	if err := t.commit(int64(position)); err != nil {
		b.Fatal(err)
	}
}

// putMany makes n batched puts of 256 bytes.
func putMany(b *testing.B, n int) spent {
	b.Helper()
	s, done := benchStore(b)
	defer done()
	value := make([]byte, 256)
	keys := make([]byte, 0, 64*1000)
	var writes []write
	stop := startSpending()
	for i := range n {
		at := len(keys)
		keys = fmt.Appendf(keys, "s00tenant/profile-%d/%d", i%benchKeys, i)
		writes = append(writes, write{key: keys[at:len(keys):len(keys)], value: value})
		if len(writes) == 1000 || i == n-1 {
			if err := s.apply(writes, int64(i)); err != nil {
				b.Fatal(err)
			}
			writes, keys = writes[:0], keys[:0]
		}
	}
	return stop()
}
