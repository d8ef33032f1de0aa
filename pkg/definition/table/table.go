// Package table keeps the definitions of topic definitions.v1 as a live, immutable snapshot.
//
// A [Table] reads the one partition of the topic from its start, without a consumer group, and only what
// was committed. Start returns once the table has read to the end, so that whoever starts after it never
// works on half of the definitions; from then on each change replaces the snapshot. Reading the snapshot
// is one atomic load.
//
// A record that cannot be decoded is counted and passed over, and the definition that stood under its
// key goes on counting; the first one is logged. A reader that is cut off from Kafka keeps what it has
// and goes on when Kafka is back; only an error that waiting cannot heal (a topic that is gone, no right
// to read) makes it fail.
//
// The tests of table_test.go hold a table against restarts, tombstones, transactions that are aborted,
// and broken records.
package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

const (
	// fetchWait is how long the broker holds a fetch that finds nothing.
	fetchWait = 250 * time.Millisecond
	// pollWait bounds a poll, with room for emptyAnswers fetches that find nothing. Two polls are how
	// late it is noticed that the end was reached where the last records were compacted away.
	pollWait = 3 * fetchWait
)

// Table is a run.Component and a definition.Provider.
type Table struct {
	cfg    kafka.Config
	logger *slog.Logger

	snapshot    atomic.Pointer[definition.Snapshot]
	undecodable atomic.Int64
	caughtUp    atomic.Bool
	fetches     fetchCounter
	failed      chan error

	// Owned by the reading goroutine.
	definitions map[string]*definitionv1.Definition

	mu       sync.Mutex // guards the fields below; never held while waiting
	client   *kgo.Client
	position int64 // all records before this offset were read
	idle     int64 // polls that proved that there was nothing to read
	changed  chan struct{}
	moved    chan struct{}
	cancel   context.CancelFunc
	done     chan struct{}
}

var _ definition.Provider = (*Table)(nil)

// New returns a table that is not started.
func New(cfg kafka.Config, logger *slog.Logger) (*Table, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Table{
		cfg: cfg, logger: logger, failed: make(chan error, 1),
		definitions: map[string]*definitionv1.Definition{},
		changed:     make(chan struct{}), moved: make(chan struct{}),
	}
	t.snapshot.Store(definition.NewSnapshot())
	return t, nil
}

// Start reads the topic and returns when the end, as it was when Start was called, is reached. The topic
// must exist.
func (t *Table) Start(ctx context.Context) error {
	client, err := kgo.NewClient(append(t.cfg.Options(t.logger),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topics.Definitions: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers of transactions take up offsets: without them the position would stay before the end.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(fetchWait),
		kgo.WithHooks(&t.fetches),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	reading, cancel := context.WithCancel(context.Background())
	t.mu.Lock()
	if t.client != nil {
		t.mu.Unlock()
		cancel()
		client.Close()
		return errors.New("starting the definitions table: it was started before")
	}
	t.client, t.cancel, t.done = client, cancel, make(chan struct{})
	t.mu.Unlock()
	go t.read(reading, client, t.done)
	if err := t.Refresh(ctx); err != nil {
		return fmt.Errorf("reading the definitions: %w", err)
	}
	t.caughtUp.Store(true)
	return nil
}

// Stop ends reading; the last snapshot stays.
func (t *Table) Stop(ctx context.Context) error {
	t.mu.Lock()
	client, cancel, done := t.client, t.cancel, t.done
	t.mu.Unlock()
	if client == nil {
		return nil
	}
	cancel()
	client.Close()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping the definitions table: %w", ctx.Err())
	}
}

// Ready is nil once the table has read to the end.
func (t *Table) Ready(context.Context) error {
	if !t.caughtUp.Load() {
		return errors.New("the definitions are still being read")
	}
	return nil
}

// Failed has an error when reading cannot go on.
func (t *Table) Failed() <-chan error { return t.failed }

// Snapshot is the definitions as they are now; empty before Start.
func (t *Table) Snapshot() *definition.Snapshot { return t.snapshot.Load() }

// Undecodable is how many records could not be decoded since the start.
func (t *Table) Undecodable() int64 { return t.undecodable.Load() }

// Changed is a channel that is closed when the snapshot is replaced the next time. Take it before
// reading the snapshot, so that no change falls in between.
func (t *Table) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Refresh returns when the table has read everything that is in the topic now.
func (t *Table) Refresh(ctx context.Context) error {
	t.mu.Lock()
	client := t.client
	t.mu.Unlock()
	if client == nil {
		return errors.New("the definitions table is not started")
	}
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topics.Definitions)
	if err != nil {
		return fmt.Errorf("finding the end of %s: %w", topics.Definitions, err)
	}
	end, ok := ends.Lookup(topics.Definitions, 0)
	if !ok {
		return fmt.Errorf("finding the end of %s: there is no such topic (it is made when a service starts)", topics.Definitions)
	}
	if end.Err != nil {
		return fmt.Errorf("finding the end of %s: %w", topics.Definitions, end.Err)
	}
	return t.WaitFor(ctx, end.Offset)
}

