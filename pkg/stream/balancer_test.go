package stream

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// settle applies rounds of balancing, as cooperative members do, until nothing moves.
func settle(t require.TestingT, members []balanceMember, tasks int32) []int {
	for range 4 {
		plan := planTasks(members, tasks).owner
		owned := make([][]int32, len(members))
		moved := false
		for task, m := range plan {
			if m < 0 {
				moved = true
				continue
			}
			owned[m] = append(owned[m], int32(task))
		}
		for i := range members {
			members[i].owned = owned[i]
			members[i].generation++
		}
		if !moved {
			return plan
		}
	}
	require.FailNow(t, "the group does not come to rest")
	return nil
}

func TestBalanceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := int32(rapid.IntRange(1, 40).Draw(t, "tasks"))
		members := make([]balanceMember, rapid.IntRange(1, 8).Draw(t, "members"))
		for i := range members {
			members[i] = balanceMember{
				id: fmt.Sprint("m", i), generation: int32(rapid.IntRange(0, 3).Draw(t, "generation")),
				owned: rapid.SliceOfDistinct(rapid.Int32Range(0, tasks-1), rapid.ID).Draw(t, "owned"),
				memberData: memberData{
					standbys: rapid.IntRange(0, 2).Draw(t, "standbys"),
					stored:   rapid.MapOf(rapid.Int32Range(0, tasks-1), rapid.Int64Range(0, 5)).Draw(t, "stored"),
				},
			}
		}
		before := currentOwners(members, tasks)
		first := planTasks(members, tasks).owner
		for task, m := range first {
			require.True(t, m < 0 || before[task] < 0 || before[task] == m, "a task is never given away before its owner gave it up")
		}
		kept := 0
		for task, m := range first {
			if before[task] >= 0 && before[task] == m {
				kept++
			}
		}
		share := (int(tasks) + len(members) - 1) / len(members)
		have := make(map[int]int)
		mustKeep := 0
		for _, m := range before {
			if m >= 0 {
				have[m]++
			}
		}
		for _, n := range have {
			mustKeep += min(n, int(tasks)/len(members))
		}
		require.GreaterOrEqual(t, kept, mustKeep, "members keep what they have, up to their share")

		plan := settle(t, members, tasks)
		load := make([]int, len(members))
		for _, m := range plan {
			require.GreaterOrEqual(t, m, 0, "every task has an owner in the end")
			load[m]++
		}
		require.LessOrEqual(t, slices.Max(load), share)
		require.LessOrEqual(t, slices.Max(load)-slices.Min(load), 1)
		again := planTasks(members, tasks).owner
		require.Equal(t, plan, again, "at rest nothing moves")
	})
}

func TestBalanceGivesFreeTasksToWhoHasTheStore(t *testing.T) {
	stored := func(at map[int32]int64) memberData { return memberData{stored: at} }
	members := []balanceMember{{id: "a"}, {id: "b", memberData: stored(map[int32]int64{0: 0, 2: 0})}}
	require.Equal(t, []int{1, 0, 1, 0}, planTasks(members, 4).owner)
	members = []balanceMember{{id: "a", memberData: stored(map[int32]int64{0: 7})}, {id: "b", memberData: stored(map[int32]int64{0: 9})}}
	require.Equal(t, []int{1}, planTasks(members, 1).owner, "the most recent copy")
	// b has the only copies of 0 and 1 and the better one of 2; 2 goes to a so that nothing is read anew.
	members = []balanceMember{
		{id: "a", memberData: stored(map[int32]int64{2: 5})},
		{id: "b", memberData: stored(map[int32]int64{0: 5, 1: 5, 2: 9})},
		{id: "c"},
	}
	require.Equal(t, []int{1, 1, 0, 2}, planTasks(members, 4).owner)
}

func TestBalanceIsTaskByTask(t *testing.T) {
	b := &taskBalancer{own: newOwnership(func() {}), data: func() memberData { return memberData{} }, standbys: func([]int32) {}}
	topics := map[string]int32{"x": 5, "y": 5, "z": 5}
	var members []kmsg.JoinGroupResponseMember
	for _, id := range []string{"a", "b"} {
		member := kmsg.NewJoinGroupResponseMember()
		member.MemberID = id
		member.ProtocolMetadata = b.JoinGroupMetadata([]string{"x", "y", "z"}, nil, -1)
		members = append(members, member)
	}
	balancer, interests, err := b.MemberBalancer(members)
	require.NoError(t, err)
	require.Len(t, interests, 3)
	orError, ok := balancer.(kgo.GroupMemberBalancerOrError)
	require.True(t, ok)
	into, err := orError.BalanceOrError(topics)
	require.NoError(t, err)
	owners := make(map[string]map[string]bool)
	for _, a := range into.IntoSyncAssignment() {
		assigned, err := b.ParseSyncAssignment(a.MemberAssignment)
		require.NoError(t, err)
		for _, topic := range []string{"x", "y", "z"} {
			for _, p := range assigned[topic] {
				task := fmt.Sprint(p)
				if owners[task] == nil {
					owners[task] = make(map[string]bool)
				}
				owners[task][a.MemberID] = true
			}
		}
		require.Equal(t, assigned["x"], assigned["y"])
		require.Equal(t, assigned["x"], assigned["z"])
	}
	require.Len(t, owners, 5)
	for task, who := range owners {
		require.Len(t, who, 1, "task %s", task)
	}
}

func TestOwnershipNoticesATaskThatWentAndCame(t *testing.T) {
	changes := 0
	o := newOwnership(func() { changes++ })
	assign := func(all, come map[string][]int32) {
		o.only(all)
		_, synced := o.owned()
		require.Equal(t, changes > 1, synced, "the callback comes after the sync")
		o.added(come)
	}
	assign(map[string][]int32{"x": {0, 1}}, map[string][]int32{"x": {0, 1}})
	first, synced := o.owned()
	require.True(t, synced)
	require.Len(t, first, 2)
	o.only(map[string][]int32{"x": {1}})
	assign(map[string][]int32{"x": {0, 1}}, map[string][]int32{"x": {0}})
	second, _ := o.owned()
	require.NotEqual(t, first[0], second[0])
	require.Equal(t, first[1], second[1])
	o.lost(map[string][]int32{"x": {1}})
	third, _ := o.owned()
	require.Len(t, third, 1)
	require.Equal(t, 6, changes)
}

func TestOwnershipNoticesAnotherTopicOfATask(t *testing.T) {
	o := newOwnership(func() {})
	o.added(map[string][]int32{"x": {0}})
	first, _ := o.owned()
	o.only(map[string][]int32{"x": {0}, "y": {0}})
	o.added(map[string][]int32{"y": {0}})
	second, _ := o.owned()
	require.NotEqual(t, first[0], second[0], "the callback has paused y: the task has to be resumed")
}
