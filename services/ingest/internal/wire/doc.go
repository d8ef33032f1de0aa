// Package wire turns the bytes of a Segment-compatible call into events: it validates, merges the root of
// a batch under its items, corrects times, promotes identifiers, and extracts what everything downstream
// needs (page, campaign, value, consent). It is pure: bytes, a source and the time of arrival go in, events
// and refusals come out. It knows no HTTP, Kafka or clock.
//
// What it promises: one bad item of a batch costs nothing but itself; a body is never read by recursion
// deeper than it was measured; `properties`, `traits` and `context` of an event are JSON objects in which
// no key stands twice, else as they arrived (plus what a batch's root adds); no text of a producer stands
// in a refusal's detail.
//
// Limits: an event handed out, and everything in it, is valid only until the function that it is handed to
// returns, since it views the body and memory that is used again.
//
// The conformance test (conformance_test.go) reads like the specification; FuzzDecode looks for bodies
// that break the promises; BenchmarkEvent measures against encoding/json.
package wire
