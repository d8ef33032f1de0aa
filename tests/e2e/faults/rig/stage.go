package rig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
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

	run    *Run
	proc   *process.Process
	states *states // of this run
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
	cmd := exec.Command(built.Binary,
		"--brokers", strings.Join(i.run.Broker.Addrs, ","), "--prefix", i.run.Prefix, "--stage", i.Stage,
		"--data-dir", i.DataDir, "--instance", i.Name,
		"--session-timeout", i.run.Session.String(), "--transaction-timeout", i.run.Transaction.String(), "--max-batch", strconv.Itoa(i.run.MaxBatch))
	i.states = &states{}
	cmd.Stdout = i.states
	i.proc = process.Launch(i.run.t, cmd)
}

// Running says whether it has a process.
func (i *Instance) Running() bool { return i.proc != nil && !i.proc.Ended() }

// Kill is kill -9.
func (i *Instance) Kill() {
	i.run.t.Helper()
	require.True(i.run.t, i.Running(), "%s %s ended by itself:\n%s", i.Stage, i.Name, i.proc.Output())
	i.proc.Kill()
}

// Freeze is SIGSTOP, Thaw is SIGCONT.
func (i *Instance) Freeze() { i.proc.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (i *Instance) Thaw() { i.proc.Signal(syscall.SIGCONT) }

// Stop is SIGTERM; it waits for the end and fails the test if that is not in order.
func (i *Instance) Stop() {
	i.run.t.Helper()
	i.proc.Signal(syscall.SIGTERM)
	require.Equal(i.run.t, 0, i.proc.Wait(i.run.t, stopWithin), "%s %s ended badly:\n%s", i.Stage, i.Name, i.proc.Output())
}

// Ready says whether it said last that it is ready.
func (i *Instance) Ready() bool {
	i.states.mu.Lock()
	defer i.states.mu.Unlock()
	return i.states.last == "ready"
}

// Changes is how often it has said that it became ready or stopped being it.
func (i *Instance) Changes() int {
	i.states.mu.Lock()
	defer i.states.mu.Unlock()
	return i.states.changes
}

// Logged says whether it has logged a text since it started.
func (i *Instance) Logged(text string) bool { return strings.Contains(i.proc.Output(), text) }

// Complaints are the lines that it has logged as errors since it started.
func (i *Instance) Complaints() []string { return i.proc.Lines("level=ERROR") }

// WaitReady waits until it is ready.
func (i *Instance) WaitReady() {
	i.run.t.Helper()
	require.Eventually(i.run.t, func() bool { return i.Ready() || i.proc.Ended() }, readyWithin, 5*time.Millisecond, "%s %s is not ready", i.Stage, i.Name)
	require.True(i.run.t, i.Ready(), "%s %s ended:\n%s", i.Stage, i.Name, i.proc.Output())
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

// states takes what a stage says of itself: a line of JSON whenever it becomes ready or stops being it.
type states struct {
	mu      sync.Mutex // guards what follows
	rest    []byte     // the beginning of a line
	last    string
	changes int
}

// Write takes whole lines; one that a kill has cut short is left.
func (s *states) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, b...)
	for {
		line, rest, whole := bytes.Cut(s.rest, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		s.rest = rest
		var said struct{ State string }
		if json.Unmarshal(line, &said) == nil {
			s.last = said.State
			s.changes++
		}
	}
}
