// Package rule compiles the CEL expressions of definitions and evaluates them over events and profiles.
//
// A [Filter] says which events count: type, name and an expression on `properties`, `context`, `name`,
// `value` and `timestamp`. A [Profile] is an expression on `traits`, `consents`, `scores` and `trigger`.
// An expression answers true or false and nothing else: a missing key, a value of the wrong type, a
// division by zero or an expression over its cost limit is false, never an error at run time.
//
// JSON is read lazily: only when an expression asks for it, and an object's fields only once for an
// [Event] however many filters look at it. An event of another name or type is refused without an
// allocation. Numbers of JSON are doubles (whole numbers beyond 2^53 are ints) and compare and
// calculate with literals of either kind: `properties.quantity * 2 > 5.5` holds for 3.
//
// Cost is bounded twice: an expression whose estimate over the largest admissible event is above
// [MaxCost] is refused when it is compiled, and one with a loop or a pattern is stopped at MaxCost when
// it runs. Evaluation is safe for concurrent use; an Event is not.
package rule
