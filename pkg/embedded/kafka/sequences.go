package kafka

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
)

// sequenceWindow is a producer's last batches in a partition, by which the
// broker tells a retry from new data, as an entry of seq_windows.json. The
// broker writes that file at a clean end alone.
type sequenceWindow struct {
	Producer  int64            `json:"pid"`
	Topic     string           `json:"topic"`
	Partition int32            `json:"partition"`
	Entries   [5]sequenceEntry `json:"entries"`
	Count     uint8            `json:"count"`
	At        uint8            `json:"at"`
	Epoch     int16            `json:"epoch"`
	Seen      bool             `json:"seen"`
	NextSeq   int32            `json:"next_seq"`

	transactional bool
}

type sequenceEntry struct {
	FirstSeq int32 `json:"first_seq"`
	NextSeq  int32 `json:"next_seq"`
	Offset   int64 `json:"offset"`
}

// sequences computes the windows of a partition from its log, as Kafka does at
// recovery. Behind a gap, which compaction leaves, the log no longer tells a
// producer's last sequence: such a producer is unknown, and its next batch is
// accepted whatever its sequence.
func (p *partitionLog) sequences(topic string, partition int32) []sequenceWindow {
	windows := make(map[int64]*sequenceWindow)
	next := int64(-1)
	p.each(func(_ *segment, b *batch) {
		if next >= 0 && b.offset != next {
			clear(windows)
		}
		next = b.end()
		if b.control() || b.producerID < 0 || b.firstSeq < 0 {
			return
		}
		w := windows[b.producerID]
		if w == nil || w.Epoch != b.producerEpoch {
			w = &sequenceWindow{Producer: b.producerID, Topic: topic, Partition: partition, Epoch: b.producerEpoch, Seen: true, transactional: b.transactional()}
			windows[b.producerID] = w
		}
		w.push(b)
	})
	return slices.Collect(func(yield func(sequenceWindow) bool) {
		for _, id := range slices.Sorted(maps.Keys(windows)) {
			if !yield(*windows[id]) {
				return
			}
		}
	})
}

func (w *sequenceWindow) push(b *batch) {
	w.NextSeq = int32((int64(b.firstSeq) + int64(b.lastDelta) + 1) % math.MaxInt32)
	w.Entries[w.At] = sequenceEntry{FirstSeq: b.firstSeq, NextSeq: w.NextSeq, Offset: b.offset}
	w.At = (w.At + 1) % uint8(len(w.Entries))
	w.Count = min(w.Count+1, uint8(len(w.Entries)))
}

// writeSequences replaces seq_windows.json.
func writeSequences(dir string, windows []sequenceWindow) error {
	raw, err := json.Marshal(struct {
		Version int              `json:"version"`
		Windows []sequenceWindow `json:"windows"`
	}{stateVersion, windows})
	if err != nil {
		return fmt.Errorf("encoding sequence windows: %w", err)
	}
	return replaceFile(filepath.Join(dir, "seq_windows.json"), raw)
}
