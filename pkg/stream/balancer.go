package stream

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// balancerProtocol names the assignment strategy in the group protocol. All members must share it.
const balancerProtocol = "sillage-tasks-v1"

// taskBalancer is the group balancer of the runtime: partition i of every topic that the group reads is
// one task and goes to one member. It is cooperative (a task moves in two rounds: given up first, given
// out next), sticky (a member keeps what it has, up to its fair share), and where a task is free it goes
// to a member that has a store for it. The fair shares differ by one task at most.
//
// It also keeps track of what this member owns; see [ownership].
type taskBalancer struct {
	own *ownership
	// stored lists the partitions that this member has a store for.
	stored func() []int32
}

var _ kgo.GroupBalancer = (*taskBalancer)(nil)

// ProtocolName names the strategy to the coordinator.
func (*taskBalancer) ProtocolName() string { return balancerProtocol }

// IsCooperative is true: members keep working on what they keep during a rebalance.
func (*taskBalancer) IsCooperative() bool { return true }

// JoinGroupMetadata says what this member owns and has stores for.
func (b *taskBalancer) JoinGroupMetadata(topics []string, current map[string][]int32, generation int32) []byte {
	b.own.only(current)
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 3
	meta.Topics = topics
	meta.Generation = generation
	for _, topic := range slices.Sorted(maps.Keys(current)) {
		owned := kmsg.NewConsumerMemberMetadataOwnedPartition()
		owned.Topic, owned.Partitions = topic, current[topic]
		meta.OwnedPartitions = append(meta.OwnedPartitions, owned)
	}
	meta.UserData = encodeStored(b.stored())
	return meta.AppendTo(nil)
}

// ParseSyncAssignment reads what the leader assigned to this member.
func (b *taskBalancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	assigned, err := kgo.ParseConsumerSyncAssignment(assignment)
	if err == nil {
		b.own.only(assigned)
	}
	return assigned, err
}

// MemberBalancer is called on the leader.
func (b *taskBalancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	balancer, err := kgo.NewConsumerBalancer(b, members)
	return balancer, balancer.MemberTopics(), err
}

// Balance makes the plan on the leader.
func (*taskBalancer) Balance(b *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	var members []balanceMember
	b.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		member := balanceMember{id: m.MemberID, topics: meta.Topics, generation: meta.Generation, stored: decodeStored(meta.UserData)}
		for _, owned := range meta.OwnedPartitions {
			member.owned = append(member.owned, owned.Partitions...)
		}
		members = append(members, member)
	})
	var tasks int32
	for _, n := range topics {
		tasks = max(tasks, n)
	}
	plan := b.NewPlan()
	out := plan.AsMemberIDMap()
	for task, i := range balanceTasks(members, tasks) {
		if i < 0 {
			continue // still with its former owner, who gives it up in this round
		}
		for _, topic := range members[i].topics {
			if int32(task) < topics[topic] {
				out[members[i].id][topic] = append(out[members[i].id][topic], int32(task))
			}
		}
	}
	return plan
}

// balanceMember is what the plan needs to know of a member.
type balanceMember struct {
	id         string
	topics     []string
	generation int32
	owned      []int32
	stored     []int32
}

// balanceTasks returns the member (by index) that gets each task; -1 for a task that has to be given up
// by another member first. Members are in a fixed order, so every leader comes to the same plan.
func balanceTasks(members []balanceMember, tasks int32) []int {
	owner := currentOwners(members, tasks)
	plan := make([]int, tasks)
	for i := range plan {
		plan[i] = -1
	}
	if len(members) == 0 {
		return plan
	}
	load := keepShares(members, owner, plan)
	for task := range plan {
		if plan[task] < 0 {
			m := lightest(members, load, int32(task))
			plan[task] = m
			load[m]++
		}
	}
	for task := range plan {
		if owner[task] >= 0 && owner[task] != plan[task] {
			plan[task] = -1
		}
	}
	return plan
}

// currentOwners says who has each task now; the claim of the newest generation counts.
func currentOwners(members []balanceMember, tasks int32) []int {
	owner := make([]int, tasks)
	for i := range owner {
		owner[i] = -1
	}
	for m := range members {
		for _, task := range members[m].owned {
			if task < 0 || task >= tasks {
				continue
			}
			if was := owner[task]; was < 0 || members[m].generation > members[was].generation {
				owner[task] = m
			}
		}
	}
	return owner
}

// keepShares leaves every member what it has, up to its share, and returns how many each keeps. The
// shares with one task more go to the members that have most.
func keepShares(members []balanceMember, owner, plan []int) []int {
	have := make([]int, len(members))
	for _, m := range owner {
		if m >= 0 {
			have[m]++
		}
	}
	byLoad := make([]int, len(members))
	for i := range byLoad {
		byLoad[i] = i
	}
	slices.SortStableFunc(byLoad, func(a, b int) int { return have[b] - have[a] })
	share := make([]int, len(members))
	for rank, m := range byLoad {
		share[m] = len(plan) / len(members)
		if rank < len(plan)%len(members) {
			share[m]++
		}
	}
	load := make([]int, len(members))
	for task, m := range owner {
		if m >= 0 && load[m] < share[m] {
			plan[task] = m
			load[m]++
		}
	}
	return load
}

// lightest is the member with the fewest tasks; among equals one with a store for the task.
func lightest(members []balanceMember, load []int, task int32) int {
	best := 0
	better := func(m int) bool {
		if load[m] != load[best] {
			return load[m] < load[best]
		}
		return slices.Contains(members[m].stored, task) && !slices.Contains(members[best].stored, task)
	}
	for m := range members {
		if better(m) {
			best = m
		}
	}
	return best
}

func encodeStored(partitions []int32) []byte {
	w := writer{}
	w.byte(1)
	slices.Sort(partitions)
	w.uint(uint64(len(partitions)))
	for _, p := range partitions {
		w.uint(uint64(p))
	}
	return w.buf
}

// decodeStored reads what another member sent; what cannot be read is no hint.
func decodeStored(data []byte) []int32 {
	r := reader{buf: data}
	if r.byte() != 1 {
		return nil
	}
	var partitions []int32
	for range r.count() {
		partitions = append(partitions, int32(r.uint()))
	}
	if r.done() != nil {
		return nil
	}
	return partitions
}
