// Package version holds the version of the build.
package version

// Version is set by the linker from the version control system; `unknown` for a plain go build.
var Version = "unknown"
