package kafka

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cleanSuffix marks the compacted copy of a segment that waits to replace it.
const cleanSuffix = ".clean"

// The broker's own compaction is not used. It takes the records of an open
// transaction for committed, so that an aborted one can have deleted what it
// never replaced, and it drops abort markers that consumers still wait for.
//
// This one works on segments that are complete, while the broker serves, and
// writes copies beside them. Swapping the copies in takes a reopening of the
// broker, milliseconds in which clients wait. Only records below the last
// stable offset count. What survives is written as plain records, so that no
// marker is needed any more.

// cleaner compacts one partition.
type cleaner struct {
	part   *partitionLog
	limit  int64 // only below it records are removed or replace others
	policy policy
	now    time.Time

	aborted map[*batch]bool
	latest  map[[16]byte]int64
	codec   kgo.Decompressor
}

// cleaned is a partition whose compacted copies wait.
type cleaned struct {
	part  *partitionLog
	limit int64
	upto  int64 // the end of what is clean now
	// sizes has the original size and the copy's by segment; a copy of size 0
	// stands for a segment that goes.
	sizes map[int64][2]int
}

// keyOf identifies a key; the hash keeps the table small for long keys.
func keyOf(key []byte) [16]byte {
	sum := sha256.Sum256(key)
	return [16]byte(sum[:16])
}

// clean writes the compacted copies of the partition's complete segments.
func (c *cleaner) clean(ctx context.Context) (*cleaned, error) {
	c.codec = kgo.DefaultDecompressor()
	c.latest = make(map[[16]byte]int64)
	if err := c.outcomes(); err != nil {
		return nil, err
	}
	if err := c.eachData(ctx, c.part.segments, func(b *batch, _ *kmsg.RecordBatch, recs []kmsg.Record) {
		for i := range recs {
			c.latest[keyOf(recs[i].Key)] = b.offset + int64(recs[i].OffsetDelta)
		}
	}); err != nil {
		return nil, err
	}
	done := &cleaned{part: c.part, limit: c.limit, sizes: make(map[int64][2]int)}
	for i := range c.part.segments[:len(c.part.segments)-1] {
		s := &c.part.segments[i]
		if s.batches[len(s.batches)-1].end() > c.limit {
			break
		}
		done.upto = s.batches[len(s.batches)-1].end()
		out, err := c.cleanSegment(ctx, s)
		if err != nil {
			return nil, err
		}
		if len(out) == s.size() {
			continue
		}
		if err := replaceFile(c.part.segmentPath(s.base)+cleanSuffix, out); err != nil {
			return nil, err
		}
		done.sizes[s.base] = [2]int{s.size(), len(out)}
	}
	return done, nil
}

// outcomes finds the batches whose transaction was aborted: those before an
// abort marker of their producer.
func (c *cleaner) outcomes() error {
	c.aborted = make(map[*batch]bool)
	commits := make(map[int64]bool) // by producer: the next marker
	for i := len(c.part.segments) - 1; i >= 0; i-- {
		s := &c.part.segments[i]
		raw, err := os.ReadFile(c.part.segmentPath(s.base))
		if err != nil {
			return fmt.Errorf("reading a segment to compact: %w", err)
		}
		for j := len(s.batches) - 1; j >= 0; j-- {
			b := &s.batches[j]
			if b.control() {
				commits[b.producerID] = markerCommits(raw[b.pos : b.pos+b.size])
			} else if b.transactional() && !commits[b.producerID] {
				c.aborted[b] = true
			}
		}
	}
	return nil
}

