// Package process has what tests need to run binaries of the tree as processes of their own: [Main] builds
// one once for a test binary and checks for leaks, [Launch] runs one and keeps the end of what it writes.
//
// No process outlives its test, nor a test binary that is killed. What a process wrote is printed if its
// test fails.
package process

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is one run of a binary.
type Process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed once the process is gone
}

// Launch starts a command. What it writes is kept; its standard output goes to cmd.Stdout instead if that
// is set. When the test ends the process is killed.
func Launch(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	cmd.Stderr = p.out
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	// A process must not outlive a test binary that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start(), "starting %s", cmd.Path)
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the state stands in cmd.ProcessState
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s wrote:\n%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), p.Output())
		}
	})
	return p
}

// Signal sends a signal; a process that is gone gets none.
func (p *Process) Signal(sig syscall.Signal) {
	if !p.Ended() {
		_ = p.cmd.Process.Signal(sig) // it may end at this moment
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits for the end and returns the exit code; -1 if a signal ended it.
func (p *Process) Wait(t require.TestingT, within time.Duration) int {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		require.Failf(t, "the process does not end", "%s after %s, it wrote:\n%s", p.cmd.Args, within, p.Output())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Output is the end of what was kept.
func (p *Process) Output() string { return p.out.String() }

// Lines are the lines of Output that contain a text.
func (p *Process) Lines(text string) []string {
	var lines []string
	for line := range strings.Lines(p.Output()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

const tailBytes = 64 << 10

// Write keeps b.
func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if over := w.buf.Len() - tailBytes; over > 0 {
		w.buf.Next(over)
	}
	return len(b), nil
}

// String is what it kept.
func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
