package dispatch

import (
	"context"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/topics"
)

// revoked ends the deliveries of partitions that go to another member and commits what was reported.
func (d *Dispatcher) revoked(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
	released := d.release(client, gone[topics.Sends])
	if err := d.commit(ctx, client, released); err != nil {
		d.logger.WarnContext(ctx, "committing on revoke failed; the next owner learns from the reports what was done", slog.Any("error", err))
	}
}

// lost ends the deliveries of partitions that another member has already.
func (d *Dispatcher) lost(_ context.Context, client *kgo.Client, gone map[string][]int32) {
	d.release(client, gone[topics.Sends])
}

func (d *Dispatcher) owned() []*partition {
	d.mu.Lock()
	defer d.mu.Unlock()
	owned := make([]*partition, 0, len(d.partitions))
	for _, p := range d.partitions {
		owned = append(owned, p)
	}
	return owned
}

// release interrupts what waits, and waits for attempts under way and their reports.
func (d *Dispatcher) release(client *kgo.Client, numbers []int32) []*partition {
	var released []*partition
	d.mu.Lock()
	for _, n := range numbers {
		if p := d.partitions[n]; p != nil {
			released = append(released, p)
			delete(d.partitions, n)
		}
	}
	d.mu.Unlock()
	for _, p := range released {
		p.cancel()
	}
	for _, p := range released {
		p.jobs.Wait()
		if p.paused {
			// The client remembers pauses beyond the ownership: the partition may come back.
			client.ResumeFetchPartitions(map[string][]int32{topics.Sends: {p.number}})
		}
	}
	return released
}

// commitError is what went wrong with a commit, with any of its partitions.
func commitError(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}
