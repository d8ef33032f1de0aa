package stack

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
)

// Service is one service of the stack as a process of its own, beside `sillage up`.
type Service struct {
	// HTTP and Ops are its addresses; they stay the same over restarts.
	HTTP, Ops string

	t       testing.TB
	stack   *Stack
	binary  string
	env     []string
	process *process.Process
}

// BuildService builds the binary of a service for the test and returns its path.
func BuildService(t testing.TB, name string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	require.NoError(t, process.Build(built.Root, "./services/"+name+"/cmd/"+name, binary))
	return binary
}

// Service prepares a service that uses the stack's Kafka, on ports of its own; nothing runs yet.
func (s *Stack) Service(t testing.TB, binary string) *Service {
	t.Helper()
	ports := FreePorts(t, 3)
	return &Service{HTTP: ports[0], Ops: ports[1], t: t, stack: s, binary: binary, env: []string{
		"SILLAGE_PROCESS__HTTP__ADDR=" + ports[0], "SILLAGE_PROCESS__OPS__ADDR=" + ports[1], "SILLAGE_PROCESS__GRPC__ADDR=" + ports[2],
		"SILLAGE_PROCESS__KAFKA__BROKERS=" + s.Ports.Kafka, "SILLAGE_PROCESS__DATA_DIR=" + t.TempDir(),
	}}
}

// Start runs the service and waits until it is ready.
func (v *Service) Start() {
	v.t.Helper()
	cmd := v.stack.command()
	cmd.Path, cmd.Args = v.binary, []string{v.binary}
	cmd.Env = append(cmd.Env, v.env...)
	v.process = process.Launch(v.t, cmd)
	require.Eventually(v.t, func() bool { return v.process.Ended() || readyAt(v.Ops) }, ReadyWithin, tick, "%s is not ready", filepath.Base(v.binary))
	require.Falsef(v.t, v.process.Ended(), "%s ended instead of getting ready:\n%s", filepath.Base(v.binary), v.process.Output())
}

// Terminate ends it with SIGTERM, and fails the test if it does not end well in time.
func (v *Service) Terminate() {
	v.t.Helper()
	v.process.Signal(syscall.SIGTERM)
	require.Equalf(v.t, 0, v.process.Wait(v.t, StopWithin), "%s ended badly:\n%s", filepath.Base(v.binary), v.process.Output())
}

// Complaints are the lines that it has logged as errors since it started.
func (v *Service) Complaints() []string { return v.process.Lines(`"level":"ERROR"`) }
