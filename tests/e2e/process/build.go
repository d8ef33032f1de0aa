package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// Built is what the tests of a test binary run: a binary, and the root of the tree that it is of.
type Built struct{ Root, Binary string }

// Main builds the binary of a package of the tree, such as "./services/sillage/cmd/sillage", unless
// built names one already; it runs the tests and checks that they left no goroutine behind, but for those
// that leaks lets pass. It fills built before any test runs and returns the exit code.
func Main(m *testing.M, built *Built, pkg string, leaks ...goleak.Option) int {
	dir, err := os.MkdirTemp("", "sillage-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a folder for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if built.Root, err = findRoot(); err == nil && built.Binary == "" {
		built.Binary = filepath.Join(dir, filepath.Base(pkg))
		err = Build(built.Root, pkg, built.Binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(leaks...); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, "tests left goroutines behind:", err)
		return 1
	}
	return code
}

// Build builds the binary of a package of the tree.
func Build(root, pkg, binary string) error {
	cmd := exec.Command("go", "build", "-o", binary, pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
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