// eachData visits the committed data batches below the limit.
func (c *cleaner) eachData(ctx context.Context, segments []segment, visit func(*batch, *kmsg.RecordBatch, []kmsg.Record)) error {
	for i := range segments {
		s := &segments[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		raw, err := os.ReadFile(c.part.segmentPath(s.base))
		if err != nil {
			return fmt.Errorf("reading a segment to compact: %w", err)
		}
		for j := range s.batches {
			b := &s.batches[j]
			if b.control() || c.aborted[b] || b.offset >= c.limit {
				continue
			}
			rb, recs, err := c.records(raw[b.pos : b.pos+b.size])
			if err != nil {
				return fmt.Errorf("reading the batch at offset %d of %s: %w", b.offset, filepath.Base(c.part.dir), err)
			}
			visit(b, rb, recs)
		}
	}
	return nil
}

// records decodes a batch and its records.
func (c *cleaner) records(raw []byte) (*kmsg.RecordBatch, []kmsg.Record, error) {
	var rb kmsg.RecordBatch
	if err := rb.ReadFrom(raw); err != nil {
		return nil, nil, fmt.Errorf("decoding: %w", err)
	}
	data, err := c.codec.Decompress(rb.Records, kgo.CompressionCodecType(rb.Attributes&7))
	if err != nil {
		return nil, nil, fmt.Errorf("decompressing: %w", err)
	}
	recs := make([]kmsg.Record, rb.NumRecords)
	for i := range recs {
		if err := recs[i].ReadFrom(data); err != nil {
			return nil, nil, fmt.Errorf("decoding record %d: %w", i, err)
		}
		length, n := binary.Varint(data)
		data = data[int(length)+n:]
	}
	return &rb, recs, nil
}

// cleanSegment renders a segment without aborted data, markers and records that
// later ones replace.
func (c *cleaner) cleanSegment(ctx context.Context, s *segment) ([]byte, error) {
	var out []byte
	var failed error
	err := c.eachData(ctx, []segment{*s}, func(b *batch, rb *kmsg.RecordBatch, recs []kmsg.Record) {
		kept := recs[:0:0]
		for i := range recs {
			if c.survives(b, rb, &recs[i]) {
				kept = append(kept, recs[i])
			}
		}
		if len(kept) == 0 {
			return
		}
		if len(kept) < len(recs) {
			if err := rewrite(rb, kept); err != nil {
				failed = err
			}
		}
		rb.Attributes &^= attrTransactional
		out = append(out, encodeBatch(*rb)...)
	})
	return out, errors.Join(err, failed)
}

// survives tells whether a record is the last of its key, and not a deletion
// that everybody had time to see. Records without a key stay.
func (c *cleaner) survives(b *batch, rb *kmsg.RecordBatch, rec *kmsg.Record) bool {
	if rec.Key == nil {
		return true
	}
	if c.latest[keyOf(rec.Key)] != b.offset+int64(rec.OffsetDelta) {
		return false
	}
	written := time.UnixMilli(rb.FirstTimestamp + rec.TimestampDelta64)
	return rec.Value != nil || c.now.Sub(written) < c.policy.tombstones
}

// rewrite gives a batch fewer records. Its last offset stays, as in Kafka: it
// says which offsets and sequences the batch stands for.
func rewrite(rb *kmsg.RecordBatch, kept []kmsg.Record) error {
	var data []byte
	for i := range kept {
		data = kept[i].AppendTo(data)
	}
	rb.NumRecords = int32(len(kept))
	codec := kgo.CompressionCodecType(rb.Attributes & 7)
	rb.Attributes &^= 7
	rb.Records = data
	option, ok := map[kgo.CompressionCodecType]kgo.CompressionCodec{
		kgo.CodecGzip: kgo.GzipCompression(), kgo.CodecSnappy: kgo.SnappyCompression(),
		kgo.CodecLz4: kgo.Lz4Compression(), kgo.CodecZstd: kgo.ZstdCompression(),
	}[codec]
	if !ok {
		return nil
	}
	compressor, err := kgo.DefaultCompressor(option)
	if err != nil {
		return fmt.Errorf("compressing a batch: %w", err)
	}
	small, used := compressor.Compress(new(bytes.Buffer), data)
	if len(small) < len(data) {
		rb.Records = bytes.Clone(small)
		rb.Attributes |= int16(used)
	}
	return nil
}

// swap puts the copies in place of the segments; the broker is closed. It
// returns how many bytes that gave back.
func (d *cleaned) swap() (freed int, err error) {
	snapshot, err := readSnapshot(d.part.dir)
	if err != nil {
		return 0, err
	}
	for base, size := range d.sizes {
		path := d.part.segmentPath(base)
		info, err := os.Stat(path)
		if err != nil || info.Size() != int64(size[0]) {
			continue // retention was faster
		}
		if size[1] == 0 {
			err = d.part.removeSegment(base)
		} else if err = os.Rename(path+cleanSuffix, path); err == nil {
			err = ignoreMissing(os.Remove(d.part.indexPath(base)))
		}
		if err != nil {
			return freed, fmt.Errorf("replacing a segment: %w", err)
		}
		freed += size[0] - size[1]
	}
	now, err := openPartition(d.part.dir) // writes the indexes anew
	if err != nil {
		return freed, err
	}
	return freed, snapshot.write(now, d.limit)
}

// snapshot is the broker's own summary of a partition at a clean end.
type snapshot map[string]any

func readSnapshot(dir string) (snapshot, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "snapshot.json"))
	if err != nil {
		return nil, fmt.Errorf("reading a partition's snapshot: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var s snapshot
	if err := dec.Decode(&s); err != nil {
		return nil, fmt.Errorf("decoding a partition's snapshot: %w", err)
	}
	return s, nil
}

// write brings the snapshot in line with the segments: without that the broker
// would read the log anew and abort the transactions that are open. Aborted
// transactions below the limit are gone, and with them the markers that would
// tell consumers where they end.
func (s snapshot) write(p *partitionLog, limit int64) error {
	segments := make([]map[string]any, 0, len(p.segments))
	for i := range p.segments {
		seg := &p.segments[i]
		epochs := [2]int32{seg.batches[0].leaderEpoch, seg.batches[0].leaderEpoch}
		for j := range seg.batches {
			epochs[0] = min(epochs[0], seg.batches[j].leaderEpoch)
			epochs[1] = max(epochs[1], seg.batches[j].leaderEpoch)
		}
		segments = append(segments, map[string]any{
			"base_offset": seg.base, "size": seg.size(), "min_epoch": epochs[0], "max_epoch": epochs[1],
		})
	}
	s["segments"] = segments
	if list, ok := s["aborted_txns"].([]any); ok {
		var kept []any
		for _, e := range list {
			if m, ok := e.(map[string]any); !ok || atOrAfter(m["last_offset"], limit) {
				kept = append(kept, e)
			}
		}
		s["aborted_txns"] = kept
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding a partition's snapshot: %w", err)
	}
	return replaceFile(filepath.Join(p.dir, "snapshot.json"), raw)
}

func atOrAfter(v any, limit int64) bool {
	n, ok := v.(json.Number)
	if !ok {
		return true
	}
	offset, err := n.Int64()
	return err != nil || offset >= limit
}

// compact cleans the partitions that are due and reopens the broker on them.
func (b *Broker) compact(ctx context.Context, topics *topicTable, now time.Time) error {
	cluster := b.running()
	var errs []error
	var due []*cleaned
	for i := range topics.list {
		t := &topics.list[i]
		pol := b.policyOf(t)
		if !pol.compact {
			continue
		}
		for _, info := range cluster.PartitionInfos(t.Name) {
			done, err := b.cleanPartition(ctx, t, info.Partition, info.LastStableOffset, pol, now)
			if err != nil {
				errs = append(errs, fmt.Errorf("compacting %s-%d: %w", t.Name, info.Partition, err))
			} else if done != nil {
				due = append(due, done)
			}
		}
	}
	if len(due) > 0 && ctx.Err() == nil {
		errs = append(errs, b.reopen(due))
	}
	return errors.Join(errs...)
}

// cleanPartition writes a partition's compacted copies if enough was written
// since the last time: as much as is clean, and a segment at least.
func (b *Broker) cleanPartition(ctx context.Context, t *topic, partition int32, stable int64, pol policy, now time.Time) (*cleaned, error) {
	dir := partitionDir(b.cfg.DataDir, t.Name, partition)
	clean, dirty, err := sealedBytes(dir)
	if err != nil || dirty == 0 || dirty < clean {
		return nil, err
	}
	p, err := viewPartition(dir)
	if err != nil || len(p.segments) < 2 {
		return nil, err
	}
	c := cleaner{part: p, limit: min(stable, p.segments[len(p.segments)-1].base), policy: pol, now: now}
	done, err := c.clean(ctx)
	if err != nil || len(done.sizes) > 0 {
		return done, err
	}
	return nil, setCleanUpto(dir, done.upto) // there is nothing to gain
}

// sealedBytes sums a partition's complete segments by whether they were
// compacted before.
func sealedBytes(dir string) (clean, dirty int64, err error) {
	bases, err := segmentBases(dir)
	if err != nil || len(bases) < 2 {
		return 0, 0, err
	}
	upto := cleanUpto(dir)
	for _, base := range bases[:len(bases)-1] {
		info, err := os.Stat((&partitionLog{dir: dir}).segmentPath(base))
		if err != nil {
			return 0, 0, fmt.Errorf("measuring a segment: %w", err)
		}
		if base < upto {
			clean += info.Size()
		} else {
			dirty += info.Size()
		}
	}
	return clean, dirty, nil
}

// reopen closes the broker, swaps compacted segments in and starts it again
// behind the same socket. Groups and open transactions go on.
func (b *Broker) reopen(due []*cleaned) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != started {
		return nil
	}
	begun := time.Now()
	err := b.stopCluster()
	var freed int
	if err == nil {
		for _, d := range due {
			n, swapErr := d.swap()
			freed += n
			if swapErr == nil {
				swapErr = setCleanUpto(d.part.dir, d.upto)
			}
			err = errors.Join(err, swapErr)
		}
	}
	if err != nil {
		// The directory is as after a crash, and mended as such.
		r := repairer{dir: b.cfg.DataDir, sync: b.cfg.SyncWrites, now: begun}
		_, repairErr := r.repair()
		err = errors.Join(err, repairErr)
	}
	if startErr := b.startCluster(); startErr != nil {
		b.fail(startErr)
		return errors.Join(err, startErr)
	}
	b.cfg.Logger.Info("embedded Kafka compacted", slog.Int("partitions", len(due)),
		slog.Int("freed_bytes", freed), slog.Duration("pause", time.Since(begun)))
	return err
}

// cleanFile keeps, in a partition's directory, up to where it is compacted.
const cleanFile = "sillage-clean"

func cleanUpto(dir string) int64 {
	var upto int64
	raw, err := os.ReadFile(filepath.Join(dir, cleanFile))
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(raw), &upto); err != nil {
		return 0 // compacted once more than needed
	}
	return upto
}

func setCleanUpto(dir string, limit int64) error {
	return replaceFile(filepath.Join(dir, cleanFile), fmt.Appendln(nil, limit))
}

// dropCopies removes compacted copies that never took their place.
func dropCopies(dir string) error {
	copies, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*"+cleanSuffix))
	if err != nil {
		return fmt.Errorf("looking for leftovers of compaction: %w", err)
	}
	var errs []error
	for _, c := range copies {
		if strings.HasSuffix(c, cleanSuffix) {
			errs = append(errs, ignoreMissing(os.Remove(c)))
		}
	}
	return errors.Join(errs...)
}
