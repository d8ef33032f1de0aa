// Command bench measures the figures of BENCHMARKS.md and prints their table. Each figure runs in a
// process of its own, started by this one; progress goes to standard error, the table to standard output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sillage-cdp/sillage/tests/e2e/bench"
)

type flags struct {
	Only       []string        `help:"Measure these figures only: P1, P3, P5, P13, P14, HOP, P11, P16." placeholder:"P5"`
	Pairs      int             `help:"How often ours and the baseline are measured in turns." default:"${pairs}"`
	Duration   time.Duration   `help:"How long one measurement lasts, about." default:"${duration}"`
	Events     int             `help:"How many events the whole path takes (P16)." default:"${events}"`
	Intervals  []time.Duration `help:"The commit intervals that HOP compares." default:"${intervals}"`
	Binary     string          `help:"The sillage to measure (P16)." default:"${binary}" type:"path"`
	CPUProfile string          `help:"Write a processor profile of the one figure that is measured." type:"path" placeholder:"FILE"`
	Child      bool            `hidden:"" help:"Measure in this process and write the rows as JSON."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	defaults := bench.NewDefaultOptions()
	var f flags
	parser, err := kong.New(&f, kong.Name("bench"), kong.Description("Measures the figures of BENCHMARKS.md."), kong.Vars{
		"pairs": fmt.Sprint(defaults.Pairs), "duration": defaults.Duration.String(), "events": fmt.Sprint(defaults.Events), "binary": defaults.Binary, "intervals": join(defaults.Intervals),
	})
	if err != nil {
		return fmt.Errorf("building the command line: %w", err)
	}
	if _, err := parser.Parse(args); err != nil {
		return fmt.Errorf("reading the command line: %w", err)
	}
	figures, err := chosen(f.Only)
	if err != nil {
		return err
	}
	if f.Child {
		return measure(ctx, f, figures[0], out, progress)
	}
	if f.CPUProfile != "" && len(figures) != 1 {
		return errors.New("--cpu-profile: name one figure with --only")
	}
	return parent(ctx, args, figures, out, progress)
}

func chosen(names []string) ([]bench.Figure, error) {
	if len(names) == 0 {
		return bench.Figures(), nil
	}
	var figures []bench.Figure
	for _, name := range names {
		f, ok := bench.Find(name)
		if !ok {
			return nil, fmt.Errorf("--only %s: there is no such figure", name)
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// parent measures each figure in a child and prints the table. A figure that fails does not keep the
// others from the table.
func parent(ctx context.Context, args []string, figures []bench.Figure, out, progress io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	machine, before := describe(), load()
	begun := time.Now()
	var all []bench.Row
	var failures []error
	for _, f := range figures {
		fmt.Fprintf(progress, "%s: %s\n", f.Name, f.What)
		cmd := exec.CommandContext(ctx, self, append(without(args, "--only"), "--only", f.Name, "--child")...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = time.Minute
		cmd.Stderr = progress
		raw, err := cmd.Output()
		var rows []bench.Row
		if err == nil {
			err = json.Unmarshal(raw, &rows)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("measuring %s: %w", f.Name, err))
			continue
		}
		all = append(all, rows...)
	}
	fmt.Fprintf(out, "%s; load before %s, after %s; %s.\n\n", machine, before, load(), time.Since(begun).Round(time.Second))
	bench.Print(out, all)
	return errors.Join(failures...)
}

// without removes a flag and its value, written in either form.
func without(args []string, flag string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == flag:
			i++
		case strings.HasPrefix(args[i], flag+"="):
		default:
			rest = append(rest, args[i])
		}
	}
	return rest
}

// measure is a child: it measures one figure.
func measure(ctx context.Context, f flags, figure bench.Figure, out, progress io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "sillage-bench-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := bench.Options{Pairs: f.Pairs, Duration: f.Duration, Events: f.Events, Intervals: f.Intervals, Binary: f.Binary, Dir: dir, Progress: progress}
	if err := o.Validate(); err != nil {
		return err
	}
	if f.CPUProfile != "" {
		file, err := os.Create(f.CPUProfile)
		if err != nil {
			return fmt.Errorf("making the profile: %w", err)
		}
		defer file.Close() //nolint:errcheck // a profile that is cut off is seen by its reader
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("starting the profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	rows, err := figure.Measure(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(rows)
}

// join writes durations as a flag takes them.
func join(durations []time.Duration) string {
	var text []string
	for _, d := range durations {
		text = append(text, d.String())
	}
	return strings.Join(text, ",")
}

// describe names the machine.
func describe() string {
	model := runtime.GOARCH
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimLeft(strings.TrimSpace(name), ": \t")
				break
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}

// load is the load average of the last minute.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(raw))[0]
}
