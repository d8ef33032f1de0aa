package stream

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// overtime bounds slow work in a batch. A transaction takes no more records overtime after its
// CommitInterval is over, and a sweep fires no more timers overtime after it has begun; each finishes what
// it has in hand. So with T active tasks on P processors a transaction holds a partition's records for at
// most
//
//	CommitInterval + ceil(T/P) × (2 × overtime + paceEvery records + 1 timer) + its end,
//
// and in between no more than MaxTimers timers are fired. Records that were polled and not taken come first
// in the next transaction. Work that takes less than microseconds a record never gets there: what was
// polled last is done within milliseconds of CommitInterval.
const overtime = 100 * time.Millisecond

// paceEvery is after how many records the clock is looked at, and so how many a task gets through in any
// case.
const paceEvery = 8

// takeRecords handles what was polled for a task until the batch's time is over. What is left stays in
// t.input.
func (m *member) takeRecords(t *ownedTask) {
	var rec Record
	taken := 0
	for i := range t.input {
		p := &t.input[i]
		done := 0
		for done < len(p.Records) {
			r := p.Records[done]
			if !r.Attrs.IsControl() {
				toRecord(r, &rec)
				t.task.process(&rec)
				taken++
			}
			t.offsets[p.Topic] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
			done++
			if taken%paceEvery == paceEvery-1 && time.Now().After(m.deadline) {
				break
			}
		}
		t.lag = max(0, p.LastStableOffset-t.offsets[p.Topic].Offset)
		m.metrics.lag.stable(p.Topic, p.Partition, p.LastStableOffset)
		m.emit(t)
		if done < len(p.Records) {
			p.Records = p.Records[done:]
			t.keepInput(i)
			return
		}
		if t.task.fault() != nil {
			break
		}
	}
	t.keepInput(len(t.input))
}

// keepInput drops the first n partitions of the input.
func (t *ownedTask) keepInput(n int) {
	kept := copy(t.input, t.input[n:])
	clear(t.input[kept:])
	t.input = t.input[:kept]
}

// sweep fires what is due, within the bounds of a sweep.
func (m *member) sweep(t *ownedTask) {
	if t.backlog.behind() {
		return
	}
	end := time.Now().Add(overtime)
	t.task.late = func() bool { return time.Now().After(end) }
	t.task.fireTimers(m.cfg.MaxTimers)
	m.emit(t)
}

// holdBack fetches nothing for tasks that have not got through what they were given, so that memory stays
// bounded and the others go on.
func (m *member) holdBack() {
	client := m.session.client()
	for _, t := range m.tasks {
		switch behind := len(t.input) > 0; {
		case !t.active || behind == t.heldBack:
			continue
		case behind:
			client.PauseFetchPartitions(m.partitionsOf(t))
		default:
			client.ResumeFetchPartitions(m.fetchable(t))
		}
		t.heldBack = !t.heldBack
	}
}

// behind says whether a task has records left from the transaction before.
func (m *member) behind() bool {
	for _, t := range m.tasks {
		if t.active && len(t.input) > 0 {
			return true
		}
	}
	return false
}
