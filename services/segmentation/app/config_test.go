package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/config"
)

// TestStreamSettingsReachTheStage: what a file and the environment say about the stage's standbys and
// stores is what its runner gets.
func TestStreamSettingsReachTheStage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.yaml")
	require.NoError(t, os.WriteFile(path, []byte("stream:\n  standbys: 1\n  store_retention: 3h\n"), 0o600))
	env := map[string]string{config.EnvName("stream.standbys"): "2"}
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	var cfg Config
	require.NoError(t, config.Load(&cfg, config.Sources{File: path, Lookup: lookup}))
	require.Equal(t, 2, cfg.Stream.Standbys)
	require.Equal(t, 3*time.Hour, cfg.Stream.StoreRetention)
}
