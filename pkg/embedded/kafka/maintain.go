package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// spaceInterval is how often the free disk space is looked at.
const spaceInterval = time.Second

// maintain runs until ctx ends: it watches the disk space and applies retention.
func (b *Broker) maintain(ctx context.Context) {
	space := time.NewTicker(spaceInterval)
	defer space.Stop()
	guard := spaceGuard{broker: b}
	guard.check()
	for {
		select {
		case <-ctx.Done():
			return
		case <-space.C:
			guard.check()
		}
	}
}

func (b *Broker) lowSpace(free uint64) error {
	return fmt.Errorf("the disk of the embedded Kafka's data directory %s has %d MiB left, less than the %d MiB it keeps free: records are refused until there is space",
		b.cfg.DataDir, free>>20, b.cfg.MinFree>>20)
}

func (b *Broker) logMaintenance(what string, err error) {
	b.cfg.Logger.Error("embedded Kafka: "+what, slog.String("dir", b.cfg.DataDir), slog.Any("error", err))
}
