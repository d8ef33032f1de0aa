// Package rig is what fault scenarios stand on: brokers, topics of a run's own, a read-committed reader that
// feeds the judge, stages as real processes, and the row of the report.
//
// [Main] builds the stage once for a test binary. [Each] runs a scenario on every broker asked for and, at
// full length, with several seeds. [New] prepares a run; [Run.Settle] waits until everything that must
// come has come; [Run.Check] holds it against the oracle; the row is written when the test ends.
package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// built is the stage under test; written by Main before any test runs.
var built string

// Main builds the stage, runs the tests and checks that they left no goroutine behind. A test package that
// uses this one calls it from TestMain and exits with its code.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sillage-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for the stage:", err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if built, err = build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	// The shared Apache Kafka lives as long as the process, and Pebble leaves a ticker behind for each store
	// that could not be opened.
	err = goleak.Find(goleak.IgnoreAnyFunction("github.com/sillage-cdp/sillage/pkg/kafkatest.(*Apache).reap"),
		goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "tests left goroutines behind:", err)
		return 1
	}
	return code
}

func build(dir string) (string, error) {
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "stage")
	cmd := exec.Command("go", "build", "-o", binary, "./tests/e2e/cmd/stage")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the stage: %w\n%s", err, out)
	}
	return binary, nil
}

// findRoot is the folder with go.work above the working directory.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the root of the tree: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("there is no go.work above the working directory: run the tests inside the tree")
		}
		dir = parent
	}
}
