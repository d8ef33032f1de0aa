package rig

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	readyWithin = time.Minute
	stopWithin  = time.Minute
)

// Instance is one instance of a stage, over all the processes that it runs as: its name and its data
// directory stay.
type Instance struct {
	Stage   string // first or second
	Name    string
	DataDir string

	run  *Run
	proc *process
}

// Instance prepares an instance of a stage ("first" or "second"); nothing runs yet. What still runs when
// the test ends is killed.
func (r *Run) Instance(stage, name string) *Instance {
	return &Instance{Stage: stage, Name: name, DataDir: filepath.Join(r.t.TempDir(), name), run: r}
}

// TransactionalID is the id under which it writes.
func (i *Instance) TransactionalID() string { return "sillage." + i.Topology() + "." + i.Name }

// Topology is the name of the stage's topology.
func (i *Instance) Topology() string { return i.run.Prefix + "-" + i.Stage }

// Start runs the instance as a process and does not wait for anything.
func (i *Instance) Start() {
	i.run.t.Helper()
	i.proc = launch(i.run.t, exec.Command(built,
		"--brokers", strings.Join(i.run.Broker.Addrs, ","), "--prefix", i.run.Prefix, "--stage", i.Stage,
		"--data-dir", i.DataDir, "--instance", i.Name,
		"--session-timeout", i.run.Session.String(), "--transaction-timeout", i.run.Transaction.String(), "--max-batch", strconv.Itoa(i.run.MaxBatch)))
}

// Running says whether it has a process.
func (i *Instance) Running() bool { return i.proc != nil && !i.proc.ended() }

// Kill is kill -9.
func (i *Instance) Kill() {
	i.run.t.Helper()
	require.True(i.run.t, i.Running(), "%s %s ended by itself:\n%s", i.Stage, i.Name, i.proc.logs.String())
	i.proc.signal(syscall.SIGKILL)
	<-i.proc.done
}

// Freeze is SIGSTOP, Thaw is SIGCONT.
func (i *Instance) Freeze() { i.proc.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (i *Instance) Thaw() { i.proc.signal(syscall.SIGCONT) }

// Stop is SIGTERM; it waits for the end and fails the test if that is not in order.
func (i *Instance) Stop() {
	i.run.t.Helper()
	i.proc.signal(syscall.SIGTERM)
	select {
	case <-i.proc.done:
	case <-time.After(stopWithin):
		require.Failf(i.run.t, "an instance does not end", "%s %s after %s:\n%s", i.Stage, i.Name, stopWithin, i.proc.logs.String())
	}
	require.Equal(i.run.t, 0, i.proc.cmd.ProcessState.ExitCode(), "%s %s ended badly:\n%s", i.Stage, i.Name, i.proc.logs.String())
}

// Ready says whether it said last that it is ready.
func (i *Instance) Ready() bool { return i.proc.state() == "ready" }

// Changes is how often it has said that it became ready or stopped being it.
func (i *Instance) Changes() int {
	i.proc.mu.Lock()
	defer i.proc.mu.Unlock()
	return i.proc.changes
}

// Logged says whether it has logged a text since it started.
func (i *Instance) Logged(text string) bool { return strings.Contains(i.proc.logs.String(), text) }

// Complaints are the lines that it has logged as errors since it started.
func (i *Instance) Complaints() []string {
	var lines []string
	for line := range strings.Lines(i.proc.logs.String()) {
		if strings.Contains(line, "level=ERROR") {
			lines = append(lines, line)
		}
	}
	return lines
}

// WaitReady waits until it is ready.
func (i *Instance) WaitReady() {
	i.run.t.Helper()
	require.Eventually(i.run.t, func() bool { return i.Ready() || i.proc.ended() }, readyWithin, 5*time.Millisecond, "%s %s is not ready", i.Stage, i.Name)
	require.True(i.run.t, i.Ready(), "%s %s ended:\n%s", i.Stage, i.Name, i.proc.logs.String())
}

// Fleet is all instances of a run.
type Fleet []*Instance

// Fleet starts so many instances of each stage and waits until they are ready.
func (r *Run) Fleet(each int) Fleet {
	r.t.Helper()
	var fleet Fleet
	for n := range each {
		for _, stage := range []string{"first", "second"} {
			fleet = append(fleet, r.Instance(stage, fmt.Sprint(stage, n)))
		}
	}
	for _, i := range fleet {
		i.Start()
	}
	for _, i := range fleet {
		i.WaitReady()
	}
	return fleet
}

// Stop ends all that run, in order.
func (f Fleet) Stop() {
	for _, i := range f {
		if i.Running() {
			i.Stop()
		}
	}
}

// Dirs are the data directories of the instances of each stage.
func (f Fleet) Dirs() (first, second []string) {
	for _, i := range f {
		if i.Stage == "first" {
			first = append(first, i.DataDir)
		} else {
			second = append(second, i.DataDir)
		}
	}
	return first, second
}

// process is one run of the stage.
type process struct {
	cmd  *exec.Cmd
	logs *logs
	done chan struct{} // closed once the process is gone

	mu      sync.Mutex // guards what follows
	last    string
	changes int
}

func launch(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, logs: &logs{}, done: make(chan struct{})}
	// A process must not outlive a test binary that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = p.logs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.done)
		p.follow(out)
		_ = cmd.Wait() // the state stands in cmd.ProcessState
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			t.Logf("%s wrote:\n%s", strings.Join(cmd.Args[1:], " "), p.logs.String())
		}
	})
	return p
}

// follow takes what the process says until it is gone.
func (p *process) follow(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var said struct{ State string }
		if json.Unmarshal(lines.Bytes(), &said) != nil {
			continue // cut short by a kill
		}
		p.mu.Lock()
		p.last = said.State
		p.changes++
		p.mu.Unlock()
	}
}

func (p *process) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

func (p *process) signal(sig syscall.Signal) {
	if !p.ended() {
		_ = p.cmd.Process.Signal(sig) // it may end at this moment
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// logs keeps the end of what is written to it.
type logs struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

const logBytes = 32 << 10

// Write keeps p.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if over := l.buf.Len() - logBytes; over > 0 {
		l.buf.Next(over)
	}
	return len(p), nil
}

// String is what it kept.
func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
