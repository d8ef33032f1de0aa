package stream

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// health knows whether the stage gets on: since when there has been work that would not commit, and why.
// It outlives sessions, so that making new ones for ever does not look like progress.
type health struct {
	logger *slog.Logger
	bound  time.Duration    // Config.StuckAfter
	now    func() time.Time // wall clock: operators wait in it

	mu        sync.Mutex // guards what follows; never held while calling out
	since     time.Time  // when the work in hand was first begun; zero: there is none
	last      error      // of the last attempt, nil if it has not failed
	failures  int        // since the last commit
	committed time.Time  // last commit, zero: none yet
	logged    time.Time
	resting   time.Time // since when the member waits for work, zero: it does not
}

// logEvery bounds the lines about failures that go on: one says it, more would bury it.
const logEvery = 30 * time.Second

func newHealth(logger *slog.Logger, bound time.Duration) *health {
	return &health{logger: logger, bound: bound, now: time.Now}
}

// begin notes that there is work.
func (h *health) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		h.since = h.now()
	}
}

// commit notes that it is done.
func (h *health) commit() {
	h.mu.Lock()
	failures := h.failures
	lasting := h.now().Sub(h.logged) < logEvery || failures > 1
	h.committed = h.now()
	h.since, h.last, h.failures, h.logged = time.Time{}, nil, 0, time.Time{}
	h.mu.Unlock()
	if failures > 0 && lasting {
		h.logger.Info("transactions commit again", slog.Int("failures", failures))
	}
}

// rest notes that the member begins to wait for work, or that it ends: a member that waits has nothing in
// hand. What it could not do may be another's by now.
func (h *health) rest(begins bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resting = time.Time{}
	if begins {
		h.resting = h.now()
	}
}

// fail notes a failure and logs it, the first at once and then at a bounded rate. What a rebalance aborts
// is no failure.
func (h *health) fail(ctx context.Context, err error) {
	c := causeOf(err)
	if c == causeRebalance {
		h.logger.DebugContext(ctx, "transaction aborted", slog.String("reason", err.Error()))
		return
	}
	now := h.now()
	h.mu.Lock()
	if h.since.IsZero() {
		h.since = now
	}
	h.last = err
	h.failures++
	failures, lasting, due := h.failures, now.Sub(h.since), now.Sub(h.logged) >= logEvery
	if due {
		h.logged = now
	}
	h.mu.Unlock()
	if due {
		h.logger.WarnContext(ctx, "work does not commit and is tried again", slog.String("cause", string(c)), slog.String("error", err.Error()),
			slog.Int("failures", failures), slog.Duration("since", lasting.Round(time.Second)), slog.String("remedy", c.remedy()))
	}
}

// restsAfter is how long a member must have waited for work to have none: what was aborted comes back
// much sooner.
const restsAfter = 5 * time.Second

// stalled is how long the work in hand has been tried, 0 if there is none, and what went wrong last.
func (h *health) stalled() (time.Duration, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.resting.IsZero() && h.now().Sub(h.resting) > restsAfter {
		h.since, h.last, h.failures = time.Time{}, nil, 0
	}
	if h.since.IsZero() {
		return 0, nil
	}
	return h.now().Sub(h.since), h.last
}

// idle is how long ago the last commit was; ok is false if there was none.
func (h *health) idle() (age time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now().Sub(h.committed), !h.committed.IsZero()
}

// err is not nil once work has been tried for longer than the bound.
func (h *health) err() error {
	lasting, last := h.stalled()
	if lasting < h.bound {
		return nil
	}
	if last == nil {
		return fmt.Errorf("a transaction has been going on for %s", lasting.Round(time.Second))
	}
	return fmt.Errorf("nothing has committed for %s: %w (%s)", lasting.Round(time.Second), last, causeOf(last).remedy())
}
