package scenarios

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// TestDemo plays the demonstration at four times its usual speed: the import's totals must be exact, and
// every part of the story must happen.
func TestDemo(t *testing.T) {
	s := stack.New(t, stack.Options{})
	result := s.Execute(t, stack.Command{
		Within: 8 * time.Minute,
		Args: []string{
			"demo", "--people", "200", "--seed", "3", "--clock-speed", "240", "--data-dir", s.DataDir,
			"--http-addr", s.Ports.HTTP, "--grpc-addr", s.Ports.GRPC, "--ops-addr", s.Ports.Ops,
			"--clickhouse-listen", s.Ports.SQL, "--kafka-listen", s.Ports.Kafka, "--smtp-addr", s.Ports.SMTP,
		},
	})
	require.Equalf(t, 0, result.Code, "%s\n%s", result.Out, result.Err)
	for _, part := range []string{
		"All totals are exact", "9747747.93", "loan-abandoned", "cap:email-weekly", "holdout", "telephone", "email", "hold-out", "treated",
	} {
		require.Contains(t, result.Out, part)
	}
	require.Contains(t, result.Err, "seed 3")
	require.NotEmpty(t, s.Mails(t))

	again := s.Execute(t, stack.Command{Args: []string{"demo", "--data-dir", t.TempDir() + "/.."}})
	require.NotZero(t, again.Code)
	require.Contains(t, again.Err, "name an empty one with --data-dir")
}
