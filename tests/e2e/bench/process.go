package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is `sillage up` on ports and a data directory of its own.
type process struct {
	cmd                         *exec.Cmd
	done                        chan struct{}
	http, ops, sql, kafka, grpc string
	log                         string
}

// freePorts lie below those that the system gives to outgoing connections.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return nil, fmt.Errorf("looking for free ports: %w", err)
		}
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, errors.New("there are no free ports between 20000 and 32000")
}

// startProcess runs the binary and waits until it is ready.
func startProcess(ctx context.Context, o Options, dir string) (p *process, err error) {
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	p = &process{done: make(chan struct{}), http: ports[0], grpc: ports[1], ops: ports[2], sql: ports[3], kafka: ports[4], log: filepath.Join(dir, "log")}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("making the log of the process: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	p.cmd = exec.Command(o.Binary, "up", "--data-dir", filepath.Join(dir, "data"), "--http-addr", p.http, "--grpc-addr", p.grpc,
		"--ops-addr", p.ops, "--clickhouse-listen", p.sql, "--kafka-listen", p.kafka, "--smtp-addr", ports[5])
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s (make build makes it): %w", o.Binary, err)
	}
	go func(cmd *exec.Cmd, done chan<- struct{}) {
		defer close(done)
		_ = cmd.Wait() // the state stands in p.cmd
	}(p.cmd, p.done)
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("sillage up is not ready within a minute"))
	defer cancel()
	err = wait(ctx, 50*time.Millisecond, func() (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		resp, err := http.Get("http://" + p.ops + "/readyz")
		if err != nil {
			return false, nil //nolint:nilerr // not listening yet
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *process) alive() error {
	select {
	case <-p.done:
		text, _ := os.ReadFile(p.log) // what there is explains enough
		return fmt.Errorf("sillage up ended by itself:\n%s", text)
	default:
		return nil
	}
}

// stop ends the process, by force if it does not heed the signal.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	<-p.done
	timer.Stop()
	return nil
}

// used is the processor time of the process so far.
func (p *process) used() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time (it needs Linux): %w", err)
	}
	// The second field is the name in parentheses; user and system time are the 14th and 15th.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("reading the processor time: /proc/PID/stat is not as expected")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory is the resident memory now and at its highest, in MiB.
func (p *process) memory() (now, most int, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading the memory (it needs Linux): %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			now = kib >> 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			most = kib >> 10
		}
	}
	return now, most, nil
}
