package kafka

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gofrs/flock"
)

const (
	lockFile    = "sillage.lock"
	pidFile     = "sillage.pid"
	runningFile = "sillage-running"
)

// dataDir is a data directory that this process alone has open.
type dataDir struct {
	path string
	lock *flock.Flock
}

// openDataDir makes and locks a data directory. Another process that has it is
// named in the error.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, explain(path, err)
	}
	lock := flock.New(filepath.Join(path, lockFile))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, explain(path, err)
	}
	if !locked {
		owner := "another process"
		if raw, err := os.ReadFile(filepath.Join(path, pidFile)); err == nil {
			owner = "process " + strings.TrimSpace(string(raw))
		}
		return nil, fmt.Errorf("the embedded Kafka's data directory %s is open in %s: stop it, or set another data directory", path, owner)
	}
	d := &dataDir{path: path, lock: lock}
	if err := os.WriteFile(filepath.Join(path, pidFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(explain(path, err), d.unlock())
	}
	return d, nil
}

// unlock lets others open the directory.
func (d *dataDir) unlock() error {
	if err := d.lock.Unlock(); err != nil {
		return fmt.Errorf("unlocking %s: %w", d.path, err)
	}
	return nil
}

// crashed tells whether the broker that had the directory did not end cleanly.
func (d *dataDir) crashed() (bool, error) {
	_, err := os.Stat(filepath.Join(d.path, runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, explain(d.path, err)
	}
	return true, nil
}

// setRunning marks the directory as in use, or as left clean.
func (d *dataDir) setRunning(running bool) error {
	path := filepath.Join(d.path, runningFile)
	if running {
		if err := replaceFile(path, nil); err != nil {
			return explain(d.path, err)
		}
		return nil
	}
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return explain(d.path, err)
	}
	return syncDir(d.path)
}

// free returns how many bytes the file system of the directory can still take.
func (d *dataDir) free() (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.path, &st); err != nil {
		return 0, fmt.Errorf("asking for the free space of %s: %w", d.path, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// explain says what to do about an error of the file system.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the embedded Kafka's data directory %s is not writable for this user: correct its owner and mode, or set another data directory: %w", path, err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("the disk of the embedded Kafka's data directory %s is full: free some space, or move the directory to another disk: %w", path, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("the embedded Kafka's data directory %s is not a directory: set another data directory: %w", path, err)
	default:
		return fmt.Errorf("opening the embedded Kafka's data directory %s: %w", path, err)
	}
}
