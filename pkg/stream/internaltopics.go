package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ensureInternalTopics checks the topics of a topology and makes those that belong to the runtime.
func ensureInternalTopics(ctx context.Context, client *kgo.Client, top *Topology, replication int16) error {
	admin := kadm.NewClient(client)
	partitions, err := waitPartitions(ctx, admin, top)
	if err != nil {
		return err
	}
	var topics []string
	for topic, configs := range internalTopics(top) {
		topics = append(topics, topic)
		_, err := admin.CreateTopic(ctx, partitions, replication, configs, topic)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("creating topic %s: %w", topic, err)
		}
	}
	slices.Sort(topics)
	details, err := admin.ListTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("listing topics: %w", err)
	}
	for _, topic := range topics {
		// A topic that was made just now may not be known everywhere yet; its count is what was asked for.
		if have := int32(len(details[topic].Partitions)); details[topic].Err == nil && have != 0 && have != partitions {
			return fmt.Errorf("topic %s has %d partitions and the inputs have %d: keys would not meet their state", topic, have, partitions)
		}
	}
	return nil
}

// internalTopics are the runtime's own topics with their settings.
func internalTopics(top *Topology) map[string]map[string]*string {
	str := kadm.StringPtr
	size := str(strconv.Itoa(2 * internalRecordBytes))
	topics := map[string]map[string]*string{
		top.ChangelogTopic(): {
			"cleanup.policy": str("compact"), "max.message.bytes": size,
			// Tombstones stay a day: a store that is at most half as old has met them all (maxStoreAge).
			"delete.retention.ms": str("86400000"),
		},
		top.DeadLetterTopic(): {"cleanup.policy": str("delete"), "max.message.bytes": size, "retention.ms": str("1209600000")},
	}
	topics[top.ReplayTopic()] = map[string]*string{"cleanup.policy": str("delete"), "max.message.bytes": size, "retention.ms": str("604800000")}
	if top.Merges != nil {
		topics[top.HandoverTopic()] = map[string]*string{"cleanup.policy": str("delete"), "max.message.bytes": size, "retention.ms": str("604800000")}
	}
	return topics
}

// waitPartitions gives topics that were made a moment ago time to become known to the brokers.
func waitPartitions(ctx context.Context, admin *kadm.Client, top *Topology) (int32, error) {
	for attempt := 0; ; attempt++ {
		partitions, err := inputPartitions(ctx, admin, top)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || attempt == 15 {
			return partitions, err
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(err, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// inputPartitions is the partition count of the inputs, once all inputs and outputs are there.
func inputPartitions(ctx context.Context, admin *kadm.Client, top *Topology) (int32, error) {
	details, err := admin.ListTopics(ctx, append(slices.Clone(top.Inputs), top.Outputs...)...)
	if err != nil {
		return 0, fmt.Errorf("listing topics: %w", err)
	}
	var partitions int32
	for i, topic := range top.Inputs {
		d := details[topic]
		if d.Err != nil || len(d.Partitions) == 0 {
			return 0, fmt.Errorf("input topic %s: %w (it must be made before)", topic, errors.Join(d.Err, kerr.UnknownTopicOrPartition))
		}
		have := int32(len(d.Partitions))
		if i > 0 && have != partitions {
			return 0, fmt.Errorf("input topic %s has %d partitions and %s has %d: they must have the same", topic, have, top.Inputs[0], partitions)
		}
		partitions = have
	}
	for _, topic := range top.Outputs {
		if d := details[topic]; d.Err != nil || len(d.Partitions) == 0 {
			return 0, fmt.Errorf("output topic %s: %w (it must be made before)", topic, errors.Join(d.Err, kerr.UnknownTopicOrPartition))
		}
	}
	return partitions, nil
}

// leave takes this static member out of the group, so that its partitions move on without a time-out.
func (r *Runner) leave(ctx context.Context) error {
	group := kadm.LeaveGroup(r.top.Group()).InstanceIDs(r.cfg.InstanceID).Reason("stopping")
	responses, err := kadm.NewClient(r.admin).LeaveGroup(ctx, group)
	if err == nil {
		err = responses.Error()
	}
	if err != nil && !errors.Is(err, kerr.UnknownMemberID) && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("leaving the consumer group: %w", err)
	}
	return nil
}
