package kafka

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// hookLife is how many requests a hook sees before it is registered anew: the
// broker remembers the last request of every connection for each hook.
const hookLife = 4096

// hooks notes what the broker is about to do, before it does it. The broker
// calls hooks one at a time and handles a request to its end before the next.
type hooks struct {
	dir     string
	cluster *kfake.Cluster
	notes   *noteLog
	now     func() time.Time
	failed  func(error) // told when a note cannot be written
}

// hook looks at a request; a response is the answer, nil lets the broker handle
// the request.
type hook func(kmsg.Request) kmsg.Response

func (h *hooks) register() {
	h.add(kmsg.TxnOffsetCommit, h.stage)
	h.add(kmsg.EndTxn, h.end)
	h.add(kmsg.DeleteRecords, h.deleteRecords)
}

func (h *hooks) add(key kmsg.Key, fn hook) {
	addHook(h.cluster, key, fn)
}

// addHook registers a hook for all requests of a kind.
func addHook(cluster *kfake.Cluster, key kmsg.Key, fn hook) {
	seen := 0
	cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if seen++; seen == hookLife {
			cluster.DropControl()
			addHook(cluster, key, fn)
		} else {
			cluster.KeepControl()
		}
		resp := fn(req)
		return resp, nil, resp != nil
	})
}

// errClosing ends the connection of a client whose request comes too late.
var errClosing = errors.New("the broker is closing")

// refuseAll has the broker handle no request any more: it must come before its
// end. While a hook runs the broker also does what else it is asked to, its end
// included, and would then go on to handle requests whose effects it no longer
// writes down.
func refuseAll(cluster *kfake.Cluster) {
	const all = -1
	cluster.ControlKey(all, func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, errClosing, true
	})
}

// stage notes the offsets of a transaction.
func (h *hooks) stage(req kmsg.Request) kmsg.Response {
	r, ok := req.(*kmsg.TxnOffsetCommitRequest)
	if !ok {
		return nil
	}
	n := note{Kind: noteStage, TxID: r.TransactionalID, Producer: r.ProducerID, Epoch: r.ProducerEpoch}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			n.Offsets = append(n.Offsets, stagedOffset{
				Group: r.Group, TopicID: t.TopicID, Topic: t.Topic, Partition: p.Partition,
				Offset: p.Offset, Epoch: p.LeaderEpoch, Metadata: p.Metadata,
			})
		}
	}
	if err := h.write(n); err != nil {
		return refuseOffsets(r)
	}
	return nil
}

// refuseOffsets answers a request that cannot be noted with an error that
// clients retry.
func refuseOffsets(r *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp := &kmsg.TxnOffsetCommitResponse{Version: r.Version}
	for _, t := range r.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.CoordinatorNotAvailable.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// end notes that a transaction is about to be committed or aborted.
func (h *hooks) end(req kmsg.Request) kmsg.Response {
	r, ok := req.(*kmsg.EndTxnRequest)
	if !ok {
		return nil
	}
	n := note{Kind: noteCommit, TxID: r.TransactionalID, Producer: r.ProducerID, Epoch: r.ProducerEpoch, Bump: r.Version >= 5}
	var err error
	if r.Commit {
		n.PIDs, err = markFile(filepath.Join(h.dir, "pids.log"))
	} else {
		if _, staged := h.notes.live.staged[n.TxID]; !staged {
			return nil
		}
		n.Kind, n.Bump = noteAbort, false
	}
	if err == nil {
		err = h.write(n)
	}
	if err != nil {
		resp := &kmsg.EndTxnResponse{Version: r.Version}
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp
	}
	return nil
}

// deleteRecords notes where partitions will begin: the broker writes that at a
// clean end alone.
func (h *hooks) deleteRecords(req kmsg.Request) kmsg.Response {
	r, ok := req.(*kmsg.DeleteRecordsRequest)
	if !ok {
		return nil
	}
	if err := h.noteFloors(r); err != nil {
		h.failed(err)
		resp := &kmsg.DeleteRecordsResponse{Version: r.Version}
		for _, t := range r.Topics {
			rt := kmsg.NewDeleteRecordsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDeleteRecordsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.KafkaStorageError.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	}
	return nil
}

func (h *hooks) noteFloors(r *kmsg.DeleteRecordsRequest) error {
	topics, err := readTopics(h.dir)
	if err != nil {
		return err
	}
	for _, rt := range r.Topics {
		t := topics.byName[rt.Topic]
		if t == nil {
			continue
		}
		for _, rp := range rt.Partitions {
			end, err := partitionEnd(partitionDir(h.dir, t.Name, rp.Partition))
			if err != nil {
				return err
			}
			floor := rp.Offset
			if floor == -1 {
				floor = end
			}
			if floor <= 0 || floor > end {
				continue // the broker refuses it
			}
			if err := h.write(note{Kind: noteFloor, TopicID: t.id(), Topic: t.Name, Partition: rp.Partition, Offset: floor}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *hooks) write(n note) error {
	n.At = h.now().UnixMilli()
	if err := h.notes.append(n); err != nil {
		h.failed(fmt.Errorf("noting a transaction: %w", err))
		return err
	}
	return nil
}
