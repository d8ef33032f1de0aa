package kafka

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	notesFile     = "sillage-notes.log"
	notesMaxBytes = 1 << 20

	// stagedLife is longer than any transaction: the broker ends those that
	// take longer than 15 minutes.
	stagedLife = time.Hour
)

// noteKind says what a note is about.
type noteKind string

const (
	// noteStage: offsets were sent for a transaction. If nothing ends it, its
	// epoch must be fenced: after a crash the broker has forgotten them.
	noteStage noteKind = "stage"
	// noteCommit: a transaction is about to be committed, with the offsets
	// staged for it.
	noteCommit noteKind = "commit"
	// noteAbort: a transaction is about to be aborted, its offsets forgotten.
	noteAbort noteKind = "abort"
	// noteFence: the repair aborts this producer's transaction and must fence
	// its epoch, even if the repair is itself cut short.
	noteFence noteKind = "fence"
	// noteFloor: records before this offset were deleted.
	noteFloor noteKind = "floor"
)

// note is one entry of the notes log.
type note struct {
	Kind     noteKind       `json:"k"`
	At       int64          `json:"a,omitempty"` // Unix milliseconds
	TxID     string         `json:"x,omitempty"`
	Producer int64          `json:"i,omitempty"`
	Epoch    int16          `json:"e,omitempty"`
	Bump     bool           `json:"b,omitempty"` // the commit gives the producer its next epoch
	Offsets  []stagedOffset `json:"o,omitempty"`
	// PIDs is the state of pids.log just before the commit: if the entry that
	// ends the transaction follows, or the file was replaced since, the broker
	// finished the commit.
	PIDs fileMark `json:"p,omitzero"`

	TopicID   [16]byte `json:"t,omitzero"`
	Topic     string   `json:"n,omitempty"`
	Partition int32    `json:"q,omitempty"`
	Offset    int64    `json:"f,omitempty"`
}

// stagedOffset is one offset of a transaction, for when it commits. The topic
// is named by id where the client's request did.
type stagedOffset struct {
	Group     string   `json:"g"`
	TopicID   [16]byte `json:"t,omitzero"`
	Topic     string   `json:"n,omitempty"`
	Partition int32    `json:"q,omitempty"`
	Offset    int64    `json:"o"`
	Epoch     int32    `json:"e"`
	Metadata  *string  `json:"m,omitempty"`
}

// floorKey names a partition of one incarnation of a topic.
type floorKey struct {
	topicID   [16]byte
	topic     string
	partition int32
}

// notes is what a notes log says that still matters.
type notes struct {
	staged map[string]note // by transactional id
	commit *note           // the last; all before it are finished
	fences []note
	floors map[floorKey]int64
}

func newNotes() *notes {
	return &notes{staged: make(map[string]note), floors: make(map[floorKey]int64)}
}

// The log is framed like the state logs of the broker, without a version:
// length (uint32 little endian), CRC-32C of the JSON, JSON.
const noteHeader = 8

func appendNote(buf []byte, n *note) ([]byte, error) {
	data, err := json.Marshal(n)
	if err != nil {
		return buf, fmt.Errorf("encoding a note: %w", err)
	}
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(data)))
	buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(data, castagnoli))
	return append(buf, data...), nil
}

// decodeNotes replays a notes log up to its first broken entry, the one that
// was being written when the process died: the broker had not yet acted on it.
func decodeNotes(raw []byte) *notes {
	n := newNotes()
	for len(raw) >= noteHeader {
		length := int(binary.LittleEndian.Uint32(raw))
		if length > len(raw)-noteHeader {
			break
		}
		data := raw[noteHeader : noteHeader+length]
		if crc32.Checksum(data, castagnoli) != binary.LittleEndian.Uint32(raw[4:]) {
			break
		}
		var e note
		if err := json.Unmarshal(data, &e); err != nil {
			break
		}
		n.apply(e)
		raw = raw[noteHeader+length:]
	}
	return n
}

func (n *notes) apply(e note) {
	switch e.Kind {
	case noteStage:
		if have, ok := n.staged[e.TxID]; ok && have.sameTransaction(&e) {
			e.Offsets = mergeOffsets(have.Offsets, e.Offsets)
		}
		n.staged[e.TxID] = e
	case noteCommit:
		if have, ok := n.staged[e.TxID]; ok && have.sameTransaction(&e) {
			e.Offsets = have.Offsets
		}
		delete(n.staged, e.TxID)
		n.commit = &e
	case noteAbort:
		delete(n.staged, e.TxID)
	case noteFence:
		n.fences = append(n.fences, e)
	case noteFloor:
		k := floorKey{e.TopicID, e.Topic, e.Partition}
		n.floors[k] = max(n.floors[k], e.Offset)
	}
}

