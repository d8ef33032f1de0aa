package stream

import (
	"errors"
	"fmt"
	"slices"
)

// maxRecordBytes bounds key and value of what a processor emits or keeps under one name: under Kafka's
// default limit of 1 MiB for a batch, with room for headers.
const maxRecordBytes = 900 << 10

// internalRecordBytes bounds the records of the runtime's own topics, which wrap other records.
const internalRecordBytes = 2 << 20

// Group is the consumer group of the stage.
func (t Topology) Group() string { return "sillage." + t.Name }

// ChangelogTopic holds the last value of every entry of state, compacted.
func (t Topology) ChangelogTopic() string { return t.Name + ".changelog" }

// HandoverTopic carries the state of keys that ended, and the late records of such keys, to the keys
// that go on. It exists only for topologies with Merges.
func (t Topology) HandoverTopic() string { return t.Name + ".handover" }

// DeadLetterTopic holds the records and timers that could not be handled, see [DeadLetter].
func (t Topology) DeadLetterTopic() string { return t.Name + ".dlq" }

// ReplayTopic is where dead letters are put back for this stage alone, see [DeadLetter.Replay]: other
// readers of the topic that they came from have handled them.
func (t Topology) ReplayTopic() string { return t.Name + ".replay" }

// Validate says everything that is wrong with t.
func (t Topology) Validate() error {
	var errs []error
	if !validName(t.Name) {
		errs = append(errs, fmt.Errorf("name: %q is not made of lower-case letters, digits and '-'", t.Name))
	}
	errs = append(errs, t.validateTopics()...)
	if t.New == nil {
		errs = append(errs, errors.New("new: a function that makes the processor is needed"))
	}
	if t.StateVersion < 0 {
		errs = append(errs, errors.New("state_version: must not be negative"))
	}
	if t.StateVersion > 0 && t.Upgrade == nil {
		errs = append(errs, fmt.Errorf("upgrade: a function is needed that upgrades state to version %d", t.StateVersion))
	}
	if t.MergeWait < 0 {
		errs = append(errs, errors.New("merge_wait: must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("topology %q: %w", t.Name, err)
	}
	return nil
}

func (t Topology) validateTopics() (errs []error) {
	if len(t.Inputs) == 0 {
		errs = append(errs, errors.New("inputs: at least one topic is needed"))
	}
	own := []string{t.ChangelogTopic(), t.HandoverTopic(), t.DeadLetterTopic(), t.ReplayTopic()}
	for i, topic := range t.Inputs {
		if slices.Contains(t.Inputs[:i], topic) {
			errs = append(errs, fmt.Errorf("inputs[%d]: %s is there twice", i, topic))
		}
		if slices.Contains(own, topic) {
			errs = append(errs, fmt.Errorf("inputs[%d]: %s belongs to the runtime", i, topic))
		}
	}
	if t.First != "" && !slices.Contains(t.Inputs, t.First) {
		errs = append(errs, fmt.Errorf("first: %s is none of the inputs", t.First))
	}
	for i, topic := range t.Outputs {
		if slices.Contains(own, topic) {
			errs = append(errs, fmt.Errorf("outputs[%d]: %s belongs to the runtime", i, topic))
		}
	}
	return errs
}

func validName(name string) bool {
	for _, r := range name {
		if r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return false
		}
	}
	return name != "" && len(name) <= 100
}

// consumed are the topics that a member of the group reads: the inputs, what is put back, and, if keys
// merge, the hand-over.
func (t Topology) consumed() []string {
	topics := append(slices.Clone(t.Inputs), t.ReplayTopic())
	if t.Merges != nil {
		topics = append(topics, t.HandoverTopic())
	}
	return topics
}
