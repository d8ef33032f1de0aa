package stack

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is one run of the binary.
type Process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed once the process is gone
}

// launch starts a command whose output is kept and, if the test fails, printed.
func launch(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	// A process must not outlive a test binary that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start(), "starting %s", cmd.Path)
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the state stands in cmd.ProcessState
	}()
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("sillage %s wrote:\n%s", strings.Join(cmd.Args[1:], " "), p.Output())
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

// Output is the end of what the process wrote to both of its streams.
func (p *Process) Output() string { return p.out.String() }

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

const tailBytes = 64 << 10

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if over := w.buf.Len() - tailBytes; over > 0 {
		w.buf.Next(over)
	}
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
