package limit

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// bucket is a token bucket as one would write it first.
type bucket struct {
	tokens, rate, burst float64
	at                  time.Time
}

func (b *bucket) refill(now time.Time) {
	b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.rate)
	b.at = now
}

func TestQuotaAgainstAnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var quotas Quotas
		measure := func(label string) Rate {
			return Rate{PerSecond: float64(rapid.IntRange(1, 50).Draw(t, label)), Burst: rapid.IntRange(1, 100).Draw(t, label+" burst")}
		}
		rates := [2]Rate{measure("source"), measure("tenant")}
		source := quotas.For("a/web", Rates{Events: rates[0]}, start)
		tenant := quotas.For("a", Rates{Events: rates[1]}, start)
		var want [2]bucket
		for i, r := range rates {
			want[i] = bucket{float64(r.Burst), r.PerSecond, float64(r.Burst), start}
		}
		now := start
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			// Whole milliseconds and rates of up to 50: far from where rounding decides.
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond)
			n := rapid.IntRange(1, 120).Draw(t, "events")
			enough, near := true, false
			for i := range want {
				want[i].refill(now)
				missing := min(float64(n), want[i].burst) - want[i].tokens
				enough = enough && missing <= 0
				near = near || (missing > -1e-6 && missing < 1e-6)
			}
			if near {
				continue
			}
			wait, _ := Take(now, Events, n, source, tenant)
			require.Equal(t, enough, wait == 0)
			if enough {
				for i := range want {
					want[i].tokens -= min(float64(n), want[i].burst)
				}
			}
		}
	})
}

func TestTakeNamesTheQuotaThatIsShort(t *testing.T) {
	var quotas Quotas
	source := quotas.For("a/web", Rates{Calls: Rate{PerSecond: 10, Burst: 10}}, start)
	tenant := quotas.For("a", Rates{Calls: Rate{PerSecond: 0.5}}, start)
	wait, _ := Take(start, Calls, 1, source, tenant)
	require.Zero(t, wait)
	wait, at := Take(start, Calls, 1, source, tenant)
	require.Equal(t, 2*time.Second, wait)
	require.Equal(t, 1, at)
	wait, _ = Take(start, Events, 1_000_000, source, tenant, nil)
	require.Zero(t, wait, "events have no bucket here")
	// What the source had taken it has back.
	for range 9 {
		wait, _ = Take(start, Calls, 1, source)
		require.Zero(t, wait)
	}
	wait, _ = Take(start, Calls, 1, source)
	require.Equal(t, 100*time.Millisecond, wait)
}

func TestQuotaOutlivesADefinition(t *testing.T) {
	var quotas Quotas
	rates := Rates{Calls: Rate{PerSecond: 1, Burst: 5}}
	wait, _ := Take(start, Calls, 5, quotas.For("a", rates, start))
	require.Zero(t, wait)
	wait, _ = Take(start, Calls, 1, quotas.For("a", rates, start))
	require.Equal(t, time.Second, wait, "the bucket is as empty as it was")
	rates.Calls.PerSecond = 4
	wait, _ = Take(start, Calls, 1, quotas.For("a", rates, start))
	require.Equal(t, 250*time.Millisecond, wait, "and refills as it is told now")
	require.Nil(t, quotas.For("a", Rates{}, start))
}

// A batch of more than a bucket holds passes when it is full, and takes all of it; a bucket that is made
// smaller does not refuse for ever what was asked of it before.
func TestABatchLargerThanItsBucket(t *testing.T) {
	var quotas Quotas
	q := quotas.For("a", Rates{Events: Rate{PerSecond: 1, Burst: 10}}, start)
	wait, _ := Take(start, Events, 1000, q)
	require.Zero(t, wait)
	wait, _ = Take(start, Events, 1000, q)
	require.Equal(t, 10*time.Second, wait, "not at once, and not never")
	wait, _ = Take(start.Add(10*time.Second), Events, 1000, q)
	require.Zero(t, wait)
	require.Equal(t, time.Second, delay(q.buckets[Events].ReserveN(start, 11), start), "what can never be met is asked for again, not let through")
}

