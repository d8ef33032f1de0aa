// Package plan holds events against tracking plans: what a source is meant to send, each event with a JSON
// Schema of its properties.
//
// What it promises: an event within its plan passes whatever the mode; a violation names the path, the keyword
// and what was planned, and never a value that the event holds, unless the plan allows samples with values; a
// violation is bounded however much is wrong. A schema that could cost more than its share is refused when it
// is compiled: it refers to nothing outside of itself, not in circles, and not so often that it unfolds to more
// than [MaxUnfolded] parts; patterns are Go's and run in linear time; a number too long for exact arithmetic
// counts as the nearest double.
//
// TestCheck, TestSchemasThatAreRefused, TestViolationsHoldNoValues and FuzzCheck would catch the loss.
package plan
