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
// to the member whose copy of its state is the most recent; see [planTasks]. It also says who keeps copies
// of what; see [Config].Standbys.
//
// It also keeps track of what this member owns; see [ownership].
type taskBalancer struct {
	own *ownership
	// data is what this member tells the leader.
	data func() memberData
	// standbys is told which partitions this member is to keep a copy of.
	standbys func([]int32)
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
	meta.UserData = b.data().encode()
	return meta.AppendTo(nil)
}

// ParseSyncAssignment reads what the leader assigned to this member.
func (b *taskBalancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	assigned, err := kgo.ParseConsumerSyncAssignment(assignment)
	if err == nil {
		var all kmsg.ConsumerMemberAssignment
		if all.ReadFrom(assignment) == nil {
			b.standbys(decodeStandbys(all.UserData))
		}
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
		member := balanceMember{id: m.MemberID, topics: meta.Topics, generation: meta.Generation, memberData: decodeMemberData(meta.UserData)}
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
	tasksOf := planTasks(members, tasks)
	standbys := make(map[string][]int32)
	for i, partitions := range tasksOf.standbys {
		standbys[members[i].id] = partitions
	}
	for task, i := range tasksOf.owner {
		if i < 0 {
			continue // still with its former owner, who gives it up in this round
		}
		for _, topic := range members[i].topics {
			if int32(task) < topics[topic] {
				out[members[i].id][topic] = append(out[members[i].id][topic], int32(task))
			}
		}
	}
	return planWithStandbys{plan: plan, standbys: standbys}
}

// planWithStandbys is a plan with what each member is to keep a copy of in its user data.
type planWithStandbys struct {
	plan     *kgo.BalancePlan
	standbys map[string][]int32
}

// IntoSyncAssignment is what goes to the coordinator.
func (p planWithStandbys) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	all := p.plan.IntoSyncAssignment()
	for i := range all {
		var a kmsg.ConsumerMemberAssignment
		if partitions := p.standbys[all[i].MemberID]; len(partitions) > 0 && a.ReadFrom(all[i].MemberAssignment) == nil {
			a.UserData = encodeStandbys(partitions)
			all[i].MemberAssignment = a.AppendTo(nil)
		}
	}
	return all
}
