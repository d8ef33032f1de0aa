package stack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// dataDir is the data directory as a component: one process at a time has it.
type dataDir struct {
	path string
	lock *flock.Flock
}

func newDataDir(path string) *dataDir {
	return &dataDir{path: path, lock: flock.New(filepath.Join(path, "lock"))}
}

// take makes the directory and locks it.
func (d *dataDir) take() error {
	if err := os.MkdirAll(filepath.Join(d.path, "secrets"), 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w (set --data-dir)", err)
	}
	locked, err := d.lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking the data directory %s: %w", d.path, err)
	}
	if !locked {
		return fmt.Errorf("the data directory %s is in use by another sillage: stop it, or name another one with --data-dir", d.path)
	}
	return nil
}

func (d *dataDir) Start(context.Context) error { return nil }
func (d *dataDir) Stop(context.Context) error  { return d.lock.Unlock() }
func (d *dataDir) Ready(context.Context) error { return nil }
func (d *dataDir) Failed() <-chan error        { return nil }

// secretFile returns the reference to a secret of the data directory; it is made if it is missing.
func secretFile(dir, name, prefix string) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, "secrets", name))
	if err != nil {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return "file:" + path, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	text := prefix + base64.StdEncoding.EncodeToString(raw)
	if err := writeFile(path, []byte(text+"\n")); err != nil {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	return "file:" + path, nil
}

// Secret returns the reference to a secret of the stack's own; it is made, with the prefix, if it is missing.
func (s *Stack) Secret(name, prefix string) (string, error) {
	return secretFile(s.cfg.DataDir, name, prefix)
}

// InUse is an error if a stack runs on the data directory.
func InUse(path string) error {
	d := newDataDir(path)
	if err := d.take(); err != nil {
		return err
	}
	return d.lock.Unlock()
}
