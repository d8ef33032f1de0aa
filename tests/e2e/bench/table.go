package bench

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
)

// Ratio is the median of the pairs' ratios with the least and the greatest; zeros without a baseline.
func (r Row) Ratio() (median, least, greatest float64) {
	var ratios []float64
	for i := range min(len(r.Ours), len(r.Baseline)) {
		if r.Baseline[i].Value > 0 {
			ratios = append(ratios, r.Ours[i].Value/r.Baseline[i].Value)
		}
	}
	if len(ratios) == 0 {
		return 0, 0, 0
	}
	return medianOf(ratios), slices.Min(ratios), slices.Max(ratios)
}

func medianOf(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medians are of the values and of the processor times.
func medians(samples []Sample) Sample {
	var values, cpu []float64
	for _, s := range samples {
		values, cpu = append(values, s.Value), append(cpu, s.CPU)
	}
	return Sample{Value: medianOf(values), CPU: medianOf(cpu)}
}

// Print writes the rows as a Markdown table, the form that BENCHMARKS.md holds.
func Print(w io.Writer, rows []Row) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.AppendHeader(table.Row{"figure", "what", "unit", "ours", "baseline", "ratio", "spread", "target", "CPU µs each: ours / baseline", "note"})
	for _, r := range rows {
		ours, cpu := medians(r.Ours), ""
		if ours.CPU > 0 {
			cpu = number(ours.CPU)
		}
		baseline, ratio, spread := "–", "–", "–"
		if len(r.Baseline) > 0 {
			median, least, greatest := r.Ratio()
			base := medians(r.Baseline)
			baseline = number(base.Value) + " (" + r.Against + ")"
			ratio, spread = fmt.Sprintf("%.2f", median), fmt.Sprintf("%.2f–%.2f", least, greatest)
			if cpu != "" {
				cpu += " / " + number(base.CPU)
			}
		}
		t.AppendRow(table.Row{r.Figure, r.What, r.Unit, number(ours.Value), baseline, ratio, spread, r.Target, cpu, r.Note})
	}
	t.RenderMarkdown()
}

// number writes three significant digits, thousands apart.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 10:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