// A name is known for a day and no longer than two after it was used, however often others come.
func TestNamesAreForgotten(t *testing.T) {
	set := new(Names).For("a/web")
	require.True(t, set.Admit(start, 1, 2))
	require.True(t, set.Admit(start, 2, 2))
	for hour := range 24 {
		require.False(t, set.Admit(start.Add(time.Duration(hour)*time.Hour), 3, 2), hour)
	}
	for hour := 24; hour < 48; hour++ {
		require.True(t, set.Admit(start.Add(time.Duration(hour)*time.Hour), 1, 2), hour)
		require.False(t, set.Admit(start.Add(time.Duration(hour)*time.Hour), 3, 2), hour)
	}
	require.True(t, set.Admit(start.Add(48*time.Hour), 3, 2), "2 was not used")
	require.False(t, set.Admit(start.Add(48*time.Hour), 2, 2))
	require.Equal(t, 2, set.Len())
	// A silence of a day and a half does not forget what was used last; one of two days forgets everything.
	require.True(t, set.Admit(start.Add(84*time.Hour), 3, 1))
	require.True(t, set.Admit(start.Add(140*time.Hour), 4, 1))
	require.Equal(t, 1, set.Len())
}

func TestOneHotIdentityStarvesNobody(t *testing.T) {
	h := NewIdentities()
	seed := maphash.MakeSeed()
	r := Rate{PerSecond: 10, Burst: 20}
	hot := maphash.String(seed, "hot")
	now, passed := start, 0
	for second := range 60 {
		for i := range 1000 {
			if h.Allow(now, hot, r) {
				passed++
			}
			if i%10 == 0 {
				require.True(t, h.Allow(now, maphash.String(seed, fmt.Sprintf("quiet-%d-%d", second, i)), r))
			}
		}
		now = now.Add(time.Second)
	}
	require.Equal(t, 20+59*10, passed, "the burst and what was refilled")
	require.True(t, h.Allow(now.Add(time.Hour), hot, r), "and it is not shut out for long")
}

// For every identity that fits the table the bound is exactly a token bucket's.
func TestIdentitiesAgainstAnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := NewIdentities()
		r := Rate{PerSecond: float64(rapid.IntRange(1, 20).Draw(t, "rate")), Burst: rapid.IntRange(1, 30).Draw(t, "burst")}
		want := map[uint64]*bucket{}
		now := start
		for range rapid.IntRange(1, 100).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "pause")) * time.Millisecond)
			key := uint64(rapid.IntRange(0, ways-1).Draw(t, "who")) * sets // all in one set
			b := want[key]
			if b == nil {
				b = &bucket{float64(r.Burst), r.PerSecond, float64(r.Burst), now}
				want[key] = b
			}
			b.refill(now)
			if b.tokens > 1-1e-6 && b.tokens < 1+1e-6 {
				b.tokens = 0 // where rounding decides, agree
				if !h.Allow(now, key, r) {
					b.tokens = 1
				}
				continue
			}
			allowed := b.tokens >= 1
			require.Equal(t, allowed, h.Allow(now, key, r))
			if allowed {
				b.tokens--
			}
		}
	})
}

func TestKnownNamesPassWhenFull(t *testing.T) {
	var names Names
	web := names.For("a/web")
	seed := maphash.MakeSeed()
	hash := func(name string) uint64 { return maphash.String(seed, name) }
	require.True(t, web.Admit(start, hash("Order Completed"), 100))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	admitted := 0
	for i := range 1_000_000 {
		if web.Admit(start, uint64(i)*0x9e3779b97f4a7c15, 100) {
			admitted++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Equal(t, 99, admitted)
	require.Equal(t, 100, web.Len())
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
	require.True(t, web.Admit(start, hash("Order Completed"), 100), "a name in use goes on")
	require.True(t, names.For("a/app").Admit(start, hash("Order Completed"), 100), "another source has its own")

	// A day later names in use stay and there is still no room; two days later what is not used is forgotten.
	day := start.Add(nameLife)
	require.True(t, web.Admit(day, hash("Order Completed"), 100))
	require.False(t, web.Admit(day, hash("new"), 100))
	require.True(t, web.Admit(day.Add(nameLife), hash("Order Completed"), 100))
	require.True(t, web.Admit(day.Add(nameLife), hash("new"), 100))
	require.Equal(t, 2, web.Len())
	require.True(t, web.Admit(day.Add(9*nameLife), hash("new"), 1), "after a long silence nothing is known")
}

func BenchmarkIdentities(b *testing.B) {
	h := NewIdentities()
	r := Rate{PerSecond: 100, Burst: 1000}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.Allow(start.Add(time.Duration(i)*time.Microsecond), uint64(i)*0x9e3779b97f4a7c15, r)
	}
}
