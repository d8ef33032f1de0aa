package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// maxStandbys bounds Config.Standbys: more copies than that protect from nothing that fewer do not.
const maxStandbys = 8

// standbyPause is how often a copy that is up to date looks for more.
const standbyPause = time.Second

// standbyReads is how many answers of the changelog the standbys of a member hold in memory at once.
const standbyReads = 2

// standbySet are the partitions that a member keeps a copy of without owning them: each follows its
// changelog read-committed. A copy answers to nobody. When its partition becomes this member's, the store
// goes to the restore as it is, and that waits for open transactions and reads to the end as always; what
// is left to read is what was written in the last second or so.
type standbySet struct {
	restore *restorer
	held    *holdings
	lags    *standbyLags
	pause   time.Duration
	reads   chan struct{}

	wake func()

	mu     sync.Mutex // guards wanted
	wanted []int32

	copies map[int32]*standby // used by the member's goroutine alone
}

// standby is one copy.
type standby struct {
	partition int32
	store     *pebbleStore // the goroutine's until done is closed
	cancel    context.CancelFunc
	done      chan struct{}
}

// newStandbySet makes the set of a member. r is the member's own; what its standbys read is no restore to
// anybody outside.
func newStandbySet(r *restorer, held *holdings, lags *standbyLags, wake func()) *standbySet {
	s := &standbySet{held: held, lags: lags, pause: standbyPause, reads: make(chan struct{}, standbyReads), wake: wake, copies: make(map[int32]*standby)}
	own := *r
	own.progress = func(p RestoreProgress) { s.at(p.Partition, p.Position, p.End) }
	s.restore = &own
	return s
}

func (s *standbySet) at(partition int32, position, end int64) {
	s.held.at(partition, position)
	s.lags.set(partition, max(0, end-position))
}

// want is told what the leader has assigned.
func (s *standbySet) want(partitions []int32) {
	s.mu.Lock()
	s.wanted = slices.Clone(partitions)
	s.mu.Unlock()
	s.wake()
}

// sync starts and stops copies. What is owned is no copy.
func (s *standbySet) sync(ctx context.Context, owned func(int32) bool) {
	s.mu.Lock()
	wanted := s.wanted
	s.mu.Unlock()
	for p := range s.copies {
		if !slices.Contains(wanted, p) {
			s.release(p)
		}
	}
	for _, p := range wanted {
		if s.copies[p] == nil && !owned(p) {
			s.start(ctx, p)
		}
	}
}

func (s *standbySet) has(partition int32) bool { return s.copies[partition] != nil }

func (s *standbySet) start(ctx context.Context, partition int32) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &standby{partition: partition, cancel: cancel, done: make(chan struct{})}
	s.copies[partition] = c
	go func() {
		defer close(c.done)
		s.follow(ctx, c)
	}()
}

// take stops a copy and returns its store, nil if there is none: whoever takes it owns it.
func (s *standbySet) take(partition int32) *pebbleStore {
	c := s.copies[partition]
	if c == nil {
		return nil
	}
	delete(s.copies, partition)
	c.cancel()
	<-c.done
	s.lags.forget(partition)
	return c.store
}

// release stops a copy and closes its store.
func (s *standbySet) release(partition int32) {
	store := s.take(partition)
	if store == nil {
		return
	}
	if err := store.close(); err != nil {
		s.restore.logger.Warn("closing a standby's store", slog.Int("partition", int(partition)), slog.String("error", err.Error()))
	}
}

func (s *standbySet) close() {
	for p := range s.copies {
		s.release(p)
	}
}

// follow keeps a copy up to date until ctx is done. What goes wrong is tried again at growing intervals.
func (s *standbySet) follow(ctx context.Context, c *standby) {
	warned := time.Time{}
	for attempt := 0; ; attempt++ {
		begun := time.Now()
		err := s.attempt(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if now := time.Now(); now.Sub(warned) > time.Minute {
			warned = now
			s.restore.logger.WarnContext(ctx, "a standby does not get on; trying again",
				slog.Int("partition", int(c.partition)), slog.String("error", err.Error()))
		}
		if c.store = s.restore.giveUp(ctx, c.store); c.store == nil {
			s.held.gone(c.partition)
		}
		if time.Since(begun) > time.Minute {
			attempt = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(s.restore.backoff<<min(attempt, 8), 30*time.Second)):
		}
		if errors.Is(err, errDisk) {
			s.restore.awaitRoom(ctx)
		}
	}
}

func (s *standbySet) attempt(ctx context.Context, c *standby) error {
	log, store, err := s.restore.open(ctx, c.partition, c.store)
	c.store = store
	if err != nil {
		return err
	}
	if c.store, err = s.restore.catchUp(ctx, log, c.store); err != nil {
		return err
	}
	s.at(c.partition, c.store.position(), c.store.position())
	for {
		more, err := s.step(ctx, log, c)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.pause):
		}
	}
}

// step reads on once and says whether there is more at hand.
func (s *standbySet) step(ctx context.Context, log changelog, c *standby) (more bool, err error) {
	select {
	case s.reads <- struct{}{}:
		defer func() { <-s.reads }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	at := s.restore.settings.now()
	position := c.store.position()
	got := s.restore.fetch(ctx, log, position, 0)
	if errors.Is(got.err, kerr.OffsetOutOfRange) {
		c.store, err = s.restore.restart(ctx, log, c.store)
		return false, err
	}
	if got.err != nil {
		return false, fmt.Errorf("reading the changelog: %w", got.err)
	}
	if got.next > position {
		if err := applyChangelog(c.store, got.records, got.next); err != nil {
			return false, err
		}
	}
	if got.next >= got.end {
		c.store.current(at)
	}
	s.at(c.partition, got.next, got.end)
	return got.next > position, c.store.usable()
}

// standbyLags is how far the copies of an instance are behind, for the metrics.
type standbyLags struct {
	mu   sync.Mutex // guards lags; held for map accesses only
	lags map[int32]int64
}

func (l *standbyLags) set(partition int32, lag int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lags[partition] = lag
}

func (l *standbyLags) forget(partition int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lags, partition)
}

// total is the sum of all lags and how many copies there are.
func (l *standbyLags) total() (lag, copies int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.lags {
		lag += n
	}
	return lag, int64(len(l.lags))
}

// partitions are those that there are copies of.
func (l *standbyLags) partitions() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sortedKeys(l.lags)
}
