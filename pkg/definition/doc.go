// Package definition is the language in which marketers say what they want: tenants, sources, segments,
// scores, journeys, channels and templates, as YAML or as protobuf.
//
// It parses YAML strictly ([ParseYAML]: an unknown field is an error with its file, document, line and
// path), writes it back ([FormatYAML]), checks a definition on its own and against everything that it
// refers to ([Validate], [ValidateAll]), and indexes a set of definitions once into an immutable
// [Snapshot] that services read without locks. Nothing here reads a clock, a file or a network.
//
// What it promises: a definition that passes Validate compiles (its CEL, its Liquid), refers only to
// what exists, has no cycle of segments, no journey that goes round without waiting, and stays within
// the caps of limits.go, so that no service needs to check again. The tests of validate_test.go hold one
// broken definition for each rule; roundtrip_test.go fails if FormatYAML loses anything.
package definition
