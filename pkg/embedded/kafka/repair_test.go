package kafka

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A scene is a directory as a broker left it that died in the middle of a
// commit: one transaction with data in three partitions and the offset of a
// group, of which the broker wrote as much as the test says.
type scene struct {
	dir    string
	txid   string
	before int // bytes of pids.log before the commit
}

const group = "readers"

// midCommit commits a transaction and takes back the broker's last writes.
func midCommit(t *testing.T) scene {
	t.Helper()
	dir := t.TempDir()
	b := startBroker(t, testConfig(dir))
	createTopic(t, b, "events", 3, nil)
	cl := client(t, b, kgo.TransactionalID("writer"))
	require.NoError(t, cl.BeginTransaction())
	for p := range int32(3) {
		produce(t, cl, "events", p, "first-"+strconv.Itoa(int(p)))
	}
	stageOffset(t, cl, 41)
	pids, err := os.ReadFile(filepath.Join(dir, "pids.log"))
	require.NoError(t, err)
	require.NoError(t, cl.Flush(t.Context()))
	require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
	return scene{dir: crashCopy(t, dir), txid: "writer", before: len(pids)}
}

// stageOffset sends the offset of a group for the client's transaction.
func stageOffset(t *testing.T, cl *kgo.Client, offset int64) {
	t.Helper()
	id, epoch, err := cl.ProducerID(t.Context())
	require.NoError(t, err)
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = "writer", group, id, epoch
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topics, err := kadm.NewClient(cl).ListTopics(t.Context(), "events")
	require.NoError(t, err)
	topic.Topic, topic.TopicID = "events", topics["events"].ID
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset = offset
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), cl)
	require.NoError(t, err)
	require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
}

// unmark takes the marker back that ends a partition's log.
func (s *scene) unmark(t *testing.T, partition int32) {
	t.Helper()
	p, err := openPartition(partitionDir(s.dir, "events", partition))
	require.NoError(t, err)
	require.True(t, p.last().control())
	seg := &p.segments[len(p.segments)-1]
	require.NoError(t, os.Truncate(p.segmentPath(seg.base), int64(p.last().pos)))
	require.NoError(t, os.Truncate(p.indexPath(seg.base), int64(len(seg.batches)-1)*indexEntrySize))
}

// unend takes back that the broker wrote down the transaction's end, in place
// so that the file stays the same.
func (s *scene) unend(t *testing.T) {
	t.Helper()
	path := filepath.Join(s.dir, "pids.log")
	require.NoError(t, os.Truncate(path, int64(s.before)))
	// The copy of a directory has files of its own; the note names the original.
	n, err := loadNotes(s.dir)
	require.NoError(t, err)
	n.commit.PIDs, err = markFile(path)
	require.NoError(t, err)
	require.NoError(t, writeNotes(s.dir, n))
}

// uncommitGroup takes back the offsets.
func (s *scene) uncommitGroup(t *testing.T) {
	t.Helper()
	path := filepath.Join(s.dir, "groups.log")
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	entries, _ := readState(raw)
	for _, e := range entries {
		var c groupCommit
		require.NoError(t, json.Unmarshal(e.data, &c))
		if c.Type == "commit" {
			require.NoError(t, os.Truncate(path, e.at))
			return
		}
	}
	t.Fatal("no offset was committed")
}

// groupOffset is the group's committed offset, -1 for none.
func groupOffset(t *testing.T, b *Broker) int64 {
	t.Helper()
	offsets, err := kadm.NewClient(client(t, b)).FetchOffsets(t.Context(), group)
	if err != nil {
		return -1
	}
	o, ok := offsets.Lookup("events", 0)
	if !ok {
		return -1
	}
	return o.At
}

