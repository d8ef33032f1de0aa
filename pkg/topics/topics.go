// Package topics is the catalogue of every Kafka topic: name, key, message, partitions, cleanup, owner.
// A topic that is not in it does not exist; `sillage up` and every service create what is missing from it.
//
// Keys begin with `tenant/`. All topics of class Profile have the same number of partitions and the
// default partitioner, so that partition i of each holds the same profiles.
package topics

import (
	"strings"
	"time"
)

// Names of the topics.
const (
	Events      = "events.v1"
	Requests    = "identity.requests.v1"
	Assignments = "identity.assignments.v1"
	Links       = "identity.links.v1"
	ProfileLog  = "profile.log.v1"
	Segments    = "segments.v1"
	Scores      = "scores.v1"
	Steps       = "journey.steps.v1"
	Sends       = "sends.v1"
	Reports     = "delivery.reports.v1"
	Outcomes    = "outcomes.v1"
	Ledger      = "ledger.v1"
	Violations  = "plan.violations.v1"
	Quarantine  = "quarantine.v1"
	Definitions = "definitions.v1"
)

// Cleanup is how a topic is kept bounded.
type Cleanup string

const (
	// Delete drops records older than the retention.
	Delete Cleanup = "delete"
	// Compact keeps the last record of each key; a tombstone erases.
	Compact Cleanup = "compact"
)

// Topic is one entry of the catalogue.
type Topic struct {
	Name string
	// Key is the form of the record key.
	Key string
	// Message is the full name of the protobuf message of the value.
	Message string
	// Owner is the service that writes it.
	Owner   string
	Cleanup Cleanup
	// Retention bounds topics with Cleanup Delete.
	Retention time.Duration
	// SinglePartition is set for topics that are read whole by everyone.
	SinglePartition bool
}

const (
	week = 7 * 24 * time.Hour
	// quarantined is how long people have to mend a plan or a producer.
	quarantined = 30 * 24 * time.Hour
)

// All lists the catalogue. Internal topics of stages (changelogs, hand-overs, dead letters) are made by
// the stream runtime with the same partition count.
func All() []Topic {
	return []Topic{
		{Name: Events, Key: "tenant/namespace:value", Message: "sillage.event.v1.Event", Owner: "ingest, channel-connector", Cleanup: Delete, Retention: week},
		{Name: Requests, Key: "tenant", Message: "sillage.identity.v1.LinkRequest", Owner: "identity", Cleanup: Delete, Retention: week},
		{Name: Assignments, Key: "tenant/namespace:value", Message: "sillage.identity.v1.Assignment", Owner: "identity", Cleanup: Delete, Retention: week},
		{Name: Links, Key: "tenant/profile_id", Message: "sillage.identity.v1.IdentityLink", Owner: "identity", Cleanup: Delete, Retention: week},
		{Name: ProfileLog, Key: "tenant/profile_id", Message: "sillage.profile.v1.ProfileRecord", Owner: "identity", Cleanup: Delete, Retention: week},
		{Name: Segments, Key: "tenant/profile_id", Message: "sillage.segment.v1.MembershipChanged", Owner: "segmentation", Cleanup: Delete, Retention: week},
		{Name: Scores, Key: "tenant/profile_id", Message: "sillage.score.v1.ScoreChanged", Owner: "scoring", Cleanup: Delete, Retention: week},
		{Name: Steps, Key: "tenant/profile_id", Message: "sillage.journey.v1.JourneyStep", Owner: "journey-orchestrator", Cleanup: Delete, Retention: week},
		{Name: Sends, Key: "tenant/profile_id", Message: "sillage.delivery.v1.Send", Owner: "journey-orchestrator", Cleanup: Delete, Retention: week},
		{Name: Reports, Key: "tenant/profile_id", Message: "sillage.delivery.v1.Outcome", Owner: "channel-connector", Cleanup: Delete, Retention: week},
		{Name: Outcomes, Key: "tenant/profile_id", Message: "sillage.delivery.v1.Outcome", Owner: "channel-connector", Cleanup: Delete, Retention: week},
		{Name: Ledger, Key: "tenant/source", Message: "sillage.ledger.v1.LedgerEntry", Owner: "ingest, identity", Cleanup: Delete, Retention: week},
		{Name: Violations, Key: "tenant/source", Message: "sillage.plan.v1.PlanViolation", Owner: "ingest", Cleanup: Delete, Retention: week},
		{Name: Quarantine, Key: "tenant/source", Message: "sillage.plan.v1.QuarantinedEvent", Owner: "ingest", Cleanup: Delete, Retention: quarantined},
		{Name: Definitions, Key: "tenant/kind/name", Message: "sillage.definition.v1.Definition", Owner: "control", Cleanup: Compact, SinglePartition: true},
	}
}

// Key builds a record key: the tenant and what names the record within it. The tenant cannot hold a
// slash (definitions refuse it), so keys of two tenants never meet.
func Key(tenant, rest string) []byte {
	key := make([]byte, 0, len(tenant)+1+len(rest))
	key = append(key, tenant...)
	key = append(key, '/')
	return append(key, rest...)
}

// SplitKey takes a record key apart; ok is false if it has no slash.
func SplitKey(key []byte) (tenant, rest string, ok bool) {
	return strings.Cut(string(key), "/")
}
