// Package sink writes topics into ClickHouse exactly once in effect.
//
// Before a batch is written, its end is committed to Kafka as metadata of its beginning; its rows go in
// under a token made of topic, partition and range; then its end is committed as the new beginning.
// Whoever takes over after a crash in between reads the announcement, builds the same range again, and
// ClickHouse drops what it has (insert_deduplication_token). Rows are a function of the range alone. A
// ClickHouse that is away costs nothing but time: nothing is read beyond a bound until it is back.
// TestKilledSink and the crash scenario of tests/e2e would catch the loss of this.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/services/analytics/internal/rows"
)

// DefaultGroup is the consumer group.
const DefaultGroup = "sillage.analytics"

// sessionTimeout is when Kafka gives the partitions of an instance that is gone to others. The group waits
// for an instance that died before it gives the one that was started in its place anything.
const sessionTimeout = 10 * time.Second

// Limits bound a batch of one partition, and all that is buffered.
type Limits struct {
	// Records and Bytes end a batch when it is large.
	Records, Bytes int
	// Age ends it when its first record has waited so long.
	Age time.Duration
	// Buffered bounds the bytes of all partitions together; beyond it nothing is read.
	Buffered int
}

// Config is what a sink is told.
type Config struct {
	Kafka  kafka.Config
	Group  string
	Limits Limits
	// Parallel is how many partitions are written at once.
	Parallel int
}

// Sink is the sink as a component.
type Sink struct {
	cfg        Config
	writer     writer
	logger     *slog.Logger
	tracer     trace.Tracer
	telemetry  telemetry.Providers
	rowsN      metric.Int64Counter
	failuresN  metric.Int64Counter
	partitions map[string]map[int32]*partition // owned by the loop; callbacks run while it waits in a poll

	client *kgo.Client
	admin  *kadm.Client
	cancel context.CancelFunc
	loop   sync.WaitGroup
	failed chan error
}

// New returns a sink that is not started. The schema must be there when it is.
func New(cfg Config, conn driver.Conn, tel telemetry.Providers, logger *slog.Logger) (*Sink, error) {
	meter := tel.Meter.Meter("analytics")
	rowsN, err1 := meter.Int64Counter("sillage.analytics.rows", metric.WithUnit("{row}"), metric.WithDescription("Rows written, by table."))
	failuresN, err2 := meter.Int64Counter("sillage.analytics.insert.failures", metric.WithUnit("{insert}"), metric.WithDescription("Inserts that failed and are tried again."))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("making the counters: %w", err)
	}
	return &Sink{
		cfg: cfg, writer: writer{conn: conn}, logger: logger, tracer: tel.Tracer.Tracer("analytics"), telemetry: tel,
		rowsN: rowsN, failuresN: failuresN, partitions: map[string]map[int32]*partition{}, failed: make(chan error, 1),
	}, nil
}