// TestCommitUnderWay completes a commit from wherever the broker died in it, and
// does so only if it was noted.
func TestCommitUnderWay(t *testing.T) {
	whole := []string{"first-0", "first-1", "first-2"}
	for _, tc := range []struct {
		name    string
		undo    func(t *testing.T, s *scene)
		want    []string
		offset  int64
		markers Repair
	}{
		{"nothing but the note", func(t *testing.T, s *scene) {
			s.unmark(t, 0)
			s.unmark(t, 1)
			s.unmark(t, 2)
			s.uncommitGroup(t)
			s.unend(t)
		}, whole, 41, Repair{Committed: 3, Offsets: 1}},
		{"one marker of three", func(t *testing.T, s *scene) {
			s.unmark(t, 0)
			s.unmark(t, 2)
			s.uncommitGroup(t)
			s.unend(t)
		}, whole, 41, Repair{Committed: 2, Offsets: 1}},
		{"markers and no offsets", func(t *testing.T, s *scene) {
			s.uncommitGroup(t)
			s.unend(t)
		}, whole, 41, Repair{Offsets: 1}},
		{"all but the end", func(t *testing.T, s *scene) { s.unend(t) }, whole, 41, Repair{Offsets: 1}},
		{"all", func(*testing.T, *scene) {}, whole, 41, Repair{}},
		{"not even the note", func(t *testing.T, s *scene) {
			for p := range int32(3) {
				s.unmark(t, p)
			}
			s.uncommitGroup(t)
			s.unend(t)
			require.NoError(t, writeNotes(s.dir, newNotes()))
		}, nil, -1, Repair{Aborted: 3, Fenced: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := midCommit(t)
			tc.undo(t, &s)
			b := startBroker(t, testConfig(s.dir))
			require.ElementsMatch(t, tc.want, committed(t, b, "events"))
			require.Equal(t, tc.offset, groupOffset(t, b))
			got := b.Repaired()
			got.Took, got.Partitions, got.CutBytes = 0, 0, 0
			require.Equal(t, tc.markers, got)

			// A second crash changes nothing, and the transactional id goes on.
			cl := client(t, b, kgo.TransactionalID(s.txid))
			require.NoError(t, cl.BeginTransaction())
			produce(t, cl, "events", 0, "second")
			require.NoError(t, cl.Flush(t.Context()))
			require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
			again := startBroker(t, testConfig(crashCopy(t, s.dir)))
			require.ElementsMatch(t, append([]string{"second"}, tc.want...), committed(t, again, "events"))
		})
	}
}

// TestTornWithoutRepair shows what the repair is for: the broker alone presents
// one partition of three.
func TestTornWithoutRepair(t *testing.T) {
	s := midCommit(t)
	s.unmark(t, 0)
	s.unmark(t, 2)
	cfg := testConfig(s.dir)
	cfg.bare = true
	b := startBroker(t, cfg)
	ends, err := kadm.NewClient(client(t, b)).ListEndOffsets(t.Context(), "events")
	require.NoError(t, err)
	var seen []string
	require.NoError(t, newOracle(b.Addr(), true).read(t.Context(), "events", ends, func(r *kgo.Record) {
		seen = append(seen, string(r.Value))
	}))
	require.Equal(t, []string{"first-1"}, seen)
}

// TestFencesForgottenOffsets: a transaction that has only sent offsets leaves no
// trace in any log. Its commit after the crash must fail, not succeed with the
// offsets forgotten.
func TestFencesForgottenOffsets(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, testConfig(dir))
	createTopic(t, b, "events", 1, nil)
	cl := client(t, b, kgo.TransactionalID("writer"))
	require.NoError(t, cl.BeginTransaction())
	stageOffset(t, cl, 7)
	id, epoch, err := cl.ProducerID(t.Context())
	require.NoError(t, err)

	b = startBroker(t, testConfig(crashCopy(t, dir)))
	require.Equal(t, 1, b.Repaired().Fenced)
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "writer", id, epoch, true
	resp, err := end.RequestWith(t.Context(), client(t, b))
	require.NoError(t, err)
	require.NotZero(t, resp.ErrorCode)
	require.EqualValues(t, -1, groupOffset(t, b))
}

// TestRetriedCommit: the answer to a commit was lost with the process. The
// retry is told of the success.
func TestRetriedCommit(t *testing.T) {
	for _, done := range []bool{true, false} {
		s := midCommit(t)
		if !done {
			s.unmark(t, 1)
			s.unend(t)
		}
		n, err := loadNotes(s.dir)
		require.NoError(t, err)
		b := startBroker(t, testConfig(s.dir))
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = s.txid, n.commit.Producer, n.commit.Epoch, true
		resp, err := end.RequestWith(t.Context(), client(t, b))
		require.NoError(t, err)
		require.Zero(t, resp.ErrorCode, "done=%t", done)
		require.Equal(t, n.commit.Epoch+1, resp.ProducerEpoch, "done=%t", done)
	}
}

