// Package rig is what fault scenarios stand on: brokers, topics of a run's own, a read-committed reader that
// feeds the judge, stages as real processes, and the row of the report.
//
// [Main] builds the stage once for a test binary. [Each] runs a scenario on every broker asked for and, at
// full length, with several seeds. [New] prepares a run; [Run.Settle] waits until everything that must
// come has come; [Run.Check] holds it against the oracle; the row is written when the test ends.
package rig

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
)

// built is the stage under test; written by Main before any test runs.
var built process.Built

// Main builds the stage, runs the tests and checks that they left no goroutine behind. A test package that
// uses this one calls it from TestMain and exits with its code.
func Main(m *testing.M) int {
	// The shared Apache Kafka lives as long as the process, and Pebble leaves a ticker behind for each store
	// that could not be opened.
	return process.Main(m, &built, "./tests/e2e/cmd/stage",
		goleak.IgnoreAnyFunction("github.com/sillage-cdp/sillage/pkg/kafkatest.(*Apache).reap"),
		goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
}
