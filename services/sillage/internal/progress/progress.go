// Package progress shows long work to a person: bars on a terminal, one line a stage elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Output is where progress is shown.
type Output struct {
	w        io.Writer
	terminal bool
}

// New shows progress on w, with bars if it is a terminal.
func New(w io.Writer) *Output {
	file, ok := w.(*os.File)
	return &Output{w: w, terminal: ok && term.IsTerminal(int(file.Fd()))}
}

// Stagef prints one line about what begins.
func (o *Output) Stagef(format string, args ...any) {
	fmt.Fprintf(o.w, "▸ "+format+"\n", args...)
}

// Linef prints one line below a stage.
func (o *Output) Linef(format string, args ...any) {
	fmt.Fprintf(o.w, "  "+format+"\n", args...)
}

// Bar is one piece of work of known or unknown length.
type Bar struct {
	out   *Output
	name  string
	start time.Time
	pool  *mpb.Progress
	bar   *mpb.Bar
}

// Bytes is a bar over so many bytes; 0 if unknown.
func (o *Output) Bytes(name string, total int64) *Bar {
	return o.bar(name, total, decor.CountersKibiByte("% .1f / % .1f"), decor.AverageSpeed(decor.SizeB1024(0), "% .1f"))
}

// Count is a bar over so many things.
func (o *Output) Count(name string, total int64) *Bar {
	return o.bar(name, total, decor.CountersNoUnit("%d / %d"), decor.AverageSpeed(0, "%.0f/s"))
}

func (o *Output) bar(name string, total int64, counters, speed decor.Decorator) *Bar {
	b := &Bar{out: o, name: name, start: time.Now()}
	if !o.terminal {
		return b
	}
	b.pool = mpb.New(mpb.WithOutput(o.w), mpb.WithWidth(40))
	b.bar = b.pool.AddBar(total,
		mpb.PrependDecorators(decor.Name("  "+name+" ")),
		mpb.AppendDecorators(counters, decor.Name("  "), speed))
	return b
}

// Reader counts what is read through it.
func (b *Bar) Reader(r io.Reader) io.Reader {
	if b.bar == nil {
		return r
	}
	return b.bar.ProxyReader(r)
}

// Set shows that n of the work is done.
func (b *Bar) Set(n int64) {
	if b.bar != nil {
		b.bar.SetCurrent(n)
	}
}

// Add shows that n more of the work is done.
func (b *Bar) Add(n int) {
	if b.bar != nil {
		b.bar.IncrBy(n)
	}
}

// Done ends the bar, wherever it stands; elsewhere than on a terminal it prints one line.
func (b *Bar) Done() {
	if b.bar == nil {
		fmt.Fprintf(b.out.w, "  %s: done in %s\n", b.name, time.Since(b.start).Round(time.Millisecond))
		return
	}
	b.bar.SetTotal(-1, true)
	b.pool.Wait()
}
