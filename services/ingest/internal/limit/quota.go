package limit

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a token bucket's measure.
type Rate struct {
	// PerSecond refills the bucket; 0 or less means no limit.
	PerSecond float64
	// Burst is its size; 0 means what a second refills, at least 1.
	Burst int
}

func (r Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return int(min(max(math.Ceil(r.PerSecond), 1), math.MaxInt32))
}

// Unit is what a bucket counts.
type Unit uint8

// What buckets count.
const (
	Calls Unit = iota
	Events
	units
)

// String is the unit's name in metrics.
func (u Unit) String() string { return [...]string{"calls", "events"}[u] }

// Quota is what one source or one tenant may send. It is safe for concurrent use; nil allows everything.
type Quota struct {
	buckets [units]*rate.Limiter
}

// Rates are the measures of a quota.
type Rates struct{ Calls, Events Rate }

// Quotas hands out a quota for each name and keeps it, so that a change of the definitions does not refill
// buckets. It is safe for concurrent use; the zero value is ready. It holds as many as there are names, which
// are those of definitions.
type Quotas struct {
	mu     sync.Mutex // guards byName
	byName map[string]*Quota
}

// For is the quota of a name, with these rates from now on; nil if nothing is limited.
func (q *Quotas) For(name string, rates Rates, now time.Time) *Quota {
	q.mu.Lock()
	defer q.mu.Unlock()
	if rates.Calls.PerSecond <= 0 && rates.Events.PerSecond <= 0 {
		delete(q.byName, name)
		return nil
	}
	quota := &Quota{}
	before := q.byName[name]
	for unit, r := range [units]Rate{rates.Calls, rates.Events} {
		if r.PerSecond <= 0 {
			continue
		}
		if before != nil && before.buckets[unit] != nil {
			bucket := before.buckets[unit]
			bucket.SetLimitAt(now, rate.Limit(r.PerSecond))
			bucket.SetBurstAt(now, r.burst())
			quota.buckets[unit] = bucket
			continue
		}
		quota.buckets[unit] = rate.NewLimiter(rate.Limit(r.PerSecond), r.burst())
	}
	if q.byName == nil {
		q.byName = make(map[string]*Quota)
	}
	q.byName[name] = quota
	return quota
}

// Take takes n tokens of a unit from each quota, or from none: then wait is the time after which they would
// be there, and at says in which quota they are missing. More tokens than a bucket holds count as a full one,
// so that a large batch passes after a silence instead of never.
func Take(now time.Time, unit Unit, n int, quotas ...*Quota) (wait time.Duration, at int) {
	var taken [4]*rate.Reservation
	held := taken[:0]
	for i, q := range quotas {
		if q == nil || q.buckets[unit] == nil {
			continue
		}
		bucket := q.buckets[unit]
		r := bucket.ReserveN(now, min(n, bucket.Burst()))
		if d := delay(r, now); d > wait {
			wait, at = d, i
		}
		held = append(held, r)
	}
	if wait > 0 {
		for _, r := range held {
			r.CancelAt(now)
		}
	}
	return wait, at
}

// delay is a reservation's; one that can never be met (a burst that was changed meanwhile) asks for a second.
func delay(r *rate.Reservation, now time.Time) time.Duration {
	if !r.OK() {
		return time.Second
	}
	return r.DelayFrom(now)
}
