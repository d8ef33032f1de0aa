// Package evaluate keeps the scores of one profile current.
//
// It promises that a score at time T depends on the profile's events with a timestamp of at most T and on
// its definition, not on the order in which they came (heat: up to the rounding of doubles; rfm: exactly).
// A Person is evaluated as of a time that never goes back. An event changes a score as of now and is told
// of at most once for each score; time is told of when it changes a label, or what an rfm is made of, at
// exactly that instant.
//
// The state is one entry, read once and written once a record, and one timer. TestEqualsOracle would
// catch a break of the promise, FuzzDecode a state that cannot be trusted.
package evaluate
