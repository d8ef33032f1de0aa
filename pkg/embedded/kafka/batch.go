package kafka

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	batchHeaderSize   = 61
	attrTransactional = 0x10
	attrControl       = 0x20
)

// batch is the header of a record batch in a segment, Kafka's format version 2.
type batch struct {
	pos, size     int // in the segment
	offset        int64
	leaderEpoch   int32
	attrs         int16
	lastDelta     int32
	maxTimestamp  int64
	producerID    int64
	producerEpoch int16
	firstSeq      int32
	numRecords    int32
}

func (b *batch) control() bool { return b.attrs&attrControl != 0 }

// transactional is true for data written in a transaction, not for markers.
func (b *batch) transactional() bool {
	return b.attrs&(attrTransactional|attrControl) == attrTransactional
}

// end is the offset after the batch.
func (b *batch) end() int64 { return b.offset + int64(b.lastDelta) + 1 }

// parseBatches reads the headers of the whole batches at the start of a
// segment, and how many bytes they are. What follows is a write cut short or
// damaged, which the broker would cut off, too.
func parseBatches(raw []byte) (batches []batch, valid int) {
	pos := 0
	for pos+batchHeaderSize <= len(raw) {
		r := raw[pos:]
		length := int(binary.BigEndian.Uint32(r[8:]))
		if length < batchHeaderSize-12 || length > len(r)-12 {
			break
		}
		size := 12 + length
		if crc32.Checksum(r[21:size], castagnoli) != binary.BigEndian.Uint32(r[17:]) {
			break
		}
		batches = append(batches, batch{
			pos: pos, size: size,
			offset:        int64(binary.BigEndian.Uint64(r)),
			leaderEpoch:   int32(binary.BigEndian.Uint32(r[12:])),
			attrs:         int16(binary.BigEndian.Uint16(r[21:])),
			lastDelta:     int32(binary.BigEndian.Uint32(r[23:])),
			maxTimestamp:  int64(binary.BigEndian.Uint64(r[35:])),
			producerID:    int64(binary.BigEndian.Uint64(r[43:])),
			producerEpoch: int16(binary.BigEndian.Uint16(r[51:])),
			firstSeq:      int32(binary.BigEndian.Uint32(r[53:])),
			numRecords:    int32(binary.BigEndian.Uint32(r[57:])),
		})
		pos += size
	}
	return batches, pos
}

// markerCommits tells whether a control batch commits its transaction. One
// that cannot be read aborts, as in the broker.
func markerCommits(raw []byte) bool {
	var rec kmsg.Record
	if err := rec.ReadFrom(raw[batchHeaderSize:]); err != nil {
		return false
	}
	var key kmsg.ControlRecordKey
	return key.ReadFrom(rec.Key) == nil && key.Type == kmsg.ControlRecordKeyTypeCommit
}

// marker is a control batch to append to a partition.
type marker struct {
	offset      int64
	leaderEpoch int32
	producerID  int64
	epoch       int16
	commit      bool
	timestamp   int64 // Unix milliseconds
}

// encode renders the batch as a transaction coordinator writes it.
func (m marker) encode() []byte {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	if m.commit {
		key.Type = kmsg.ControlRecordKeyTypeCommit
	}
	var end kmsg.EndTxnMarker
	rec := kmsg.Record{Key: key.AppendTo(nil), Value: end.AppendTo(nil)}
	rec.Length = int32(len(rec.AppendTo(nil)) - 1) // its own length takes one byte
	return encodeBatch(kmsg.RecordBatch{
		FirstOffset:          m.offset,
		PartitionLeaderEpoch: m.leaderEpoch,
		Magic:                2,
		Attributes:           attrControl | attrTransactional,
		FirstTimestamp:       m.timestamp,
		MaxTimestamp:         m.timestamp,
		ProducerID:           m.producerID,
		ProducerEpoch:        m.epoch,
		FirstSequence:        -1,
		NumRecords:           1,
		Records:              rec.AppendTo(nil),
	})
}

// encodeBatch renders a batch with its length and checksum.
func encodeBatch(b kmsg.RecordBatch) []byte {
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
	return raw
}

// Index entries stand beside each segment, one for each batch: version, low
// byte of the CRC-32C of the rest, leader epoch (int32 little endian), the
// greatest timestamp so far (int64), flags (bit 0: in a transaction).
const indexEntrySize = 15

func appendIndex(buf []byte, b *batch, maxTimestamp int64) []byte {
	var e [indexEntrySize]byte
	e[0] = stateVersion
	binary.LittleEndian.PutUint32(e[2:], uint32(b.leaderEpoch))
	binary.LittleEndian.PutUint64(e[6:], uint64(maxTimestamp))
	if b.transactional() {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli))
	return append(buf, e[:]...)
}

// sameIndex compares what the broker reads of an index: the leader epoch and
// the transaction flag of each batch. The timestamps it computes anew.
func sameIndex(have, want []byte) bool {
	if len(have) != len(want) {
		return false
	}
	for i := 0; i+indexEntrySize <= len(want); i += indexEntrySize {
		h, w := have[i:i+indexEntrySize], want[i:i+indexEntrySize]
		if h[0] != w[0] || h[14] != w[14] || string(h[2:6]) != string(w[2:6]) ||
			byte(crc32.Checksum(h[2:], castagnoli)) != h[1] {
			return false
		}
	}
	return true
}
