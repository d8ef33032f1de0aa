// Package resolve is the pure heart of the resolver: it takes the events of one anchor (the identifier
// that keys them) in order, drops duplicates, and says to which profile each belongs.
//
// What it promises, for one anchor:
//   - Every event that is not a duplicate and not refused is emitted exactly once, in the order of arrival.
//   - A message id that came within the window before is a duplicate, whatever the event's own time and
//     whether the first one was emitted or still waits; the window is exact, measured by the arrival.
//   - An event is emitted without asking only if nothing that it carries could change who it is: its
//     anchor has a profile and all its other identifiers belong to that profile, or this very set of
//     identifiers has been decided before under the present profile and policy.
//   - While a question is open all later events wait. The question is repeated with growing pauses until
//     it is answered, so that an answer lost to a dead letter delays an anchor and never silences it.
//
// Who must ask: an anonymous id that comes alone gets its derived profile at once, for nobody else can
// have given it one without the graph remembering that (see graph). Every other anchor asks when it is
// first seen, since another anchor's event may have linked it already.
//
// Limits: the same message id under two anchors is not seen here (state is by anchor); at most
// Config.MaxHeld events wait for an anchor, further ones are an error. The state of an anchor is a small
// record that stays, and one entry for each message id of the window.
//
// TestEvents, TestHolding, TestDuplicates and, with the graph, the property tests of package topology
// would catch the loss of a promise.
package resolve
