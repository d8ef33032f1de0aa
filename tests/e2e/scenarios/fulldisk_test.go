package scenarios

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// diskBytes is the size of the disk that is filled.
const diskBytes = 600 << 20

// TestFullDisk fills the disk of the data directory under traffic. What is not stored is not
// acknowledged, one message says what is wrong, and with room again everything acknowledged is there.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		t.Logf("not run: a small disk cannot be mounted here (%v); run as root", err)
		return
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	s := stack.New(t, stack.Options{DataDir: filepath.Join(disk, "data")})
	s.Start()
	f := &fullDisk{t: t, stack: s}
	for range 200 {
		require.Equal(t, http.StatusOK, f.post())
	}
	// What was taken is still on its way to its stores when the last byte is gone.
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	stack.Eventually(t, soon, "events are refused or the process ends", func(c *assert.CollectT) {
		require.True(c, s.Process().Ended() || f.post() != http.StatusOK, "%d events are taken by a full disk", len(f.acked))
	})
	t.Logf("%d events were taken; ended: %v", len(f.acked), s.Process().Ended())
	stack.Eventually(t, soon, "the full disk is named", func(c *assert.CollectT) {
		require.Contains(c, s.Process().Output(), "less than the 256 MiB it keeps free")
	})
	require.NotContains(t, s.Process().Output(), "goroutine ", "it panics")
	require.Less(t, strings.Count(s.Process().Output(), "\n"), 200, "the message is repeated without end")

	require.NoError(t, os.Remove(ballast))
	if s.Process().Ended() {
		s.Start()
	}
	stack.Eventually(t, soon, "events are taken again", func(c *assert.CollectT) { require.Equal(c, http.StatusOK, f.post()) })
	stack.Eventually(t, soon, "what was acknowledged is there, once", func(c *assert.CollectT) {
		type row struct{ Rows, Messages, Acked int }
		got := stack.One[row](c, s, fmt.Sprintf(`SELECT toInt32(count()) AS Rows, toInt32(uniqExact(message_id)) AS Messages,
			toInt32(countIf(has([%s], message_id))) AS Acked FROM events WHERE tenant = 'demo'`, f.ids()))
		require.Equal(c, len(f.acked), got.Acked)
		require.Equal(c, got.Rows, got.Messages)
	})
	_, code := s.Get(t, "http://"+s.Ports.Ops+"/readyz")
	require.Equal(t, http.StatusOK, code)
	s.Terminate()
}

// fill writes to a file until there is no room left.
func fill(t *testing.T, name string) {
	file, err := os.Create(name)
	require.NoError(t, err)
	for block := make([]byte, 64<<10); err == nil; {
		_, err = file.Write(block)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, file.Close())
}

// fullDisk posts events and notes which were acknowledged.
type fullDisk struct {
	t     *testing.T
	stack *stack.Stack
	sent  int
	acked []string
}

// post sends one event and returns the answer's status; 0 if there is no answer.
func (f *fullDisk) post() int {
	f.sent++
	id := fmt.Sprintf("d-%d", f.sent)
	answer, err := f.stack.Post(context.Background(), "demo-key", "/v1/track", stack.Event{
		"userId": fmt.Sprintf("u-%d", f.sent%20), "event": "Seen", "messageId": id,
		"properties": stack.Event{"text": strings.Repeat("x", 20_000)}})
	if err != nil {
		require.NotErrorIs(f.t, err, context.DeadlineExceeded, "no answer in time")
		return 0
	}
	if answer.Code == http.StatusOK {
		f.acked = append(f.acked, id)
	}
	return answer.Code
}

func (f *fullDisk) ids() string { return "'" + strings.Join(f.acked, "','") + "'" }