// TestRetriedProduce: the answer to a produce was lost with the process. The
// retry is recognised, and what follows is in order.
func TestRetriedProduce(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, testConfig(dir))
	createTopic(t, b, "events", 1, nil)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	send := func(b *Broker, seq int32) kmsg.ProduceResponseTopicPartition {
		rec := kmsg.Record{Value: []byte("v")}
		rec.Length = int32(len(rec.AppendTo(nil)) - 1)
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic = "events"
		id := b.running().TopicInfo("events").TopicID
		topic.TopicID = id
		part := kmsg.NewProduceRequestTopicPartition()
		part.Records = encodeBatch(kmsg.RecordBatch{
			PartitionLeaderEpoch: -1, Magic: 2, ProducerID: 77, ProducerEpoch: 3, FirstSequence: seq,
			NumRecords: 1, Records: rec.AppendTo(nil),
		})
		topic.Partitions = []kmsg.ProduceRequestTopicPartition{part}
		req.Topics = []kmsg.ProduceRequestTopic{topic}
		resp, err := req.RequestWith(t.Context(), client(t, b))
		require.NoError(t, err)
		return resp.Topics[0].Partitions[0]
	}
	for seq := range int32(7) {
		require.Zero(t, send(b, seq).ErrorCode)
	}
	b = startBroker(t, testConfig(crashCopy(t, dir)))
	retried := send(b, 6)
	require.Zero(t, retried.ErrorCode)
	require.EqualValues(t, 6, retried.BaseOffset, "the retry is the record that is there")
	require.EqualValues(t, 7, send(b, 7).BaseOffset)
	require.NotZero(t, send(b, 20).ErrorCode, "a gap in the sequence is refused")
}

// TestBrokenEnds cuts every file as a kill in the middle of a write does; what
// was whole stays.
func TestBrokenEnds(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, testConfig(dir))
	createTopic(t, b, "events", 1, nil)
	cl := client(t, b, kgo.TransactionalID("writer"))
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, "events", 0, "whole")
	require.NoError(t, cl.Flush(t.Context()))
	require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, "events", 0, "open")

	copied := crashCopy(t, dir)
	part := partitionDir(copied, "events", 0)
	// The batch of the open transaction is written, its index entry is not.
	require.NoError(t, os.Truncate(filepath.Join(part, "0.idx"), 2*indexEntrySize))
	for _, f := range []string{filepath.Join(part, "0.dat"), filepath.Join(copied, "pids.log"), filepath.Join(copied, "groups.log"), filepath.Join(copied, notesFile)} {
		appendBytes(t, f, "\x00\x00\x00\x30 cut sh")
	}
	b = startBroker(t, testConfig(copied))
	require.Equal(t, []string{"whole"}, committed(t, b, "events"))
	require.NotZero(t, b.Repaired().CutBytes)

	cl = client(t, b, kgo.TransactionalID("writer"))
	require.NoError(t, cl.BeginTransaction())
	produce(t, cl, "events", 0, "after")
	stageOffset(t, cl, 5)
	require.NoError(t, cl.Flush(t.Context()))
	require.NoError(t, cl.EndTransaction(t.Context(), kgo.TryCommit))
	b = startBroker(t, testConfig(crashCopy(t, copied)))
	require.Equal(t, []string{"whole", "after"}, committed(t, b, "events"))
	require.EqualValues(t, 5, groupOffset(t, b), "nothing is written behind a broken end")
}

func appendBytes(t *testing.T, path, tail string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString(tail)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// TestUnknownFormat is refused, not repaired by guess.
func TestUnknownFormat(t *testing.T) {
	s := midCommit(t)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "meta.json"), []byte(`{"version":2}`), 0o600))
	_, err := Open(testConfig(s.dir))
	require.ErrorContains(t, err, "format 2")
}

// TestDeletedTopicStaysDeleted: the broker died before it removed all files of
// a topic; a new topic of the name starts empty.
func TestDeletedTopicStaysDeleted(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, testConfig(dir))
	createTopic(t, b, "events", 1, nil)
	produce(t, client(t, b), "events", 0, "old")
	copied := crashCopy(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(copied, "topics.json"), []byte(`{"version":1,"topics":[]}`), 0o600))
	b = startBroker(t, testConfig(copied))
	createTopic(t, b, "events", 1, nil)
	produce(t, client(t, b), "events", 0, "new")
	again := startBroker(t, testConfig(crashCopy(t, copied)))
	require.Equal(t, []string{"new"}, committed(t, again, "events"))
}
