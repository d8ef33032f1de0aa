package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The crash tests run this test binary again, in one of these roles.
const (
	envRole = "SILLAGE_CRASH_ROLE"
	envDir  = "SILLAGE_CRASH_DIR"
	envAddr = "SILLAGE_CRASH_ADDR"
	envBare = "SILLAGE_CRASH_BARE"
	envFrom = "SILLAGE_CRASH_FROM"

	roleBroker   = "broker"
	roleAllInOne = "all-in-one"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(envRole); role {
	case "":
		os.Exit(m.Run())
	case roleBroker, roleAllInOne:
		if err := runChild(role); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
}

// runChild is the life of a child: it serves until its input ends, so that it
// never outlives the test.
func runChild(role string) error {
	b, err := Open(Config{
		DataDir:      os.Getenv(envDir),
		Addr:         os.Getenv(envAddr),
		Logger:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		SegmentBytes: 1 << 20, // many segments
		bare:         os.Getenv(envBare) != "",
	})
	if err != nil {
		return err
	}
	if err := b.Start(context.Background()); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "ready %s\n", b.Addr())
	if role == roleAllInOne {
		var from uint64
		if _, err := fmt.Sscan(os.Getenv(envFrom), &from); err != nil {
			return err
		}
		w := newWorkload(b.Addrs(), from)
		acks := bufio.NewWriterSize(os.Stdout, 8)
		w.acked = func(id uint64) {
			_ = binary.Write(acks, binary.LittleEndian, id) // the parent is gone: so are we, soon
			_ = acks.Flush()
		}
		if err := w.start(); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if role == roleAllInOne {
		return nil // its clients are at work: as good as killed
	}
	return b.Stop(context.Background())
}

// child is a running child process.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	addr  string
	log   *strings.Builder
}

type childOptions struct {
	role, dir, addr string
	bare            bool
	from            uint64
}

func startChild(t *testing.T, o childOptions) *child {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envRole+"="+o.role, envDir+"="+o.dir, envAddr+"="+o.addr, fmt.Sprintf("%s=%d", envFrom, o.from))
	if o.bare {
		cmd.Env = append(cmd.Env, envBare+"=1")
	}
	c := &child{cmd: cmd, log: &strings.Builder{}}
	cmd.Stderr = c.log
	c.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	c.out = bufio.NewReaderSize(out, 1<<16)
	require.NoError(t, cmd.Start())
	line, err := c.out.ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		require.NoError(t, err, "child: %s", c.log)
	}
	c.addr = strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	return c
}

// kill ends the child as kill -9 does and waits until it is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be gone already
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

// stop ends a broker cleanly.
func (c *child) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, c.stdin.Close())
	require.NoError(t, c.cmd.Wait(), "child: %s", c.log)
}

// acks reads the ids that an all-in-one child wrote until it died.
func (c *child) acks(each func(uint64)) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var buf [8]byte
		for {
			if _, err := io.ReadFull(c.out, buf[:]); err != nil {
				return
			}
			each(binary.LittleEndian.Uint64(buf[:]))
		}
	}()
	return done
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 30*time.Second, 2*time.Millisecond, what)
}
