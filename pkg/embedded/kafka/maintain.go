package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// spaceInterval is how often the free disk space is looked at.
const spaceInterval = time.Second

// maintain runs until ctx ends: it watches the disk space, applies retention
// and compacts.
func (b *Broker) maintain(ctx context.Context) {
	space := time.NewTicker(spaceInterval)
	defer space.Stop()
	upkeep := time.NewTicker(b.cfg.Maintenance)
	defer upkeep.Stop()
	guard := spaceGuard{broker: b, minFree: b.cfg.MinFree}
	guard.check()
	a := loadAges(b.cfg.DataDir)
	for {
		select {
		case <-ctx.Done():
			return
		case <-space.C:
			guard.check()
		case now := <-upkeep.C:
			b.upkeep(ctx, a, now)
		}
	}
}

// upkeep is one round of retention and compaction.
func (b *Broker) upkeep(ctx context.Context, a *ages, now time.Time) {
	topics, err := readTopics(b.cfg.DataDir)
	if err != nil {
		b.logMaintenance("cannot read its topics", err)
		return
	}
	if err := b.retain(b.running(), topics, a, now); err != nil {
		b.logMaintenance("cannot apply retention", err)
	}
	if err := b.compact(ctx, topics, now); err != nil {
		b.logMaintenance("cannot compact", err)
	}
}

// running is the broker behind the address at present.
func (b *Broker) running() *kfake.Cluster {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cluster
}

func lowSpace(dir string, free, minFree uint64) error {
	return fmt.Errorf("the disk of the embedded Kafka's data directory %s has %d MiB left, less than the %d MiB it keeps free: records are refused until there is space",
		dir, free>>20, minFree>>20)
}

func (b *Broker) logMaintenance(what string, err error) {
	b.cfg.Logger.Error("embedded Kafka's maintenance", slog.String("what", what), slog.String("dir", b.cfg.DataDir), slog.Any("error", err))
}
