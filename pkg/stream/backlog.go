package stream

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// backlog is what had gathered in the inputs of a task before it was put to work, while the task was with
// nobody. What happened in that time must not look as if it had not: a timer that fell due meanwhile waits
// until the record that may cancel it has been read, and the other inputs wait for Topology.First. The end
// of each input is taken once, when the task begins, so that no wait depends on another stage.
type backlog struct {
	ends  map[string]int64 // of the inputs that have not been read up to there
	read  int64            // sum of the positions
	moved time.Time        // when it last changed
}

// backlogPatience is for how long nothing may come of a backlog before it counts as read: records at its
// end may have been removed from the log meanwhile.
const backlogPatience = 5 * time.Second

// inputEnds are the last stable offsets of the inputs of a partition.
func (r *restorer) inputEnds(ctx context.Context, partition int32) (map[string]int64, error) {
	listed, err := kadm.NewClient(r.client).ListCommittedOffsets(ctx, r.top.consumed()...)
	if err != nil {
		return nil, fmt.Errorf("looking up the ends of the inputs: %w", err)
	}
	ends := make(map[string]int64)
	for _, topic := range r.top.consumed() {
		end, ok := listed.Lookup(topic, partition)
		if !ok || end.Err != nil {
			return nil, fmt.Errorf("looking up the end of %s: %w", topic, end.Err)
		}
		ends[topic] = end.Offset
	}
	return ends, nil
}

// update notes how far a task has come and says whether an input has been read to its end by that.
func (b *backlog) update(offsets map[string]kgo.EpochOffset, now time.Time) (changed bool) {
	read := int64(0)
	for topic := range b.ends {
		read += offsets[topic].Offset
	}
	if read != b.read || b.moved.IsZero() {
		b.read, b.moved = read, now
	}
	late := now.Sub(b.moved) > backlogPatience
	for topic, end := range b.ends {
		if late || offsets[topic].Offset >= end {
			delete(b.ends, topic)
			changed = true
		}
	}
	return changed
}

// behind says whether something of the backlog has not been read.
func (b *backlog) behind() bool { return len(b.ends) > 0 }

// holds says whether an input waits for another one.
func (b *backlog) holds(top *Topology, topic string) bool {
	_, first := b.ends[top.First]
	return first && topic != top.First && slices.Contains(top.Inputs, topic)
}

// nextDue is when the next timer of a task is due that may fire: none, as long as there is a backlog.
func (t *ownedTask) nextDue() (due time.Time, found bool) {
	if t.backlog.behind() {
		return time.Time{}, false
	}
	return t.task.nextDue()
}

// readBacklogs lets go what has waited for a backlog that has been read.
func (m *member) readBacklogs() {
	now := time.Now()
	for _, t := range m.tasks {
		if t.active && t.backlog.behind() && t.backlog.update(t.offsets, now) && !t.heldBack {
			m.session.client().ResumeFetchPartitions(m.fetchable(t))
		}
	}
}

// hasBacklog says whether a task at work has not read what it found.
func (m *member) hasBacklog() bool {
	for _, t := range m.tasks {
		if t.active && t.backlog.behind() {
			return true
		}
	}
	return false
}

// fetchable are the partitions of a task that do not wait for another one.
func (m *member) fetchable(t *ownedTask) map[string][]int32 {
	partitions := m.partitionsOf(t)
	for topic := range partitions {
		if t.backlog.holds(m.top, topic) {
			delete(partitions, topic)
		}
	}
	return partitions
}

// inOrder puts what a task has to handle into order, if one input comes first.
func (t *ownedTask) inOrder(top *Topology) {
	if top.First == "" || len(t.input) < 2 {
		return
	}
	slices.SortStableFunc(t.input, func(a, b kgo.FetchTopicPartition) int {
		return rank(top, a.Topic) - rank(top, b.Topic)
	})
}

func rank(top *Topology, topic string) int {
	if topic == top.First {
		return 0
	}
	return 1
}
