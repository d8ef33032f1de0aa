package kafka

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Repair says what opening a directory after a crash had to mend.
type Repair struct {
	Partitions int           // read
	Committed  int           // commit markers written: a commit was under way
	Aborted    int           // abort markers written: a transaction was open
	Offsets    int           // group offsets of the commit under way
	Fenced     int           // producers whose epoch was ended
	CutBytes   int           // of batches written in part
	Took       time.Duration // from first read to last write
}

// repairer mends a data directory whose broker died. Every step can be done
// again: a repair that is itself cut short starts over.
type repairer struct {
	dir  string
	sync bool
	now  time.Time

	topics    *topicTable
	notes     *notes
	producers *producers
	commit    *note // the commit under way, if there is one
	work      []partitionWork
	windows   []sequenceWindow
	report    Repair
}

// partitionWork is a partition with something to mend.
type partitionWork struct {
	dir   string
	floor int64
}

// repair brings a data directory into the state of a broker with no transaction
// open and none half ended: the commit that was under way is completed, any
// other open transaction is aborted and its producer fenced.
func (r *repairer) repair() (Repair, error) {
	if started, err := checkFormat(r.dir); err != nil || !started {
		return Repair{}, err
	}
	if err := r.read(); err != nil {
		return r.report, err
	}
	if err := r.topics.dropOrphans(r.dir); err != nil {
		return r.report, err
	}
	if err := r.noteFences(); err != nil {
		return r.report, err
	}
	if err := r.mendPartitions(); err != nil {
		return r.report, err
	}
	if err := r.mendGroups(); err != nil {
		return r.report, err
	}
	return r.report, r.mendProducers()
}

// checkFormat tells whether the broker ever completed a start on the directory,
// and refuses files of a format that the repair does not know.
func checkFormat(dir string) (started bool, err error) {
	raw, err := readIfExists(filepath.Join(dir, "meta.json"))
	if err != nil || raw == nil {
		return false, err
	}
	var meta struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw, &meta); err != nil {
		return false, fmt.Errorf("decoding %s: %w", filepath.Join(dir, "meta.json"), err)
	}
	if meta.Version != stateVersion {
		return false, fmt.Errorf("the files in %s have format %d, this version can repair format %d: open and stop them with the version that wrote them", dir, meta.Version, stateVersion)
	}
	return true, nil
}

// read gathers what is known and finds the commit that was under way.
func (r *repairer) read() (err error) {
	if r.topics, err = readTopics(r.dir); err != nil {
		return err
	}
	if r.notes, err = loadNotes(r.dir); err != nil {
		return err
	}
	if r.producers, err = readProducers(r.dir); err != nil {
		return err
	}
	done, err := r.commitDone()
	if err != nil {
		return err
	}
	if c := r.notes.commit; c != nil && !done && r.producers.current(c.Producer, c.Epoch) {
		r.commit = c
	}
	return nil
}

// commitDone tells whether the broker finished the last commit noted. It writes
// the entry that ends a transaction to pids.log after the markers and the
// offsets, and handles one request at a time: without that entry it died in the
// middle, and nothing came after.
func (r *repairer) commitDone() (bool, error) {
	c := r.notes.commit
	if c == nil {
		return true, nil
	}
	at, err := markFile(filepath.Join(r.dir, "pids.log"))
	if err != nil {
		return false, err
	}
	if at.Inode != c.PIDs.Inode {
		return c.PIDs.Inode != 0, nil
	}
	ended, ok := r.producers.ended[c.Producer]
	return ok && ended >= c.PIDs.Size, nil
}

// noteFences finds the producers whose transaction will be aborted and notes
// them: after their markers are written nothing else would tell.
func (r *repairer) noteFences() error {
	fence := make(map[transaction]bool)
	for _, s := range r.notes.staged {
		fence[transaction{s.Producer, s.Epoch}] = true
	}
	for _, f := range r.notes.fences {
		fence[transaction{f.Producer, f.Epoch}] = true
	}
	for i := range r.topics.list {
		t := &r.topics.list[i]
		for partition := range t.Partitions {
			open, err := r.scan(t, partition)
			if err != nil {
				return err
			}
			for _, txn := range open {
				fence[txn] = true
			}
		}
	}
	r.notes.fences = nil
	for txn := range fence {
		if !r.commits(txn) && r.producers.current(txn.producerID, txn.epoch) {
			r.notes.fences = append(r.notes.fences, note{Kind: noteFence, Producer: txn.producerID, Epoch: txn.epoch})
		}
	}
	return writeNotes(r.dir, r.notes)
}

func (r *repairer) commits(txn transaction) bool {
	return r.commit != nil && r.commit.Producer == txn.producerID && r.commit.Epoch == txn.epoch
}

