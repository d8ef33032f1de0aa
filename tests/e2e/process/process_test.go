package process_test

import (
	"bytes"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/process"
)

const within = time.Minute

// TestOutput: both streams are kept, only the end of them, and standard output goes elsewhere if asked to.
func TestOutput(t *testing.T) {
	p := process.Launch(t, exec.Command("sh", "-c", "echo a word; echo another >&2; exit 3"))
	require.Equal(t, 3, p.Wait(t, within))
	require.True(t, p.Ended())
	require.Len(t, p.Lines("o"), 2)
	require.Equal(t, []string{"another\n"}, p.Lines("other"))

	p = process.Launch(t, exec.Command("sh", "-c", "yes | head -c 100000; echo end"))
	require.Zero(t, p.Wait(t, within))
	require.Len(t, p.Output(), 64<<10)
	require.True(t, strings.HasSuffix(p.Output(), "end\n"))

	var out bytes.Buffer
	cmd := exec.Command("sh", "-c", "echo there; echo here >&2")
	cmd.Stdout = &out
	p = process.Launch(t, cmd)
	require.Zero(t, p.Wait(t, within))
	require.Equal(t, "there\n", out.String())
	require.Equal(t, "here\n", p.Output())
}

// TestNoneIsLeft: a process is gone with its test, even one that is stopped.
func TestNoneIsLeft(t *testing.T) {
	var p *process.Process
	t.Run("runs", func(t *testing.T) {
		p = process.Launch(t, exec.Command("sleep", "1000"))
		p.Signal(syscall.SIGSTOP)
		require.False(t, p.Ended())
	})
	require.True(t, p.Ended())
	require.Equal(t, -1, p.Wait(t, within))
}
