package graph

import "github.com/sillage-cdp/sillage/services/identity/internal/policy"

// Request says that one event carries all of Identifiers, and asks whose the anchor is.
type Request struct {
	Tenant string
	Anchor policy.Identifier
	// AnchorProfile is the profile under which events of the anchor were emitted; empty if none was.
	AnchorProfile string
	AnchorSinceMs int64
	// Identifiers of the event, the anchor among them.
	Identifiers []policy.Identifier
	// MessageID names the event. The same one again, of the same anchor, is the same question.
	MessageID string
	// AtMs is the time of the event.
	AtMs int64
}

// Assignment tells the resolver of an anchor its profile.
type Assignment struct {
	Anchor    policy.Identifier
	ProfileID string
	// EventProfileID is the profile of the event that asked, if the anchor itself could not be linked with it.
	EventProfileID string
	Linked         []policy.Identifier
	Refused        []policy.Identifier
}

// Merge ends a profile.
type Merge struct {
	From, Into string
	// ID names the merge; a profile ends only once.
	ID string
}

// Action is what an Entry records.
type Action int

// What can happen to an identifier or a profile.
const (
	Linked Action = iota + 1
	Merged
	Refused
)

// Reasons of entries. A refusal's reason is ReasonLimit and the namespace.
const (
	// ReasonEvent: an event carried the identifier together with others of the profile.
	ReasonEvent = "event"
	// ReasonDerived: the identifier began the profile by itself.
	ReasonDerived = "derived"
	// ReasonMerge: the identifier came along when its profile was merged.
	ReasonMerge = "merge"
	// ReasonSharedDevice: the device is in another person's hands.
	ReasonSharedDevice = "shared_device"
	// ReasonLimit begins the reason of a refusal: the namespace that is full follows.
	ReasonLimit = "limit:"
)

// Entry is one line of the identity ledger.
type Entry struct {
	Action     Action
	ProfileID  string
	Identifier policy.Identifier
	// Into is the surviving profile of a merge.
	Into string
	// From is the profile that had the identifier before; empty if none.
	From   string
	Reason string
}

// Decision is what follows from a request. The state has been changed already.
type Decision struct {
	// Merges are in the order in which they are to be announced.
	Merges []Merge
	// Answer goes to the anchor that asked; Notices to all other anchors whose profile changed.
	Answer  Assignment
	Notices []Assignment
	Entries []Entry
}