// scan reads one partition, mends its files, collects its producers' sequences
// and returns its open transactions.
func (r *repairer) scan(t *topic, partition int32) ([]transaction, error) {
	p, err := openPartition(partitionDir(r.dir, t.Name, partition))
	if err != nil {
		return nil, err
	}
	r.report.Partitions++
	r.report.CutBytes += p.cut
	for _, w := range p.sequences(t.Name, partition) {
		r.producers.seen(w.Producer, w.Epoch, w.transactional)
		r.windows = append(r.windows, w)
	}
	floor := max(r.notes.floors[floorKey{t.id(), t.Name, partition}], snapshotStart(p.dir))
	open := p.open()
	if len(open) > 0 || floor > 0 {
		r.work = append(r.work, partitionWork{p.dir, floor})
		return open, nil
	}
	return nil, dropSnapshot(p.dir)
}

// dropSnapshot removes what the broker kept of a partition at its last clean
// end; without it the broker reads the whole log anew.
func dropSnapshot(dir string) error {
	if err := ignoreMissing(os.Remove(filepath.Join(dir, "snapshot.json"))); err != nil {
		return fmt.Errorf("removing an outdated snapshot: %w", err)
	}
	return nil
}

// mendPartitions ends the open transactions and applies deletions that the
// broker keeps in memory alone.
func (r *repairer) mendPartitions() error {
	for _, w := range r.work {
		p, err := openPartition(w.dir)
		if err != nil {
			return err
		}
		if err := p.dropBefore(w.floor); err != nil {
			return err
		}
		if err := p.placeHolder(w.floor, r.now.UnixMilli()); err != nil {
			return err
		}
		if err := p.appendMarkers(r.markers(p.open()), r.sync); err != nil {
			return err
		}
		if err := dropSnapshot(p.dir); err != nil {
			return err
		}
	}
	return nil
}

func (r *repairer) markers(open []transaction) []marker {
	var ms []marker
	for _, txn := range open {
		commit := r.commits(txn)
		if commit {
			r.report.Committed++
		} else {
			r.report.Aborted++
		}
		ms = append(ms, marker{producerID: txn.producerID, epoch: txn.epoch, commit: commit, timestamp: r.now.UnixMilli()})
	}
	return ms
}

// snapshotStart is where a partition began at the last clean end. One that
// cannot be read is as good as none: the log is complete without it.
func snapshotStart(dir string) int64 {
	raw, err := os.ReadFile(filepath.Join(dir, "snapshot.json"))
	if err != nil {
		return 0
	}
	var snap struct {
		LogStartOffset int64 `json:"log_start_offset"`
	}
	if err := json.Unmarshal(raw, &snap); err != nil {
		return 0
	}
	return snap.LogStartOffset
}

// mendGroups cuts a broken end off groups.log, behind which the broker would
// write entries that it never reads again, and adds the offsets of the commit
// under way. Offsets that are there already are written again, the same.
func (r *repairer) mendGroups() error {
	path := filepath.Join(r.dir, "groups.log")
	raw, err := readIfExists(path)
	if err != nil {
		return err
	}
	_, valid := readState(raw)
	buf := raw[:valid:valid]
	if r.commit != nil {
		for _, o := range r.commit.Offsets {
			topic := o.Topic
			if t := r.topics.byID[o.TopicID]; t != nil && topic == "" {
				topic = t.Name
			}
			t := r.topics.byName[topic]
			if t == nil || o.Partition >= t.Partitions {
				continue // the broker refuses such offsets
			}
			at := r.now.UnixMilli()
			buf, err = appendState(buf, groupCommit{
				Type: "commit", Group: o.Group, Topic: topic, Partition: o.Partition,
				Offset: o.Offset, Epoch: o.Epoch, Metadata: o.Metadata, LastCommit: &at,
			})
			if err != nil {
				return err
			}
			r.report.Offsets++
		}
	}
	if valid == int64(len(raw)) && r.report.Offsets == 0 {
		return nil
	}
	return replaceFile(path, buf)
}

// mendProducers writes the producers' state. Replacing pids.log also says that
// the commit under way is finished; it comes last but for the notes.
func (r *repairer) mendProducers() error {
	live := make(map[int64]bool)
	for _, w := range r.windows {
		live[w.Producer] = true
	}
	if err := writeSequences(r.dir, r.windows); err != nil {
		return err
	}
	// Sessions and open transactions of an earlier clean end.
	if err := ignoreMissing(os.Remove(filepath.Join(r.dir, "session_state.json"))); err != nil {
		return fmt.Errorf("removing an outdated session state: %w", err)
	}
	for _, f := range r.notes.fences {
		r.producers.fence(f.Producer, f.Epoch)
		r.report.Fenced++
	}
	if r.commit != nil {
		r.producers.commit(r.commit.Producer, r.commit.Bump)
	}
	if err := r.producers.write(r.dir, func(id int64) bool { return live[id] }); err != nil {
		return err
	}
	return writeNotes(r.dir, newNotes())
}
