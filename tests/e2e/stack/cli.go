package stack

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// Result is what a command did.
type Result struct {
	Code     int
	Out, Err string
}

// Command is one run of the command line.
type Command struct {
	// Args are the command and its arguments, without addresses.
	Args []string
	// In is its standard input; nil: empty.
	In io.Reader
	// Within bounds it; 0: a minute.
	Within time.Duration
}

// addresses are the flags by which each command finds the stack.
func (s *Stack) addresses(args []string) []string {
	switch args[0] {
	case "apply", "get", "delete", "profile", "tail":
		return []string{"--grpc", s.Ports.GRPC}
	case "import":
		return []string{"--url", "http://" + s.Ports.HTTP}
	case "sql":
		return []string{"--clickhouse", s.Ports.SQL}
	case "ledger":
		return []string{"--kafka", s.Ports.Kafka, "--clickhouse", s.Ports.SQL}
	case "dlq":
		return []string{"--kafka", s.Ports.Kafka}
	case "plan":
		if slices.Contains(args, "replay") {
			return []string{"--grpc", s.Ports.GRPC, "--kafka", s.Ports.Kafka}
		}
		return []string{"--clickhouse", s.Ports.SQL}
	case "outbox":
		return []string{"--data-dir", s.DataDir}
	default:
		return nil
	}
}

// CLI runs a command of the command line against the stack and waits for its end.
func (s *Stack) CLI(t require.TestingT, args ...string) Result {
	return s.Execute(t, Command{Args: args})
}

// Execute is CLI with more to say.
func (s *Stack) Execute(t require.TestingT, c Command) Result {
	if c.Within == 0 {
		c.Within = time.Minute
	}
	var out, errs bytes.Buffer
	cmd := s.command(append(c.Args, s.addresses(c.Args)...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.In, &out, &errs
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(c.Within, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // the state stands in cmd.ProcessState
	require.Truef(t, timer.Stop(), "sillage %s did not end within %s:\n%s%s", strings.Join(c.Args, " "), c.Within, &out, &errs)
	return Result{Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String()}
}

// Apply applies definitions given as YAML and fails the test if they are refused.
func (s *Stack) Apply(t require.TestingT, yaml string) {
	result := s.Execute(t, Command{Args: []string{"apply", "-f", "-"}, In: strings.NewReader(yaml)})
	require.Equalf(t, 0, result.Code, "applying definitions: %s%s", result.Out, result.Err)
}