func (e *note) sameTransaction(other *note) bool {
	return e.Producer == other.Producer && e.Epoch == other.Epoch
}

// mergeOffsets adds offsets of a transaction to those it has; the later one
// counts.
func mergeOffsets(have, more []stagedOffset) []stagedOffset {
	merged := slices.Clone(have)
	for _, o := range more {
		i := slices.IndexFunc(merged, o.samePlace)
		if i < 0 {
			merged = append(merged, o)
		} else {
			merged[i] = o
		}
	}
	return merged
}

func (o *stagedOffset) samePlace(other stagedOffset) bool {
	return o.Group == other.Group && o.Partition == other.Partition && o.Topic == other.Topic && o.TopicID == other.TopicID
}

// forgetStaged drops offsets staged before a time: their transaction ran out.
func (n *notes) forgetStaged(before int64) {
	maps.DeleteFunc(n.staged, func(_ string, e note) bool { return e.At < before })
}

// all renders the notes as entries. The commit comes first: what is staged
// belongs to transactions after it.
func (n *notes) all() []note {
	var out []note
	if n.commit != nil {
		out = append(out, *n.commit)
	}
	out = slices.AppendSeq(out, maps.Values(n.staged))
	out = append(out, n.fences...)
	for k, offset := range n.floors {
		out = append(out, note{Kind: noteFloor, TopicID: k.topicID, Topic: k.topic, Partition: k.partition, Offset: offset})
	}
	return out
}

// loadNotes reads the notes log of a data directory.
func loadNotes(dir string) (*notes, error) {
	raw, err := readIfExists(filepath.Join(dir, notesFile))
	if err != nil {
		return nil, err
	}
	return decodeNotes(raw), nil
}

// writeNotes replaces the notes log by the notes that still matter.
func writeNotes(dir string, n *notes) error {
	var buf []byte
	for _, e := range n.all() {
		var err error
		if buf, err = appendNote(buf, &e); err != nil {
			return err
		}
	}
	return replaceFile(filepath.Join(dir, notesFile), buf)
}

// noteLog appends to the notes log. It is not safe for concurrent use: the
// broker handles one request at a time.
type noteLog struct {
	dir  string
	sync bool

	live *notes // what a rewritten log must keep
	f    *os.File
	size int64
	buf  []byte
}

// openNotes opens the log for appending, first reduced to what still matters.
func openNotes(dir string, n *notes, sync bool) (*noteLog, error) {
	l := &noteLog{dir: dir, sync: sync, live: n}
	if err := l.rewrite(); err != nil {
		return nil, err
	}
	return l, nil
}

// rewrite replaces the log by what still matters and opens it again.
func (l *noteLog) rewrite() error {
	if err := l.close(); err != nil {
		return err
	}
	if err := writeNotes(l.dir, l.live); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, notesFile), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the notes log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("opening the notes log: %w", err), f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

// append writes a note before the broker acts on what it says.
func (l *noteLog) append(n note) error {
	if l.f == nil || l.size >= notesMaxBytes {
		// Every commit noted so far is finished: the broker asks for a new
		// note only after it handled the request of the one before.
		l.live.commit = nil
		l.live.forgetStaged(n.At - stagedLife.Milliseconds())
		if err := l.rewrite(); err != nil {
			return err
		}
	}
	buf, err := appendNote(l.buf[:0], &n)
	if err != nil {
		return err
	}
	l.buf = buf
	wrote, err := l.f.Write(buf)
	if err == nil && l.sync {
		err = l.f.Sync()
	}
	if err != nil {
		// A part of an entry would hide those after it.
		if wrote > 0 {
			err = errors.Join(err, l.f.Truncate(l.size), l.close())
		}
		return fmt.Errorf("writing the notes log: %w", err)
	}
	l.size += int64(wrote)
	l.live.apply(n)
	return nil
}

func (l *noteLog) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	if err != nil {
		return fmt.Errorf("closing the notes log: %w", err)
	}
	return nil
}
