// Package resume remembers how far a long piece of work on a file has come, so that one that was broken off
// goes on there.
//
// It promises: what Save wrote is there after a crash, whole or in its last form (a rename replaces it); a
// note about a file that has changed since, or about other work on it, is not taken
// (TestAChangedFileBeginsAnew). A note that cannot be read counts as none: the work begins at the
// beginning, which it must allow.
package resume

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Note is the note of one piece of work.
type Note struct {
	path string
	what string
	size int64
	time time.Time
}

// stored is a note in its file.
type stored struct {
	File     string          `json:"file"`
	Size     int64           `json:"size"`
	Time     time.Time       `json:"time"`
	Position json.RawMessage `json:"position"`
}

// For returns the note of the work on a file. dir holds all notes; what tells this work from other work on
// the same file.
func For(dir string, file *os.File, what string) (*Note, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", file.Name(), err)
	}
	path, err := filepath.Abs(file.Name())
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", file.Name(), err)
	}
	name := sha256.Sum256([]byte(path + "\x00" + what))
	return &Note{
		path: filepath.Join(dir, hex.EncodeToString(name[:16])+".json"),
		what: path, size: info.Size(), time: info.ModTime(),
	}, nil
}

// Dir is where the notes of the user lie.
func Dir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache directory: %w", err)
	}
	return filepath.Join(cache, "sillage", "imports"), nil
}

// Load reads the position into p; false if there is none for the file as it is now.
func (n *Note) Load(p any) bool {
	text, err := os.ReadFile(n.path)
	if err != nil {
		return false
	}
	var s stored
	if json.Unmarshal(text, &s) != nil || s.File != n.what || s.Size != n.size || !s.Time.Equal(n.time) {
		return false
	}
	return json.Unmarshal(s.Position, p) == nil
}

// Save writes the position.
func (n *Note) Save(position any) error {
	raw, err := json.Marshal(position)
	if err != nil {
		return fmt.Errorf("encoding the position: %w", err)
	}
	text, err := json.Marshal(stored{File: n.what, Size: n.size, Time: n.time, Position: raw})
	if err != nil {
		return fmt.Errorf("encoding the position: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(n.path), 0o700); err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	fresh := n.path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	if err := os.Rename(fresh, n.path); err != nil {
		return fmt.Errorf("saving the position: %w", err)
	}
	return nil
}

// Clear forgets the position: the work is done.
func (n *Note) Clear() error {
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the position: %w", err)
	}
	return nil
}
