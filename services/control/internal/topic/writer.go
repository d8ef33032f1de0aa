// Package topic is the store of control: the compacted topic definitions.v1 itself, read through a
// definitions table and written in transactions.
//
// A change is a compare-and-set over the whole topic, also between several instances of control: the
// writer first takes the transactional id (which ends every other writer's turn and aborts what that one
// had in flight), then reads the topic to its end, lets the caller decide, and commits all records in one
// transaction. Whoever took the id in between makes the commit fail, and the change is decided anew. So
// no decision is ever written on top of definitions that it did not see, and readers see all records of
// a change or none. writer_test.go lets writers race and compares with the same changes done one by one.
package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/definition/table"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// transactionalID names the one writer of the topic. It is the same for every instance: that is what
// makes them take turns.
const transactionalID = "sillage-control"

// transactionTimeout bounds how long readers wait for a writer that died within a transaction.
const transactionTimeout = 10 * time.Second

// maxTurns is how often a change is decided anew because another instance came in between.
const maxTurns = 20

// ErrBusy tells that other instances kept coming in between.
var ErrBusy = errors.New("other changes kept coming in between: try again")

// ErrClosed tells that the writer was closed.
var ErrClosed = errors.New("control is shutting down")

// Table is the reading side.
type Table interface {
	definition.Provider
	// Refresh returns when everything in the topic now has been read.
	Refresh(ctx context.Context) error
	// WaitFor returns when everything before offset has been read.
	WaitFor(ctx context.Context, offset int64) error
}

// Write is one record of a change.
type Write struct {
	// ID names the definition.
	ID definition.ID
	// Definition is what it becomes; nil deletes it.
	Definition *definitionv1.Definition
}

// Decide looks at the definitions as they are and says what to write; nothing to write is no change. It
// may be called several times and must not keep anything from a call before the last.
type Decide func(current *definition.Snapshot) ([]Write, error)

// Writer changes the topic. It is safe for concurrent use; changes of one Writer take turns.
type Writer struct {
	cfg    kafka.Config
	table  Table
	logger *slog.Logger
	turn   chan struct{} // holds a value while someone has the turn
	closed bool          // guarded by the turn
}

// NewWriter returns a writer on the topic that table reads.
func NewWriter(cfg kafka.Config, table Table, logger *slog.Logger) *Writer {
	return &Writer{cfg: cfg, table: table, logger: logger, turn: make(chan struct{}, 1)}
}

// Update decides on a change and writes it. When it returns nil, the change is in the topic, on all
// in-sync replicas, and in the table. An error of decide is returned as it is.
func (w *Writer) Update(ctx context.Context, decide Decide) error {
	if err := w.take(ctx); err != nil {
		return err
	}
	defer w.release()
	if w.closed {
		return ErrClosed
	}
	return w.untilNotFenced(ctx, decide)
}

// untilNotFenced tries again while others come in between, after pauses of random length: two writers
// that came back at once would only fence each other again.
func (w *Writer) untilNotFenced(ctx context.Context, decide Decide) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, time.Second
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if last = w.tryOnce(ctx, decide); fenced(last) {
			return struct{}{}, last
		}
		return struct{}{}, backoff.Permanent(last)
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(maxTurns), backoff.WithMaxElapsedTime(0))
	switch {
	case !fenced(last):
		return last
	case ctx.Err() != nil:
		return fmt.Errorf("taking the turn again: %w", err)
	default:
		return ErrBusy
	}
}

// Close waits for a change in flight to finish; later ones are refused. It may be called twice.
func (w *Writer) Close(ctx context.Context) error {
	if err := w.take(ctx); err != nil {
		return err
	}
	defer w.release()
	w.closed = true
	return nil
}

func (w *Writer) take(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another change to finish: %w", ctx.Err())
	}
}

func (w *Writer) release() { <-w.turn }

func (w *Writer) tryOnce(ctx context.Context, decide Decide) error {
	client, err := kgo.NewClient(append(w.cfg.ProducerOptions(w.logger),
		kgo.DefaultProduceTopic(topics.Definitions),
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(transactionTimeout),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	// From here on the others are fenced off; what they had committed is before the end of the topic.
	if _, _, err := client.ProducerID(ctx); err != nil {
		return fmt.Errorf("taking the turn to write %s: %w", topics.Definitions, err)
	}
	if err := w.table.Refresh(ctx); err != nil {
		return err
	}
	writes, err := decide(w.table.Snapshot())
	if err != nil || len(writes) == 0 {
		return err
	}
	last, err := commit(ctx, client, writes)
	if err != nil {
		return err
	}
	if err := w.table.WaitFor(ctx, last+1); err != nil {
		return fmt.Errorf("the change is written and not read back yet: %w", err)
	}
	return nil
}

// commit writes all records in one transaction and returns the offset of the last one.
func commit(ctx context.Context, client *kgo.Client, writes []Write) (int64, error) {
	records := make([]*kgo.Record, 0, len(writes))
	for _, write := range writes {
		record := &kgo.Record{Key: table.Key(write.ID)}
		if write.Definition != nil {
			value, err := write.Definition.MarshalVT()
			if err != nil {
				return 0, fmt.Errorf("encoding %s: %w", write.ID, err)
			}
			record.Value = value
		}
		records = append(records, record)
	}
	if err := client.BeginTransaction(); err != nil {
		return 0, fmt.Errorf("beginning the transaction: %w", err)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		// The broker aborts what is left open at the latest when the next writer takes its turn.
		abort(ctx, client)
		return 0, fmt.Errorf("writing %s: %w", topics.Definitions, err)
	}
	if err := partitionKnown(ctx, client); err != nil {
		abort(ctx, client)
		return 0, err
	}
	if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return 0, fmt.Errorf("committing to %s: %w", topics.Definitions, err)
	}
	return records[len(records)-1].Offset, nil
}

// partitionKnown waits until the client shows the partition that it has just written to. On the first
// write to a topic the client (franz-go v1.22.2) may keep a record's promise before it publishes the
// topic's partitions; a transaction ended in between looks empty to EndTransaction, which then aborts it
// and returns nil. PartitionLeader reads what EndTransaction reads.
func partitionKnown(ctx context.Context, client *kgo.Client) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if leader, _, err := client.PartitionLeader(topics.Definitions, 0); err == nil && leader >= 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the leader of %s: %w", topics.Definitions, ctx.Err())
		}
	}
}

// abort gives a transaction up as well as it can be done.
func abort(ctx context.Context, client *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), transactionTimeout)
	defer cancel()
	if err := client.AbortBufferedRecords(ctx); err != nil {
		return
	}
	// Fenced or unreachable: the error that led here is the one that is reported.
	_ = client.EndTransaction(ctx, kgo.TryAbort)
}

// fenced says whether another writer took the turn, so that nothing of the change was committed. A
// broker says InvalidTxnState when it has aborted the transaction for the other before the commit arrived.
func fenced(err error) bool {
	for _, code := range []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.ConcurrentTransactions} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
