package kafka

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// policy is how long and how much a topic keeps.
type policy struct {
	remove  bool          // cleanup.policy has delete
	compact bool          // cleanup.policy has compact
	age     time.Duration // negative for ever
	bytes   int64         // of a partition; negative without limit
	// tombstones is how long the record that deletes a key outlives the
	// compaction of what it deletes.
	tombstones time.Duration
}

// policyOf reads a topic's settings over the broker's.
func (b *Broker) policyOf(t *topic) policy {
	p := policy{remove: true, age: b.cfg.Retention, bytes: -1, tombstones: 24 * time.Hour}
	if b.cfg.RetentionBytes > 0 {
		p.bytes = b.cfg.RetentionBytes
	}
	if v, ok := t.Configs["cleanup.policy"]; ok {
		p.remove, p.compact = strings.Contains(v, "delete"), strings.Contains(v, "compact")
	}
	setMillis(&p.age, t.Configs["retention.ms"])
	setMillis(&p.tombstones, t.Configs["delete.retention.ms"])
	if n, err := strconv.ParseInt(t.Configs["retention.bytes"], 10, 64); err == nil {
		p.bytes = n
	}
	return p
}

// setMillis sets a duration from a setting in milliseconds; one that is absent
// or no number changes nothing.
func setMillis(d *time.Duration, v string) {
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		*d = time.Duration(n) * time.Millisecond
	}
}

// retain deletes what is older or more than topics keep.
//
// The broker's own retention is not used: it deletes everything before the last
// batch with an old timestamp, wherever in the log that stands, so that one
// imported event of last year empties a partition.
func (b *Broker) retain(cluster *kfake.Cluster, topics *topicTable, a *ages, now time.Time) error {
	live := make(map[string]bool)
	var errs []error
	for i := range topics.list {
		t := &topics.list[i]
		pol := b.policyOf(t)
		for _, info := range cluster.PartitionInfos(t.Name) {
			key := ageKey(t.id(), info.Partition)
			live[key] = true
			if !pol.remove {
				continue
			}
			floor, err := b.floor(t, info, pol, a, now)
			if err == nil && floor > info.LogStartOffset {
				err = cluster.DeleteRecords(t.Name, info.Partition, floor)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("applying retention to %s-%d: %w", t.Name, info.Partition, err))
			}
		}
	}
	a.keep(live)
	return errors.Join(append(errs, a.save(b.cfg.DataDir))...)
}

// floor is the offset before which a partition's records go. The last record
// stays, and with it the offset of the next one; so does what an open
// transaction may still need.
func (b *Broker) floor(t *topic, info *kfake.PartitionInfo, pol policy, a *ages, now time.Time) (int64, error) {
	var floor int64
	if pol.age >= 0 {
		key := ageKey(t.id(), info.Partition)
		a.observe(key, info.HighWatermark, now, pol.age)
		floor = a.floor(key, now, pol.age)
	}
	if pol.bytes >= 0 {
		cut, err := bytesFloor(partitionDir(b.cfg.DataDir, t.Name, info.Partition), pol.bytes)
		if err != nil {
			return 0, err
		}
		floor = max(floor, cut)
	}
	return min(floor, info.LastStableOffset, info.HighWatermark-1), nil
}

// bytesFloor is where the segments begin that a partition may keep: the oldest
// go as long as the rest is enough.
func bytesFloor(dir string, limit int64) (int64, error) {
	bases, err := segmentBases(dir)
	if err != nil {
		return 0, err
	}
	sizes := make([]int64, len(bases))
	var total int64
	for i, base := range bases {
		info, err := os.Stat(filepath.Join(dir, strconv.FormatInt(base, 10)+".dat"))
		if err != nil {
			return 0, fmt.Errorf("measuring a segment: %w", err)
		}
		sizes[i] = info.Size()
		total += sizes[i]
	}
	var floor int64
	for i := 0; i+1 < len(bases) && total-sizes[i] >= limit; i++ {
		total -= sizes[i]
		floor = bases[i+1]
	}
	return floor, nil
}
