// Package graph is the pure heart of the identity graph: the single writer of which identifier belongs
// to which profile of one tenant, and of merges.
//
// What it promises:
//   - Every identifier that it has heard of belongs to exactly one living profile.
//   - No profile is brought above a limit of the policy, and no two known persons are brought together
//     whom a limit holds apart (two user ids, by default).
//   - With limits that nothing reaches, the people are the connected components of the links, whatever
//     the order in which they come.
//   - A question that is repeated before the anchor asks another changes nothing, though others have
//     changed the graph meanwhile.
//
// How a request is matched: its identifiers are taken in the order of policy.Compare (known persons
// first, then by priority). Each brings its profile, or itself if it has none, and joins what was
// gathered so far unless that would exceed a limit; then it is demoted, and matching goes on without it.
// The outcome is the first feasible set in the order of priority: what dropping the lowest and trying
// again arrives at, save that it does not drop identifiers that are in nobody's way. A demoted identifier
// that names a device (not known) and was held apart from a known person by another known person changes
// hands instead: it leaves its profile, which keeps its history, and belongs to the new person from then
// on (the shared device).
//
// Anonymous ids get their derived profile from the resolver without asking. So an anonymous id of which
// the graph has not heard may already have events there: unless it is the anchor that asks and says that
// it has none, the graph records the derived profile and merges it like any other.
//
// State, under the tenant's key, each entry small: `i/<namespace:value>` the profile of an identifier and
// the last question that it asked, `p/<profile>` what is counted of a profile or into which it went,
// `m/<profile>/<namespace:value>` one entry for each member. A request reads and writes a few of them; a
// merge as many as the ending profile has members, which the limits bound.
//
// TestPolicyCases, TestPeopleAreComponentsInAnyOrder, TestLimitsHold and TestAskingAgainUndoesNothing
// would catch the loss of a promise.
package graph
