package stack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
)

const (
	// ReadyWithin bounds a start, the restore of state included, on a busy machine.
	ReadyWithin = 2 * time.Minute
	// StopWithin bounds a stop after SIGTERM.
	StopWithin = time.Minute
	tick       = 100 * time.Millisecond
)

// Ports are the addresses of one stack.
type Ports struct{ HTTP, GRPC, Ops, SQL, Kafka, SMTP string }

// Options change a stack from everything embedded in a new data directory.
type Options struct {
	// DataDir is the data directory; empty: a new one that goes with the test.
	DataDir string
	// Flags are added to `sillage up`.
	Flags []string
	// Env is added to the environment, as NAME=value.
	Env []string
}

// Stack is one `sillage up` with its surfaces.
type Stack struct {
	Ports   Ports
	DataDir string
	// Client sends what Post sends.
	Client *http.Client

	t       testing.TB
	options Options
	conn    *grpc.ClientConn
	process *process.Process
}

// New takes free ports; nothing runs yet. What still runs when the test ends is killed.
func New(t testing.TB, options Options) *Stack {
	t.Helper()
	ports := FreePorts(t, 6)
	s := &Stack{
		t: t, options: options, DataDir: options.DataDir,
		Ports:  Ports{HTTP: ports[0], GRPC: ports[1], Ops: ports[2], SQL: ports[3], Kafka: ports[4], SMTP: ports[5]},
		Client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	if s.DataDir == "" {
		s.DataDir = filepath.Join(t.TempDir(), "data")
	}
	conn, err := grpc.NewClient(s.Ports.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	s.conn = conn
	t.Cleanup(func() {
		s.Kill()
		s.Client.CloseIdleConnections()
		require.NoError(t, conn.Close())
	})
	return s
}

// Launch runs `sillage up` and does not wait for anything.
func (s *Stack) Launch() *process.Process {
	s.t.Helper()
	s.process = process.Launch(s.t, s.command(append(s.upFlags(), s.options.Flags...)...))
	return s.process
}

// Start runs `sillage up` and waits until it is ready.
func (s *Stack) Start() {
	s.t.Helper()
	up := s.Launch()
	require.Eventually(s.t, func() bool { return up.Ended() || s.ready() }, ReadyWithin, tick,
		"sillage up is not ready")
	require.Falsef(s.t, up.Ended(), "sillage up ended instead of getting ready:\n%s", up.Output())
}

func (s *Stack) ready() bool { return readyAt(s.Ports.Ops) }

// readyAt asks an operations port.
func readyAt(ops string) bool {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ops + "/readyz")
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (s *Stack) Kill() {
	if s.process != nil {
		s.process.Kill()
	}
}

// Process is the run that was launched last.
func (s *Stack) Process() *process.Process { return s.process }

// Terminate ends the process with SIGTERM, and fails the test if it does not end well in time.
func (s *Stack) Terminate() {
	s.t.Helper()
	s.process.Signal(syscall.SIGTERM)
	require.Equalf(s.t, 0, s.process.Wait(s.t, StopWithin), "sillage up ended badly:\n%s", s.process.Output())
}

func (s *Stack) upFlags() []string {
	return []string{
		"up", "--data-dir", s.DataDir, "--http-addr", s.Ports.HTTP, "--grpc-addr", s.Ports.GRPC, "--ops-addr", s.Ports.Ops,
		"--clickhouse-listen", s.Ports.SQL, "--kafka-listen", s.Ports.Kafka, "--smtp-addr", s.Ports.SMTP,
	}
}

// command is a sillage with an environment that holds no setting but the test's own.
func (s *Stack) command(args ...string) *exec.Cmd {
	cmd := exec.Command(built.Binary, args...)
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !strings.HasPrefix(name, "SILLAGE_") || name == "SILLAGE_CLICKHOUSE_LIB" {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, s.options.Env...)
	cmd.Dir = built.Root
	return cmd
}

// Eventually fails the test if the condition still fails after the time; it names what was waited for
// and prints the last failure. It notes how long it waited: a wait that grows tells of what will fail.
func Eventually(t testing.TB, within time.Duration, what string, condition func(c *assert.CollectT)) {
	t.Helper()
	begun := time.Now()
	require.EventuallyWithT(t, condition, within, tick, "waiting until %s", what)
	t.Logf("%s: after %s", what, time.Since(begun).Round(time.Millisecond))
}

// FreePorts returns addresses on 127.0.0.1 that nobody listens on. They lie below the range from which
// the system takes ports for outgoing connections, so that none is taken while a stack is down.
func FreePorts(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for tries := 0; len(addrs) < n; tries++ {
		require.Less(t, tries, 1000, "no free ports between 20000 and 32000")
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		require.NoError(t, listener.Close())
		addrs = append(addrs, addr)
	}
	return addrs
}

// Seed is the seed of a test: from SILLAGE_TEST_SEED if it is set, else a new one. It is printed.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if text := os.Getenv("SILLAGE_TEST_SEED"); text != "" {
		_, err := fmt.Sscan(text, &seed)
		require.NoError(t, err, "reading SILLAGE_TEST_SEED")
	}
	t.Logf("seed %d (SILLAGE_TEST_SEED=%d runs it again)", seed, seed)
	return seed
}
