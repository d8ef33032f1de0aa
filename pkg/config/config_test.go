package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/config"
)

type sample struct {
	Addr  string        `koanf:"addr"`
	Wait  time.Duration `koanf:"wait"`
	Kafka struct {
		Brokers    []string `koanf:"brokers"`
		Partitions int32    `koanf:"partitions"`
	} `koanf:"kafka"`
}

func (s *sample) Validate() error {
	if s.Addr == "" {
		return errors.New("addr: must not be empty")
	}
	return nil
}

func defaults() *sample {
	s := &sample{Addr: "127.0.0.1:1", Wait: time.Second}
	s.Kafka.Brokers = []string{"a:1"}
	s.Kafka.Partitions = 4
	return s
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sillage.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestLaterSourcesWin(t *testing.T) {
	s := defaults()
	err := config.Load(s, config.Sources{
		File:      write(t, "wait: 2m\nkafka:\n  partitions: 8\n  brokers: [b:1]\n"),
		Lookup:    env(map[string]string{"SILLAGE_KAFKA__BROKERS": "c:1,d:1", "SILLAGE_UNRELATED": "x"}),
		Overrides: map[string]any{"addr": ":9"},
	})
	require.NoError(t, err)
	require.Equal(t, ":9", s.Addr)
	require.Equal(t, 2*time.Minute, s.Wait)
	require.Equal(t, []string{"c:1", "d:1"}, s.Kafka.Brokers)
	require.Equal(t, int32(8), s.Kafka.Partitions)
}

func TestUnknownKeyIsNamed(t *testing.T) {
	path := write(t, "kafka:\n  borkers: [b:1]\n")
	err := config.Load(defaults(), config.Sources{File: path})
	require.ErrorContains(t, err, "borkers")
	require.ErrorContains(t, err, path)
}

func TestWrongTypeIsNamed(t *testing.T) {
	err := config.Load(defaults(), config.Sources{Lookup: env(map[string]string{"SILLAGE_KAFKA__PARTITIONS": "many"})})
	require.ErrorContains(t, err, "partitions")
}

func TestValidationFails(t *testing.T) {
	err := config.Load(defaults(), config.Sources{Overrides: map[string]any{"addr": ""}})
	require.ErrorContains(t, err, "addr: must not be empty")
}

func TestMissingFileIsNamed(t *testing.T) {
	err := config.Load(defaults(), config.Sources{File: "/does/not/exist.yaml"})
	require.ErrorContains(t, err, "/does/not/exist.yaml")
}
