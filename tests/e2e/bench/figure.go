package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options say how much is measured.
type Options struct {
	// Pairs is how often ours and the baseline are measured in turns.
	Pairs int
	// Duration is how long one measurement of an open-ended figure lasts.
	Duration time.Duration
	// Events is how many events one measurement of the whole path takes.
	Events int
	// Intervals are the commit intervals that HOP compares.
	Intervals []time.Duration
	// Binary is a built sillage, for the whole path.
	Binary string
	// Dir holds what is written; whoever gives it removes it.
	Dir string
	// Progress takes a line for each measurement.
	Progress io.Writer
}

// NewDefaultOptions measures everything in about five minutes on two cores.
func NewDefaultOptions() Options {
	return Options{
		Pairs: 5, Duration: time.Second, Events: 60_000, Binary: filepath.Join("bin", "sillage"), Progress: io.Discard,
		Intervals: []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond},
	}
}

// Validate says everything that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.Pairs < 1 || o.Pairs > 100 {
		errs = append(errs, fmt.Errorf("pairs: %d is not between 1 and 100", o.Pairs))
	}
	if o.Duration < 10*time.Millisecond || o.Duration > time.Minute {
		errs = append(errs, fmt.Errorf("duration: %s is not between 10ms and 1m", o.Duration))
	}
	if len(o.Intervals) == 0 || slices.Min(o.Intervals) < time.Millisecond {
		errs = append(errs, errors.New("intervals: at least one is needed, and none under a millisecond"))
	}
	if o.Events < 1000 || o.Events > 5_000_000 {
		errs = append(errs, fmt.Errorf("events: %d is not between 1000 and 5000000", o.Events))
	}
	return errors.Join(errs...)
}

// Figure is one measurement of BENCHMARKS.md, perhaps with several lines in the table.
type Figure struct {
	// Name is what -only takes, without regard to case.
	Name string
	// What says it in a line.
	What string
	// Measure measures it.
	Measure func(ctx context.Context, o Options) ([]Row, error)
}

// Figures are all figures in the order of the table.
func Figures() []Figure {
	return []Figure{
		{Name: "P1", What: "single events over HTTP, answered after Kafka's acknowledgement (with P2, their latency)", Measure: Single},
		{Name: "P3", What: "batches of 100 events over HTTP", Measure: Batches},
		{Name: "P5", What: "a stateful stage at exactly-once (with P6, against at-least-once)", Measure: Stage},
		{Name: "P13", What: "how late ten thousand timers a second are", Measure: Timers},
		{Name: "P14", What: "restore of a lost store from its changelog", Measure: Restore},
		{Name: "HOP", What: "the latency of one hop, by commit interval", Measure: Hop},
		{Name: "P11", What: "from Kafka to ClickHouse", Measure: Sink},
		{Name: "P16", What: "the whole path in one process (with P8, the latency of a membership)", Measure: WholePath},
	}
}

// Find returns the figure of a name; P2, P6 and P8 are measured with their neighbours.
func Find(name string) (Figure, bool) {
	name = strings.ToUpper(name)
	if with, ok := map[string]string{"P2": "P1", "P6": "P5", "P8": "P16"}[name]; ok {
		name = with
	}
	i := slices.IndexFunc(Figures(), func(f Figure) bool { return f.Name == name })
	if i < 0 {
		return Figure{}, false
	}
	return Figures()[i], true
}

// Sample is one measurement.
type Sample struct {
	// Value is a rate or a latency, in the row's unit.
	Value float64
	// CPU is the processor time of the process for one operation, in microseconds; 0 if it was not taken.
	CPU float64
}

// Row is one line of the table.
type Row struct {
	Figure, What, Unit string
	// Against names the baseline; empty if there is none.
	Against string
	// Target is what figures.md asks for.
	Target string
	// Ours and Baseline are the samples by pair; Baseline is empty if there is none.
	Ours, Baseline []Sample
	// Note is more to say, such as memory.
	Note string
}

// series runs each of the measurements in turns and returns their samples, each in order of time.
func series(ctx context.Context, o Options, name string, turns ...turn) ([][]Sample, error) {
	out := make([][]Sample, len(turns))
	for pair := range o.Pairs {
		var line strings.Builder
		fmt.Fprintf(&line, "%s %d/%d", name, pair+1, o.Pairs)
		for i, t := range turns {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			sample, err := t.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("measuring %s of %s: %w", t.name, name, err)
			}
			out[i] = append(out[i], sample)
			fmt.Fprintf(&line, "  %s %s", t.name, number(sample.Value))
		}
		fmt.Fprintln(o.Progress, line.String())
	}
	return out, nil
}

// turn is one of the things that are measured in turns.
type turn struct {
	name    string
	measure func(context.Context) (Sample, error)
}

// stopwatch takes wall and processor time together.
type stopwatch struct {
	begun time.Time
	used  time.Duration
}

func startWatch() stopwatch { return stopwatch{begun: time.Now(), used: processorTime()} }

// rate is the sample of n operations since the watch started.
func (w stopwatch) rate(n int) Sample {
	if n == 0 {
		return Sample{}
	}
	took := time.Since(w.begun)
	return Sample{Value: float64(n) / took.Seconds(), CPU: float64((processorTime() - w.used).Microseconds()) / float64(n)}
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // the note about processor time is then missing; the figure stands
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// folder makes a folder for one measurement; the returned function removes it.
func folder(o Options, name string) (string, func(), error) {
	dir, err := os.MkdirTemp(o.Dir, name+"-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for a measurement: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// wait waits until the condition holds, looking again after each step.
func wait(ctx context.Context, step time.Duration, condition func() (bool, error)) error {
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		done, err := condition()
		if done || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of a measurement: %w", context.Cause(ctx))
		}
	}
}
