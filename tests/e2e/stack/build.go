package stack

import (
	"os"
	"testing"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
)

// EnvBinary is the variable that names a built sillage to test instead of one built from the tree.
const EnvBinary = "SILLAGE_TEST_BINARY"

// built is the binary under test and the root of the tree; written by Main before any test runs.
var built process.Built

// Main builds the binary, runs the tests and checks that they left no goroutine behind. A test package
// that uses this one calls it from TestMain and exits with its code.
func Main(m *testing.M) int {
	built.Binary = os.Getenv(EnvBinary)
	return process.Main(m, &built, "./services/sillage/cmd/sillage")
}

// Root is the root of the tree that is tested.
func Root() string { return built.Root }
