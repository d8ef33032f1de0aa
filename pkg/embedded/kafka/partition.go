package kafka

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// segment is a file of a partition's log, named by its first offset.
type segment struct {
	base    int64
	batches []batch
}

// size is the segment's length in bytes.
func (s *segment) size() int {
	last := &s.batches[len(s.batches)-1]
	return last.pos + last.size
}

// transaction is an open transaction in a partition: data without a marker.
type transaction struct {
	producerID int64
	epoch      int16
}

// partitionLog is a partition's log, read for repair.
type partitionLog struct {
	dir      string
	segments []segment
	cut      int // bytes of broken ends that were cut off
}

// partitionDir is where the broker keeps a partition.
func partitionDir(dataDir, topic string, partition int32) string {
	return filepath.Join(dataDir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(topic), partition))
}

func (p *partitionLog) segmentPath(base int64) string {
	return filepath.Join(p.dir, strconv.FormatInt(base, 10)+".dat")
}

func (p *partitionLog) indexPath(base int64) string {
	return filepath.Join(p.dir, strconv.FormatInt(base, 10)+".idx")
}

// segmentBases lists a partition's segments in order; a partition that was
// never written to has none.
func segmentBases(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing a partition's segments: %w", err)
	}
	var bases []int64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".dat")
		if !ok {
			continue
		}
		if base, err := strconv.ParseInt(name, 10, 64); err == nil {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// openPartition reads a partition, cuts off broken ends and rebuilds indexes
// that do not match their segment. The broker writes a batch and then its index
// entry: killed between the two it would take the batch for committed, and
// every entry written later would stand one batch off.
func openPartition(dir string) (*partitionLog, error) {
	bases, err := segmentBases(dir)
	if err != nil {
		return nil, err
	}
	p := &partitionLog{dir: dir}
	for _, base := range bases {
		if err := p.load(base); err != nil {
			return nil, fmt.Errorf("reading segment %d of %s: %w", base, filepath.Base(dir), err)
		}
	}
	return p, p.dropReplaced()
}

// dropReplaced removes a segment that the next one reaches into: the next one
// is its shortened copy, and the process died before the original was removed.
func (p *partitionLog) dropReplaced() error {
	for i := 0; i+1 < len(p.segments); {
		s := &p.segments[i]
		if p.segments[i+1].base >= s.batches[len(s.batches)-1].end() {
			i++
			continue
		}
		if err := p.removeSegment(s.base); err != nil {
			return fmt.Errorf("removing a replaced segment of %s: %w", filepath.Base(p.dir), err)
		}
		p.segments = slices.Delete(p.segments, i, i+1)
	}
	return nil
}

func (p *partitionLog) load(base int64) error {
	raw, err := os.ReadFile(p.segmentPath(base))
	if err != nil {
		return err
	}
	batches, valid := parseBatches(raw)
	if len(batches) == 0 {
		p.cut += len(raw)
		return p.removeSegment(base)
	}
	if valid < len(raw) {
		p.cut += len(raw) - valid
		if err := os.Truncate(p.segmentPath(base), int64(valid)); err != nil {
			return err
		}
	}
	s := segment{base: base, batches: batches}
	p.segments = append(p.segments, s)
	return p.syncIndex(&s)
}

func (p *partitionLog) removeSegment(base int64) error {
	return errors.Join(ignoreMissing(os.Remove(p.segmentPath(base))), ignoreMissing(os.Remove(p.indexPath(base))))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncIndex writes a segment's index if it does not match.
func (p *partitionLog) syncIndex(s *segment) error {
	want := make([]byte, 0, len(s.batches)*indexEntrySize)
	var greatest int64
	for i := range s.batches {
		greatest = max(greatest, s.batches[i].maxTimestamp)
		want = appendIndex(want, &s.batches[i], greatest)
	}
	have, err := readIfExists(p.indexPath(s.base))
	if err != nil || sameIndex(have, want) {
		return err
	}
	return replaceFile(p.indexPath(s.base), want)
}

func (p *partitionLog) empty() bool { return len(p.segments) == 0 }

// last is the last batch; the partition is not empty.
func (p *partitionLog) last() *batch {
	s := &p.segments[len(p.segments)-1]
	return &s.batches[len(s.batches)-1]
}

// end is the offset after the last record.
func (p *partitionLog) end() int64 {
	if p.empty() {
		return 0
	}
	return p.last().end()
}

// each visits every batch in order.
func (p *partitionLog) each(visit func(s *segment, b *batch)) {
	for i := range p.segments {
		s := &p.segments[i]
		for j := range s.batches {
			visit(s, &s.batches[j])
		}
	}
}

// open lists the transactions without an end, by producer id.
func (p *partitionLog) open() []transaction {
	epochs := make(map[int64]int16)
	p.each(func(_ *segment, b *batch) {
		switch {
		case b.control():
			delete(epochs, b.producerID)
		case b.transactional():
			epochs[b.producerID] = b.producerEpoch
		}
	})
	txns := make([]transaction, 0, len(epochs))
	for id, epoch := range epochs {
		txns = append(txns, transaction{id, epoch})
	}
	slices.SortFunc(txns, func(a, b transaction) int { return cmp.Compare(a.producerID, b.producerID) })
	return txns
}

// appendMarkers ends transactions: each with a marker at the end of the log.
func (p *partitionLog) appendMarkers(markers []marker, sync bool) error {
	if len(markers) == 0 || p.empty() {
		return nil
	}
	s := &p.segments[len(p.segments)-1]
	var written []byte
	for _, m := range markers {
		m.offset, m.leaderEpoch = p.end(), p.last().leaderEpoch
		raw := m.encode()
		added, _ := parseBatches(raw)
		added[0].pos = s.size()
		s.batches = append(s.batches, added...)
		written = append(written, raw...)
	}
	f, err := os.OpenFile(p.segmentPath(s.base), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing markers: %w", err)
	}
	_, err = f.Write(written)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing markers to %s: %w", filepath.Base(p.dir), err)
	}
	return p.syncIndex(s)
}

// dropBefore deletes the batches that end before an offset, but never the last
// one of the log: its end is where the next record goes.
func (p *partitionLog) dropBefore(floor int64) error {
	for !p.empty() {
		s := &p.segments[0]
		keep := slices.IndexFunc(s.batches, func(b batch) bool { return b.end() > floor })
		switch {
		case keep == 0:
			return nil
		case keep < 0 && len(p.segments) > 1:
			if err := p.removeSegment(s.base); err != nil {
				return fmt.Errorf("deleting records: %w", err)
			}
			p.segments = p.segments[1:]
		case keep < 0:
			return p.cutHead(len(s.batches) - 1)
		default:
			return p.cutHead(keep)
		}
	}
	return nil
}

// cutHead rewrites the first segment without its first n batches.
func (p *partitionLog) cutHead(n int) error {
	if n == 0 {
		return nil
	}
	old := &p.segments[0]
	raw, err := os.ReadFile(p.segmentPath(old.base))
	if err != nil {
		return fmt.Errorf("deleting records: %w", err)
	}
	raw = raw[old.batches[n].pos:]
	batches, _ := parseBatches(raw)
	s := segment{base: batches[0].offset, batches: batches}
	if err := replaceFile(p.segmentPath(s.base), raw); err != nil {
		return err
	}
	if err := p.syncIndex(&s); err != nil {
		return err
	}
	if s.base != old.base {
		if err := p.removeSegment(old.base); err != nil {
			return fmt.Errorf("deleting records: %w", err)
		}
	}
	p.segments[0] = s
	return nil
}

// placeHolder gives an emptied partition its end back: one control record
// before it, which consumers skip. Without any batch the broker would start
// again at offset 0, below what consumers have committed.
func (p *partitionLog) placeHolder(end, timestamp int64) error {
	if !p.empty() || end <= 0 {
		return nil
	}
	if err := os.MkdirAll(p.dir, 0o750); err != nil {
		return fmt.Errorf("keeping the end of %s: %w", filepath.Base(p.dir), err)
	}
	raw := marker{offset: end - 1, producerID: -1, epoch: -1, commit: true, timestamp: timestamp}.encode()
	batches, _ := parseBatches(raw)
	s := segment{base: end - 1, batches: batches}
	if err := replaceFile(p.segmentPath(s.base), raw); err != nil {
		return err
	}
	p.segments = []segment{s}
	return p.syncIndex(&s)
}

// partitionEnd is the offset after a partition's last record, by its last
// segment.
func partitionEnd(dir string) (int64, error) {
	bases, err := segmentBases(dir)
	if err != nil || len(bases) == 0 {
		return 0, err
	}
	base := bases[len(bases)-1]
	raw, err := os.ReadFile(filepath.Join(dir, strconv.FormatInt(base, 10)+".dat"))
	if err != nil {
		return 0, fmt.Errorf("reading a partition's end: %w", err)
	}
	batches, _ := parseBatches(raw)
	if len(batches) == 0 {
		return base, nil
	}
	return batches[len(batches)-1].end(), nil
}

// viewPartition reads the headers of a partition that is being written to, and
// changes nothing. The end of the last segment may be a batch cut short.
func viewPartition(dir string) (*partitionLog, error) {
	bases, err := segmentBases(dir)
	if err != nil {
		return nil, err
	}
	p := &partitionLog{dir: dir}
	for _, base := range bases {
		raw, err := os.ReadFile(p.segmentPath(base))
		if err != nil {
			return nil, fmt.Errorf("reading a segment: %w", err)
		}
		if batches, _ := parseBatches(raw); len(batches) > 0 {
			p.segments = append(p.segments, segment{base: base, batches: batches})
		}
	}
	return p, nil
}
