package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/topics"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

// What an owner of a partition has reported, the next one learns from the reports themselves: they are
// keyed as sends are, so that partition i of both holds the same profiles. Where the reports begin that
// matter is committed beside the offset, as its metadata.

const commitTimeout = 10 * time.Second

const reportsMark = "reports="

// takeOver learns what was reported of the partitions that this instance gets. It runs before anything is
// fetched from them.
func (d *Dispatcher) takeOver(ctx context.Context, client *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	got := map[int32]*partition{}
	add := func(number int32, metadata *string) {
		p := newPartition(number, d.cfg.Outstanding)
		p.floor = parseMark(metadata)
		got[number] = p
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			add(p.Partition, p.Metadata)
		}
	}
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				add(p.Partition, p.Metadata)
			}
		}
	}
	d.release(client, slices.Collect(maps.Keys(got))) // none, unless a session was begun anew
	if err := d.learn(ctx, client, got); err != nil {
		if ctx.Err() == nil {
			d.logger.WarnContext(ctx, "learning what was reported failed and is tried again", slog.Any("error", err))
		}
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(d.partitions, got)
	return nil
}

// learn reads the reports of partitions from where they matter to where they end now.
func (d *Dispatcher) learn(ctx context.Context, client *kgo.Client, got map[int32]*partition) error {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topics.Reports)
	if err != nil {
		return fmt.Errorf("listing where reports begin: %w", err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, topics.Reports, topics.Sends)
	if err != nil {
		return fmt.Errorf("listing where reports and sends end: %w", err)
	}
	from := map[int32]int64{}
	for number, p := range got {
		start, _ := starts.Lookup(topics.Reports, number)
		end, found := ends.Lookup(topics.Reports, number)
		horizon, too := ends.Lookup(topics.Sends, number)
		if !found || !too || end.Err != nil || horizon.Err != nil {
			return fmt.Errorf("partition %d is not there in both %s and %s: both need the same number of partitions", number, topics.Sends, topics.Reports)
		}
		p.floor = max(p.floor, start.Offset)
		p.reports, p.horizon = end.Offset, horizon.Offset
		if p.floor < p.reports {
			from[number] = p.floor
		}
	}
	if len(from) == 0 {
		return nil
	}
	return d.read(ctx, topics.Reports, from, func(rec *kgo.Record) bool {
		p := got[rec.Partition]
		if !rec.Attrs.IsControl() && rec.Offset < p.reports {
			p.learned(rec.Value)
		}
		if rec.Offset+1 >= p.reports {
			delete(from, rec.Partition)
		}
		return len(from) > 0
	})
}

// learned notes a send that has come to its end. Reactions to sends are no end; neither is what cannot be
// decoded, which the stage `outcomes` puts aside.
func (p *partition) learned(value []byte) {
	var o deliveryv1.Outcome
	if err := o.UnmarshalVT(value); err != nil {
		return
	}
	switch o.GetType() {
	case deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, deliveryv1.OutcomeType_OUTCOME_TYPE_FAILED,
		deliveryv1.OutcomeType_OUTCOME_TYPE_BOUNCED, deliveryv1.OutcomeType_OUTCOME_TYPE_UNKNOWN:
		p.reported[sendKey(o.GetTenant(), o.GetSendId())] = struct{}{}
	default:
	}
}

// parseMark reads the metadata of a commit; without ours all reports matter.
func parseMark(metadata *string) int64 {
	if metadata == nil {
		return 0
	}
	text, ok := strings.CutPrefix(*metadata, reportsMark)
	offset, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || offset < 0 {
		return 0
	}
	return offset
}

// commitEvery commits now and then until ctx ends.
func (d *Dispatcher) commitEvery(ctx context.Context, interval time.Duration) {
	for sleep(ctx, interval) {
		if err := d.commit(ctx, d.client, d.owned()); err != nil && ctx.Err() == nil {
			d.logger.WarnContext(ctx, "committing failed and is tried again", slog.Any("error", err))
		}
	}
}

// commit tells Kafka up to where everything of the partitions is reported, with the reports that matter
// from there on, and lets the journal forget it.
func (d *Dispatcher) commit(ctx context.Context, client *kgo.Client, owned []*partition) error {
	d.commits.Lock() // in order: an older commit must not follow a newer one
	defer d.commits.Unlock()
	offsets, marks := map[int32]kgo.EpochOffset{}, map[int32]string{}
	var moved []*partition
	for _, p := range owned {
		p.mu.Lock()
		if p.dirty {
			p.dirty = false
			offsets[p.number] = kgo.EpochOffset{Epoch: p.epoch, Offset: p.mark.next}
			marks[p.number] = reportsMark + strconv.FormatInt(p.mark.reportsFrom(p.reportsAfter()), 10)
			moved = append(moved, p)
		}
		p.mu.Unlock()
	}
	if len(moved) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := commitWith(ctx, client, offsets, marks); err != nil {
		for _, p := range moved {
			p.mu.Lock()
			p.dirty = true
			p.mu.Unlock()
		}
		return fmt.Errorf("committing the offsets of sends: %w", err)
	}
	for _, p := range moved {
		if err := d.journal.Forget(p.number, offsets[p.number].Offset); err != nil {
			return err
		}
	}
	return nil
}

// reportsAfter is where the reports begin that matter if nothing is under way. The caller holds mu.
func (p *partition) reportsAfter() int64 {
	if p.mark.next < p.horizon {
		return p.floor
	}
	return p.reports
}

func commitWith(ctx context.Context, client *kgo.Client, offsets map[int32]kgo.EpochOffset, marks map[int32]string) error {
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				mark := marks[req.Topics[i].Partitions[j].Partition]
				req.Topics[i].Partitions[j].Metadata = &mark
			}
		}
		return nil
	})
	var result error
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{topics.Sends: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			result = commitError(resp, err)
		})
	return result
}
