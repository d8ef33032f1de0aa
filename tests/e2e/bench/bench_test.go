package bench_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse"
	"github.com/sillage-cdp/sillage/tests/e2e/bench"
)

// TestFiguresMeasure runs the figures that need no built binary, as small as they get: every row has
// samples in pairs, and none is zero.
func TestFiguresMeasure(t *testing.T) {
	for _, figure := range bench.Figures() {
		if figure.Name == "P16" { // it runs bin/sillage, which `make bench` builds; the scenarios run it here
			continue
		}
		t.Run(figure.Name, func(t *testing.T) {
			if _, err := clickhouse.Locate(""); figure.Name == "P11" {
				require.NoError(t, err, "the ClickHouse library is missing: make engines")
			}
			var progress bytes.Buffer
			o := bench.Options{Pairs: 1, Duration: 20 * time.Millisecond, Events: 1000, Dir: t.TempDir(), Progress: &progress, Intervals: []time.Duration{50 * time.Millisecond}}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			rows, err := figure.Measure(ctx, o)
			require.NoError(t, err)
			require.NotEmpty(t, rows)
			require.NotEmpty(t, progress.String())
			for _, row := range rows {
				require.Len(t, row.Ours, 1, row.What)
				require.Positive(t, row.Ours[0].Value, row.What)
				if row.Against != "" {
					require.Len(t, row.Baseline, 1, row.What)
					ratio, least, greatest := row.Ratio()
					require.Positive(t, ratio, row.What)
					require.LessOrEqual(t, least, greatest)
				}
			}
			left, err := os.ReadDir(o.Dir)
			require.NoError(t, err)
			require.Empty(t, left, "a measurement leaves files behind")
		})
	}
}

func TestRatioIsTheMedianOfPairs(t *testing.T) {
	sample := func(values ...float64) (out []bench.Sample) {
		for _, v := range values {
			out = append(out, bench.Sample{Value: v})
		}
		return out
	}
	// A slow second pair slows both sides: the ratio of the medians would be 0.75.
	row := bench.Row{Ours: sample(10, 1, 30), Baseline: sample(20, 2, 40)}
	median, least, greatest := row.Ratio()
	require.InDelta(t, 0.5, median, 1e-9)
	require.InDelta(t, 0.5, least, 1e-9)
	require.InDelta(t, 0.75, greatest, 1e-9)
	median, _, _ = bench.Row{Ours: sample(1)}.Ratio()
	require.Zero(t, median)
}

func TestFiguresAreFoundByName(t *testing.T) {
	for name, want := range map[string]string{"P1": "P1", "p2": "P1", "P6": "P5", "p8": "P16", "P11": "P11"} {
		figure, ok := bench.Find(name)
		require.True(t, ok, name)
		require.Equal(t, want, figure.Name)
	}
	_, ok := bench.Find("P99")
	require.False(t, ok)
}