// Start begins to consume.
func (s *Sink) Start(context.Context) error {
	client, err := kgo.NewClient(append(s.cfg.Kafka.Options(s.logger),
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(rows.Topics()...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		// Partitions change hands only between two rounds of the loop, which owns the buffers.
		kgo.BlockRebalanceOnPoll(),
		kgo.RebalanceTimeout(2*time.Minute),
		// As long as that, nobody's rows come after an instance died.
		kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(sessionTimeout/4),
		// Half of the bound of the buffers: what the client holds comes on top.
		kgo.FetchMaxBytes(int32(min(s.cfg.Limits.Buffered/4, 32<<20))),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.dropped),
		kgo.OnPartitionsLost(s.dropped),
	)...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	s.client, s.admin = client, kadm.NewClient(client)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.loop.Go(func() { s.run(ctx) })
	return nil
}

// Stop ends the loop; what is buffered is read again by the next owner.
func (s *Sink) Stop(context.Context) error {
	if s.client == nil {
		return nil
	}
	s.cancel()
	s.loop.Wait()
	s.client.CloseAllowingRebalance()
	s.client = nil
	return nil
}

// Ready is nil: the sink drains what there is.
func (s *Sink) Ready(context.Context) error { return nil }

// Failed is never used: what fails is tried again.
func (s *Sink) Failed() <-chan error { return s.failed }

// assigned learns where each partition stands and which batch was announced.
func (s *Sink) assigned(ctx context.Context, _ *kgo.Client, added map[string][]int32) {
	committed, err := s.committed(ctx)
	if err != nil {
		return // ctx ended: the partitions are gone again
	}
	for topic, numbers := range added {
		if s.partitions[topic] == nil {
			s.partitions[topic] = map[int32]*partition{}
		}
		for _, number := range numbers {
			p := &partition{topic: topic, number: number, start: -1}
			if o, ok := committed.Lookup(topic, number); ok && o.At >= 0 {
				p.start = o.At
				end, err := parseMetadata(o.Metadata)
				if err != nil {
					s.logger.ErrorContext(ctx, "ignoring an announcement", slog.String("topic", topic), slog.Any("error", err))
				}
				if end > p.start {
					p.end = end
				}
			}
			s.partitions[topic][number] = p
		}
	}
}

// committed reads the group's offsets until it can: without them a batch could be written twice.
func (s *Sink) committed(ctx context.Context) (kadm.OffsetResponses, error) {
	for {
		offsets, err := s.admin.FetchOffsets(ctx, s.cfg.Group)
		if err == nil {
			err = offsets.Error()
		}
		if err == nil || errors.Is(err, kerr.GroupIDNotFound) {
			return offsets, nil
		}
		s.logger.WarnContext(ctx, "reading the committed offsets failed and is tried again", slog.Any("error", err))
		if !pause(ctx, time.Second) {
			return nil, ctx.Err()
		}
	}
}

func (s *Sink) dropped(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	for topic, numbers := range gone {
		for _, number := range numbers {
			delete(s.partitions[topic], number)
		}
	}
}

// run polls and writes until ctx ends.
func (s *Sink) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.poll(ctx)
		if err := s.flush(ctx); err != nil && ctx.Err() == nil {
			s.failuresN.Add(ctx, 1)
			s.logger.WarnContext(ctx, "writing to ClickHouse failed and is tried again", slog.Any("error", err))
			s.client.AllowRebalance()
			pause(ctx, time.Second)
			continue
		}
		s.client.AllowRebalance()
	}
}

// poll reads until a batch is due. Reading on while nothing is due makes batches large under load: a
// batch costs ClickHouse much the same whatever its size. It ends after the age of a batch in any case: a
// rebalance waits for it.
func (s *Sink) poll(ctx context.Context) {
	limit := time.Now().Add(s.cfg.Limits.Age)
	for ctx.Err() == nil && s.buffered() < s.cfg.Limits.Buffered {
		now := time.Now()
		until := s.nextDue(now, limit)
		if !until.After(now) {
			return
		}
		s.pollUntil(ctx, until)
	}
}

// nextDue is when the next batch is due, at the latest next; a full one is due now.
func (s *Sink) nextDue(now, next time.Time) time.Time {
	for _, numbers := range s.partitions {
		for _, p := range numbers {
			switch {
			case p.due(now, s.cfg.Limits, false):
				return now
			case len(p.records) > 0 && p.end == 0 && p.since.Add(s.cfg.Limits.Age).Before(next):
				next = p.since.Add(s.cfg.Limits.Age)
			}
		}
	}
	return next
}

func (s *Sink) pollUntil(ctx context.Context, until time.Time) {
	pollCtx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	fetches := s.client.PollRecords(pollCtx, s.cfg.Limits.Records)
	now := time.Now()
	fetches.EachRecord(func(rec *kgo.Record) {
		if p := s.partitions[rec.Topic][rec.Partition]; p != nil {
			p.add(rec, now)
		}
	})
	fetches.EachError(func(topic string, _ int32, err error) {
		if pollCtx.Err() == nil {
			s.logger.WarnContext(ctx, "fetching failed and is tried again", slog.String("topic", topic), slog.Any("error", err))
		}
	})
}

