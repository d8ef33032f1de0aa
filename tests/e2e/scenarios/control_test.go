package scenarios

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

const freshSource = `
kind: source
tenant: demo
name: app
spec:
  write_keys: [phone-key]
`

// wrong has a journey that waits for 45 min instead of 45m.
const wrong = `
kind: source
tenant: demo
name: never
spec:
  write_keys: [never-used-key]
---
kind: journey
tenant: demo
name: wrong
spec:
  entry: {event: {event: Seen}}
  steps:
    - {id: pause, wait: {for: 45 min}}
`

// TestDefinitions applies, reads and deletes definitions while the stack runs: right ones take effect at
// once, a wrong one is answered with its field and changes nothing.
func TestDefinitions(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{})
	s.Start()
	status := func(c require.TestingT, key string) int {
		answer, err := s.Post(context.Background(), key, "/v1/track", stack.Event{"userId": "u", "event": "Seen"})
		require.NoError(c, err)
		return answer.Code
	}
	require.Equal(t, http.StatusOK, status(t, "demo-key"), "the tenant demo of a fresh stack")
	require.Equal(t, http.StatusUnauthorized, status(t, "phone-key"))

	result := s.Execute(t, stack.Command{Args: []string{"apply", "--dry-run", "-f", "-"}, In: strings.NewReader(freshSource)})
	require.Equal(t, 0, result.Code, result.Err)
	require.Contains(t, result.Out, "dry run")
	require.Equal(t, 1, s.CLI(t, "get", "source", "app", "--tenant", "demo").Code, "a dry run changes something")

	s.Apply(t, freshSource)
	begun := time.Now()
	stack.Eventually(t, soon, "the new write key works", func(c *assert.CollectT) { require.Equal(c, http.StatusOK, status(c, "phone-key")) })
	t.Logf("a definition took effect within %s", time.Since(begun).Round(time.Millisecond))

	got := s.CLI(t, "get", "source", "app", "--tenant", "demo")
	require.Equal(t, 0, got.Code, got.Err)
	require.NotContains(t, got.Out, "phone-key", "a write key can be read back")
	again := s.Execute(t, stack.Command{Args: []string{"apply", "-f", "-"}, In: strings.NewReader(got.Out)})
	require.Equal(t, 0, again.Code, again.Err)
	require.Contains(t, again.Out, "version 1 unchanged", "what get prints applies as no change")
	for _, kind := range []string{"tenant", "source", "segment", "score", "journey", "channel", "template"} {
		listed := s.CLI(t, "get", kind, "--tenant", "demo")
		require.Equal(t, 0, listed.Code, listed.Err)
		require.Contains(t, listed.Out, "kind: "+kind)
	}

	refused := s.Execute(t, stack.Command{Args: []string{"apply", "-f", "-"}, In: strings.NewReader(wrong)})
	require.Equal(t, 1, refused.Code)
	require.Contains(t, refused.Err, "spec.steps[0].wait.for", "the field is named")
	require.Contains(t, refused.Err, `"45 min" is not a duration`, "the way out is named")
	require.Equal(t, 1, strings.Count(refused.Err, "is not a duration"), "said once: %s", refused.Err)
	require.Equal(t, 1, s.CLI(t, "get", "source", "never", "--tenant", "demo").Code, "half of a wrong file was applied")

	used := s.CLI(t, "delete", "template", "resume-application", "--tenant", "demo")
	require.Equal(t, 1, used.Code)
	require.Contains(t, used.Err, "loan-abandonment", "what refers to it is named")
	deleted := s.CLI(t, "delete", "source", "app", "--tenant", "demo")
	require.Equal(t, 0, deleted.Code, deleted.Err)
	stack.Eventually(t, soon, "the deleted source is refused", func(c *assert.CollectT) { require.Equal(c, http.StatusUnauthorized, status(c, "phone-key")) })
}
