// Package evaluate keeps the segment memberships of one profile current.
//
// It promises that membership at time T is a pure function of the profile's events with a timestamp of at
// most T, and of the segments: whatever the order in which events come, however late, however long they
// waited, before or after a merge of profiles. A Person is evaluated as of a time that never goes back.
// An event with a later timestamp is put down as one to come; advancing walks through every instant at
// which an answer may change (the timestamp of an event to come, the expiry of a window, the end of a
// wait) and notes a flip at exactly that instant. So flips of events that come in order have exact times
// even if they are handled late. An event from before that time is late: it changes the answers as of
// now, and a flip bears the instant since which the answer is so, as far as the remembered instants tell,
// never before the last flip of the same segment.
//
// The state is bounded by the definitions alone (see package window) and read and written through Store:
// one entry for the windows and answers, one for the profile's traits and consents if an expression needs
// them, one for what was told about memberships, which is touched by flips only.
//
// TestEqualsOracle would catch a break of the promise, FuzzDecode a state that cannot be trusted.
package evaluate