// WaitFor returns when every record before offset has been read and is in the snapshot. It is meant for
// who wrote a record and wants to read it back.
func (t *Table) WaitFor(ctx context.Context, offset int64) error {
	t.mu.Lock()
	begun := t.idle
	t.mu.Unlock()
	for {
		t.mu.Lock()
		position, idle, moved := t.position, t.idle, t.moved
		t.mu.Unlock()
		// The first idle poll may have begun before the record was written, the second has not.
		if position >= offset || idle-begun >= 2 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the definitions to be read: %w", ctx.Err())
		}
	}
}

// read applies what is polled until ctx is done.
func (t *Table) read(ctx context.Context, client *kgo.Client, done chan<- struct{}) {
	defer close(done)
	for {
		answered := t.fetches.answered.Load()
		fetches, err := poll(ctx, client)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		if err != nil {
			t.failed <- fmt.Errorf("reading %s: %w", topics.Definitions, err)
			return
		}
		if fetches.NumRecords() > 0 {
			t.apply(fetches)
			continue
		}
		if t.fetches.answered.Load()-answered >= emptyAnswers {
			t.move(func() { t.idle++ })
		}
	}
}

// move changes the position under the lock and wakes who waits for it.
func (t *Table) move(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	close(t.moved)
	t.moved = make(chan struct{})
}

// poll waits for records for at most pollWait.
func poll(ctx context.Context, client *kgo.Client) (kgo.Fetches, error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	fetches := client.PollFetches(ctx)
	if ctx.Err() != nil && fetches.NumRecords() == 0 {
		return nil, nil
	}
	return fetches, fatal(fetches)
}

// fatal is the first error of a fetch that going on would not heal. The client itself retries what can
// be retried, and has gone on from a sound offset where data was lost.
func fatal(fetches kgo.Fetches) error {
	for _, failure := range fetches.Errors() {
		if _, loss := errors.AsType[*kgo.ErrDataLoss](failure.Err); !loss {
			return failure.Err
		}
	}
	return nil
}

// apply takes in a fetch and shows its outcome as one new snapshot.
func (t *Table) apply(fetches kgo.Fetches) {
	next, changes := int64(0), 0
	fetches.EachRecord(func(record *kgo.Record) {
		next = record.Offset + 1
		if !record.Attrs.IsControl() && t.take(record) {
			changes++
		}
	})
	if changes > 0 {
		t.snapshot.Store(definition.NewSnapshot(slices.Collect(maps.Values(t.definitions))...))
	}
	t.move(func() {
		t.position = max(t.position, next)
		if changes > 0 {
			close(t.changed)
			t.changed = make(chan struct{})
		}
	})
}

// take applies one record and says whether anything changed.
func (t *Table) take(record *kgo.Record) bool {
	key := string(record.Key)
	if record.Value == nil {
		_, had := t.definitions[key]
		delete(t.definitions, key)
		return had
	}
	def, err := Decode(record.Key, record.Value)
	if err != nil {
		if t.undecodable.Add(1) == 1 {
			t.logger.Error("a definition cannot be decoded and is passed over; further ones are only counted",
				slog.Int64("offset", record.Offset), slog.Any("error", err))
		}
		return false
	}
	t.definitions[key] = def
	return true
}
