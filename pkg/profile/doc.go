// Package profile folds the profile log into what is known of a profile, with the same pure functions in
// every service.
//
// [Fold] takes in one event, [Merge] one other profile. Both are joins: of two values of a trait or
// consent the one with the later timestamp stays, whatever the order in which they come, so that a
// redelivered or late event does no harm. At the same millisecond a trait takes the value whose JSON
// sorts last (a deletion loses) and a consent is refused. Only the number of events is a count: it is
// exact where each event is folded once, which the resolver's deduplication sees to.
//
// A profile is bounded by the Max constants: beyond them the traits set longest ago go, and a single
// trait that is too large is not taken in.
//
// Nothing here reads a clock. The property tests of merge_test.go check commutativity, associativity and
// idempotence against random histories.
package profile
