package stack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// EnvBinary is the variable that names a built sillage to test instead of one built from the tree.
const EnvBinary = "SILLAGE_TEST_BINARY"

// built is the binary under test and the root of the tree; written by Main before any test runs.
var built struct{ binary, root string }

// Main builds the binary, runs the tests and checks that they left no goroutine behind. A test package
// that uses this one calls it from TestMain and exits with its code.
func Main(m *testing.M) int {
	root, err := findRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "sillage-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if built.binary, err = build(root, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	built.root = root
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "tests left goroutines behind:", err)
		return 1
	}
	return code
}

// Root is the root of the tree that is tested.
func Root() string { return built.root }

func build(root, dir string) (string, error) {
	if named := os.Getenv(EnvBinary); named != "" {
		return named, nil
	}
	binary := filepath.Join(dir, "sillage")
	cmd := exec.Command("go", "build", "-o", binary, "./services/sillage/cmd/sillage")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building sillage: %w\n%s", err, out)
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
