package stream

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// cause is why a transaction did not commit or a session was given up: one of a small fixed set, for the
// metrics, and the key to what an operator can do about it.
type cause string

const (
	causeRebalance  cause = "rebalance"      // the group moved partitions; part of normal life
	causeTooLarge   cause = "too_large"      // a topic takes less than what was to be written
	causeTopicGone  cause = "topic_missing"  // a topic is not there
	causeDenied     cause = "not_authorized" // a right is missing
	causeState      cause = "state"          // local state could not be read or written
	causeFenced     cause = "fenced"         // another instance has this one's id
	causeOutcome    cause = "outcome_lost"   // how the transaction ended is not known
	causeUnanswered cause = "unreachable"    // Kafka did not answer in time
	causeOther      cause = "other"
)

// Marks for causeOf of what has no error of Kafka's in it.
var (
	errRebalanced  = errors.New("the group is rebalancing or the transaction could not commit")
	errStateFault  = errors.New("local state")
	errOutcomeLost = errors.New("how the transaction ended is not known")
)

func causeOf(err error) cause {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case denied(err):
		return causeDenied
	case is(kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return causeTooLarge
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return causeTopicGone
	case is(kerr.FencedInstanceID, kerr.ProducerFenced, kerr.InvalidProducerEpoch):
		return causeFenced
	case is(errRebalanced):
		return causeRebalance
	case is(errCorrupt, errBehind, errStateFault):
		return causeState
	case is(errOutcomeLost):
		return causeOutcome
	case is(context.DeadlineExceeded):
		return causeUnanswered
	default:
		return causeOther
	}
}

// remedy is what an operator can do, for the log.
func (c cause) remedy() string {
	switch c {
	case causeTooLarge:
		return "nothing: what is over the limit of its topic goes to the dead letters; raise max.message.bytes of the topic and replay them"
	case causeTopicGone:
		return "create the topic again with the partition count of the others; the stage goes on by itself"
	case causeDenied:
		return "give the rights back and restart the instance"
	case causeState:
		return "look at the disk: space, rights and health of the data directory; the partition is restored from its changelog meanwhile"
	case causeFenced:
		return "make sure that no two live instances share an instance_id or a copied data directory"
	case causeUnanswered, causeOutcome:
		return "look at the brokers and the network; the stage goes on by itself"
	case causeRebalance, causeOther:
	}
	return "see the error; the stage keeps trying"
}

// denied says whether a right is missing.
func denied(err error) bool {
	for _, e := range []error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
		kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// permanent errors are those that only an operator can mend.
func permanent(err error) bool {
	return denied(err) || errors.Is(err, kerr.UnsupportedVersion) ||
		errors.Is(err, kerr.InvalidTransactionTimeout) || errors.Is(err, kerr.InvalidSessionTimeout)
}
