// Package quarantine lets events in that a tracking plan had set aside, once the plan or their producer is
// mended.
//
// What it promises: every event of the source that was set aside before the run began is either let in or set
// aside anew, with what is wrong by the plan of today; a run that is cut off begins again where its last
// batch ended, so that some events may be let in twice, which identity notices by their message ids as it does
// with any other repeat. Events that are older than their source's history limit by now are historical: they
// move segments and scores and start no journey. TestReplay and, in package app, TestReplayQuarantine would
// catch the loss.
package quarantine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/plan"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/producer"
)

// Writer gets batches to Kafka. Write returns nil only once Kafka has all of a batch.
type Writer interface {
	Write(ctx context.Context, batch *producer.Batch) error
}

// Replay is one run.
type Replay struct {
	// Tenant and Source say whose events.
	Tenant, Source string
	// Plan is what holds now; nil lets everything in.
	Plan *plan.Plan
	// HistoryAfter is the age from which an event is historical.
	HistoryAfter time.Duration
	// Now is when the run began.
	Now time.Time
	// DryRun counts and changes nothing.
	DryRun bool
}

// Report is what became of the events.
type Report struct {
	// Read is how many were set aside.
	Read int
	// LetIn of them are as planned now; Kept are set aside anew.
	LetIn, Kept int
	// Unreadable are records that are no quarantined event. They are left.
	Unreadable int
}

// batchEvents and batchBytes end a batch.
const (
	batchEvents = 1000
	batchBytes  = 4 << 20
)

// Decide says what is still wrong with an event; nil lets it in. Only what the plan merely observes, or does
// not mind any more, comes in.
func (r *Replay) Decide(ev *eventv1.Event) *planv1.PlanViolation {
	v := r.Plan.Check(ev)
	if v.GetAction() == planv1.Action_ACTION_OBSERVED {
		return nil
	}
	if v != nil {
		v.Action = planv1.Action_ACTION_QUARANTINED
	}
	return v
}

// Run lets in what can be let in. brokers are those of the topics; writer writes to them.
func (r *Replay) Run(ctx context.Context, brokers kafka.Config, writer Writer, logger *slog.Logger) (Report, error) {
	var report Report
	// A partition that is read to its end must not keep the others waiting for long.
	client, err := kgo.NewClient(append(brokers.Options(logger), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		return report, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	run := &run{Replay: r, admin: kadm.NewClient(client), client: client, writer: writer, report: &report}
	if err := run.bounds(ctx); err != nil {
		return report, err
	}
	return report, run.all(ctx)
}

// run is a Replay under way.
type run struct {
	*Replay
	admin   *kadm.Client
	client  *kgo.Client
	writer  Writer
	report  *Report
	next    map[int32]int64 // where the next record is to be read
	end     map[int32]int64 // where the run ends
	batch   *producer.Batch
	pending int
}

// group names the place where the offsets of a source's runs are kept.
func (r *Replay) group() string { return "plan-replay." + r.Tenant + "." + r.Source }

// bounds finds where the last run ended and where this one is to end.
func (r *run) bounds(ctx context.Context) error {
	starts, err := r.admin.ListStartOffsets(ctx, topics.Quarantine)
	if err = errors.Join(err, starts.Error()); err != nil {
		return fmt.Errorf("listing the quarantine: %w", err)
	}
	ends, err := r.admin.ListEndOffsets(ctx, topics.Quarantine)
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("listing the quarantine: %w", err)
	}
	done, err := r.admin.FetchOffsets(ctx, r.group())
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // that is the first run
		return fmt.Errorf("reading where the last replay ended: %w", err)
	}
	r.next, r.end = map[int32]int64{}, map[int32]int64{}
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		at := start.Offset
		if committed, ok := done.Lookup(end.Topic, end.Partition); ok {
			at = max(at, committed.At)
		}
		if at >= end.Offset {
			return
		}
		r.next[end.Partition], r.end[end.Partition] = at, end.Offset
		from[end.Partition] = kgo.NewOffset().At(at)
	})
	if len(from) > 0 {
		r.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topics.Quarantine: from})
	}
	return nil
}

// left says whether there is anything to be read yet.
func (r *run) left() bool {
	for partition, at := range r.next {
		if at < r.end[partition] {
			return true
		}
	}
	return false
}

func (r *run) all(ctx context.Context) error {
	r.batch = new(producer.Batch)
	for r.left() {
		fetches := r.client.PollRecords(ctx, batchEvents)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("reading the quarantine: %w", err)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			if err := r.take(ctx, iter.Next()); err != nil {
				return err
			}
		}
	}
	return r.flush(ctx)
}

// take decides on one record.
func (r *run) take(ctx context.Context, record *kgo.Record) error {
	if record.Offset >= r.end[record.Partition] {
		return nil // set aside after the run began, or by it
	}
	r.next[record.Partition] = record.Offset + 1
	if string(record.Key) != string(topics.Key(r.Tenant, r.Source)) {
		return nil
	}
	var kept planv1.QuarantinedEvent
	if unreadable := kept.UnmarshalVT(record.Value) != nil || len(kept.GetEvent().GetIdentifiers()) == 0; unreadable {
		r.report.Unreadable++
		return nil
	}
	r.report.Read++
	if err := r.decide(kept.GetEvent()); err != nil {
		return err
	}
	if r.pending >= batchEvents || r.batch.Bytes() >= batchBytes {
		return r.flush(ctx)
	}
	return nil
}

func (r *run) decide(ev *eventv1.Event) error {
	r.pending++
	if still := r.Decide(ev); still != nil {
		r.report.Kept++
		return r.batch.AddQuarantined(ev, still)
	}
	r.report.LetIn++
	ev.Historical = ev.GetHistorical() || r.Now.UnixMilli()-ev.GetTimestampMs() > r.HistoryAfter.Milliseconds()
	return r.batch.AddEvent(ev)
}

// flush writes what was decided, and then notes how far the run has come.
func (r *run) flush(ctx context.Context) error {
	if r.DryRun {
		r.batch, r.pending = new(producer.Batch), 0
		return nil
	}
	if err := r.writer.Write(ctx, r.batch); err != nil {
		return fmt.Errorf("letting events in: %w", err)
	}
	r.batch, r.pending = new(producer.Batch), 0
	offsets := kadm.Offsets{}
	for partition, at := range r.next {
		offsets.AddOffset(topics.Quarantine, partition, at, -1)
	}
	if len(offsets) == 0 {
		return nil
	}
	if err := r.admin.CommitAllOffsets(ctx, r.group(), offsets); err != nil {
		return fmt.Errorf("noting how far the replay has come: %w", err)
	}
	return nil
}
