package report_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
)

// TestTable: repetitions come to one row, the worst measure stands, and a loss or a failed test shows.
func TestTable(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report")
	t.Setenv(report.EnvFile, name)
	row := report.Row{
		Scenario: "R3", What: "kill -9", Broker: "kfake", Seed: 1, Injected: map[string]int{"kill -9": 20}, Events: 100, Checked: 300,
		Measured: map[string]float64{"rebuilt s": 2, "least share %": 80}, Seconds: 10,
	}
	require.NoError(t, report.Write(row))
	row.Seed, row.Measured = 2, map[string]float64{"rebuilt s": 3, "least share %": 40}
	require.NoError(t, report.Write(row))
	require.NoError(t, report.Write(report.Row{Scenario: "R15", What: "rolling", Broker: "kfake", Seed: 9}))

	table, ok := show(t, name)
	require.True(t, ok)
	require.Contains(t, table, "| R3 | kill -9 | kfake | kill -9 40 | 200 | 600 | 0 | 0 | 0 | 0 | least share % 40, rebuilt s 3 | 20 | 1 2 | 2 | ok |")
	require.Less(t, strings.Index(table, "| R3 |"), strings.Index(table, "| R15 |"))

	require.NoError(t, report.Write(report.Row{Scenario: "R15", What: "rolling", Broker: "kfake", Seed: 10, Lost: 1}))
	_, ok = show(t, name)
	require.False(t, ok, "a lost record")
	require.NoError(t, os.Remove(name))
	require.NoError(t, report.Write(report.Row{Scenario: "R3", Failed: true}))
	_, ok = show(t, name)
	require.False(t, ok, "a failed test")
}

func show(t *testing.T, name string) (string, bool) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	rows, err := report.Read(file)
	require.NoError(t, err)
	var out strings.Builder
	ok := report.Print(&out, rows)
	return out.String(), ok
}
