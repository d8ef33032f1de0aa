// Package clock injects time. Domain code takes `now` as a parameter; adapters ask a Clock for it, so
// that a live stack can run faster than the wall (Scaled) and a test can move time by hand (Manual).
//
// A Clock never goes backwards by itself. Durations given to After are in the clock's own time: an hour
// of a clock that runs 60 times faster passes in a minute of the wall.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time and waits for it.
type Clock interface {
	// Now is the current time of this clock, in UTC.
	Now() time.Time
	// Sleep waits for d of this clock's time or until ctx is done, and returns ctx's error then.
	Sleep(ctx context.Context, d time.Duration) error
	// Wall converts a duration of this clock into one of the wall, for example to bound a poll.
	Wall(d time.Duration) time.Duration
}

// System is the wall clock.
type System struct{}

// Now is time.Now in UTC.
func (System) Now() time.Time { return time.Now().UTC() }

// Sleep waits for d.
func (System) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, d) }

// Wall is d.
func (System) Wall(d time.Duration) time.Duration { return d }

// Scaled runs at a multiple of the wall clock's speed from an anchor on. Two processes with the same
// anchor and speed agree on the time.
type Scaled struct {
	anchor Anchor
}

// Anchor fixes a Scaled clock: at wall time Wall it shows Clock, and it runs Speed times as fast.
type Anchor struct {
	Wall  time.Time `json:"wall"`
	Clock time.Time `json:"clock"`
	Speed float64   `json:"speed"`
}

// NewScaled returns a clock that shows anchor.Clock at anchor.Wall and runs anchor.Speed times as fast as the wall.
func NewScaled(anchor Anchor) *Scaled { return &Scaled{anchor: anchor} }

// Now is the scaled time, in UTC.
func (s *Scaled) Now() time.Time { return s.At(time.Now()) }

// At is the time that the clock shows at a given time of the wall.
func (s *Scaled) At(wall time.Time) time.Time {
	passed := float64(wall.Sub(s.anchor.Wall)) * s.anchor.Speed
	return s.anchor.Clock.Add(time.Duration(passed)).UTC()
}

// Sleep waits for d of scaled time.
func (s *Scaled) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, s.Wall(d)) }

// Wall is d divided by the speed.
func (s *Scaled) Wall(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.anchor.Speed)
}

// Manual is a clock for tests that moves only when told.
type Manual struct {
	mu      sync.Mutex
	now     time.Time
	changed chan struct{}
}

// NewManual returns a clock that shows now.
func NewManual(now time.Time) *Manual {
	return &Manual{now: now.UTC(), changed: make(chan struct{})}
}

// Now is the time last set.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Set moves the clock to now, forward or back.
func (m *Manual) Set(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = now.UTC()
	close(m.changed)
	m.changed = make(chan struct{})
}

// Advance moves the clock forward by d.
func (m *Manual) Advance(d time.Duration) { m.Set(m.Now().Add(d)) }

// Sleep waits until the clock has been moved by d or more.
func (m *Manual) Sleep(ctx context.Context, d time.Duration) error {
	until := m.Now().Add(d)
	for {
		m.mu.Lock()
		now, changed := m.now, m.changed
		m.mu.Unlock()
		if !now.Before(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Wall is d: a manual clock has no speed.
func (m *Manual) Wall(d time.Duration) time.Duration { return d }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