func (s *Sink) buffered() int {
	sum := 0
	for _, numbers := range s.partitions {
		for _, p := range numbers {
			sum += p.bytes
		}
	}
	return sum
}

// flush announces the batches that are due, writes them and commits them.
func (s *Sink) flush(ctx context.Context) error {
	// What would be due in a moment goes with what is due now: a round costs two commits.
	now, full := time.Now().Add(s.cfg.Limits.Age/4), s.buffered() >= s.cfg.Limits.Buffered
	var due []*partition
	for _, numbers := range s.partitions {
		for _, p := range numbers {
			if p.due(now, s.cfg.Limits, full) {
				p.seal(s.cfg.Limits)
				due = append(due, p)
			}
		}
	}
	if len(due) == 0 {
		return nil
	}
	if err := s.commit(ctx, due); err != nil {
		return fmt.Errorf("announcing batches: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(s.cfg.Parallel)
	for _, p := range due {
		group.Go(func() error { return s.write(ctx, p) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.commit(ctx, due); err != nil {
		return fmt.Errorf("committing batches: %w", err)
	}
	return nil
}

// write inserts one announced batch.
func (s *Sink) write(ctx context.Context, p *partition) error {
	set, n := p.batch()
	spans := s.spans(ctx, p.records[:n])
	defer spans.end()
	var refused []refusal
	for _, t := range set.Tables() {
		more, err := s.writer.insert(ctx, t, p.token(s.cfg.Group, t.Name))
		if err != nil {
			return err
		}
		refused = append(refused, more...)
		s.rowsN.Add(ctx, int64(len(t.Rows)), metric.WithAttributes(attribute.String("table", t.Name)))
	}
	if err := s.keepRefused(ctx, p, refused); err != nil {
		return err
	}
	p.written(n, time.Now())
	return nil
}

// keepRefused writes the rows that their table did not take where somebody will find them.
func (s *Sink) keepRefused(ctx context.Context, p *partition, refused []refusal) error {
	if len(refused) == 0 {
		return nil
	}
	t := rows.Table{Name: "unreadable_records", Columns: []string{"topic", "log_partition", "log_offset", "reason", "value"}}
	for _, r := range refused {
		t.Rows = append(t.Rows, []any{p.topic, uint32(p.number), offset(r), r.reason, fmt.Sprint(r.row...)})
	}
	return s.writer.write(ctx, t, p.token(s.cfg.Group, "refused"))
}

// offset is the log offset of a refused row, if its table has one.
func offset(r refusal) uint64 {
	for i, column := range r.columns {
		if column == "log_offset" {
			if n, ok := r.row[i].(uint64); ok {
				return n
			}
		}
	}
	return 0
}

// commit writes each partition's beginning, with the end of an announced batch as metadata.
func (s *Sink) commit(ctx context.Context, of []*partition) error {
	offsets, metadata := map[string]map[int32]kgo.EpochOffset{}, map[string]map[int32]string{}
	for _, p := range of {
		if offsets[p.topic] == nil {
			offsets[p.topic], metadata[p.topic] = map[int32]kgo.EpochOffset{}, map[int32]string{}
		}
		offsets[p.topic][p.number] = kgo.EpochOffset{Epoch: -1, Offset: p.start}
		metadata[p.topic][p.number] = p.metadata()
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				part := &req.Topics[i].Partitions[j]
				text := metadata[req.Topics[i].Topic][part.Partition]
				part.Metadata = &text
			}
		}
		return nil
	})
	var failure error
	s.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failure = err
		for _, t := range respTopics(resp) {
			for _, part := range t.Partitions {
				failure = errors.Join(failure, kerr.ErrorForCode(part.ErrorCode))
			}
		}
	})
	return failure
}

func respTopics(resp *kmsg.OffsetCommitResponse) []kmsg.OffsetCommitResponseTopic {
	if resp == nil {
		return nil
	}
	return resp.Topics
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
