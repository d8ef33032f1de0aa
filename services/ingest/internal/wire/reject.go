package wire

import "fmt"

// Code says in a word why something was refused. Codes stand in answers, in the ledger and in metrics:
// they are part of the interface.
type Code string

// Codes that refuse a whole request.
const (
	// BadJSON: the body is not a JSON object.
	BadJSON Code = "bad_json"
	// NoBatch: a batch call without an array `batch`.
	NoBatch Code = "no_batch"
	// BatchTooLong: more events than can be refused one by one.
	BatchTooLong Code = "batch_too_long"
	// RootTooLarge: the batch's shared context, written out under every event, is too much.
	RootTooLarge Code = "root_too_large"
	// BodyTooLarge: more bytes than the source may send at once.
	BodyTooLarge Code = "body_too_large"
	// BadEncoding: the body is not what Content-Encoding says, or inflates too far.
	BadEncoding Code = "bad_encoding"
)

// Codes that refuse one event.
const (
	// NotAnObject: a batch item that is no JSON object.
	NotAnObject Code = "not_an_object"
	// EventTooLarge: more bytes than the source allows an event.
	EventTooLarge Code = "event_too_large"
	// TooDeep: nested deeper than MaxEventDepth (for a body: than can be read).
	TooDeep Code = "too_deep"
	// TooManyEvents: beyond the number of events a batch may hold.
	TooManyEvents Code = "too_many_events"
	// UnknownType: a batch item whose type is none of the six calls.
	UnknownType Code = "unknown_type"
	// NoIdentifier: neither userId nor anonymousId nor an external identifier.
	NoIdentifier Code = "no_user_anon_id"
	// NoUsableIdentifier: identifiers are there, but all are refused (`null`, `0`, …).
	NoUsableIdentifier Code = "no_usable_identifier"
	// NoEventName: a track call without `event`.
	NoEventName Code = "no_event"
	// NoGroupID: a group call without `groupId`.
	NoGroupID Code = "no_group_id"
	// NoPreviousID: an alias call without `previousId`.
	NoPreviousID Code = "no_previous_id"
	// NoUserID: an alias call without `userId`.
	NoUserID Code = "no_user_id"
	// BadField: a field of the wrong type; Detail names it.
	BadField Code = "bad_field"
	// IdentityTooFast: one identity sends more than its bound.
	IdentityTooFast Code = "identity_too_fast"
	// TooManyNames: a track event of a name not seen before, when the source has as many as it may have.
	TooManyNames Code = "too_many_names"
	// UnplannedEvent: the tracking plan of the source does not list the event.
	UnplannedEvent Code = "unplanned_event"
	// PlanViolation: the event is not as the tracking plan of the source says.
	PlanViolation Code = "plan_violation"
	// Quarantined: the event is not as planned, and was set aside. It is kept.
	Quarantined Code = "quarantined"
	// NoTimestamp: an import item without a readable `timestamp`.
	NoTimestamp Code = "no_timestamp"
)

// Problem is why a request or an event was refused.
type Problem struct {
	// Code is the reason in a word.
	Code Code
	// Detail is the reason in a sentence that says what to do, without personal data.
	Detail string
}

// Error makes a Problem an error.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

func problem(code Code, format string, args ...any) *Problem {
	return &Problem{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Rejection is one event of a request that was refused.
type Rejection struct {
	// Index is the event's place in the batch, 0 for a single call.
	Index int
	// MessageID is the producer's, blank if it gave none.
	MessageID string
	Problem
}
