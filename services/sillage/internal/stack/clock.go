package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sillage-cdp/sillage/pkg/clock"
)

// openClock returns the clock of a data directory. A stack that once ran faster than the wall goes on
// from where its time stands, at whatever speed: time never goes back under data that is there.
func openClock(dataDir string, speed float64, wall time.Time) (clock.Clock, error) {
	path := filepath.Join(dataDir, "clock.json")
	anchor := clock.Anchor{Wall: wall, Clock: wall, Speed: speed}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && speed == 1:
		return clock.System{}, nil
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading the clock of the data directory: %w", err)
	default:
		var before clock.Anchor
		if err := json.Unmarshal(raw, &before); err != nil {
			return nil, fmt.Errorf("reading the clock of the data directory in %s: %w (delete the file to start from the wall's time)", path, err)
		}
		anchor.Clock = clock.NewScaled(before).At(wall)
	}
	if raw, err = json.Marshal(anchor); err != nil {
		return nil, fmt.Errorf("writing the clock of the data directory: %w", err)
	}
	if err := writeFile(path, raw); err != nil {
		return nil, fmt.Errorf("writing the clock of the data directory: %w", err)
	}
	return clock.NewScaled(anchor), nil
}

// writeFile replaces a file whole.
func writeFile(path string, raw []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
