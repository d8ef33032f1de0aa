package scenarios

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

// TestDeadLetters has one event that identity cannot pass on, because the profile log takes less than it
// needs, and one record that nobody can read. Both become dead letters and hold up nothing; the first is
// put back when the cause is mended, and is everywhere exactly once.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := stack.New(t, stack.Options{})
	s.Start()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(s.Ports.Kafka))
	require.NoError(t, err)
	defer kafka.Close()
	profileLog := func(maxBytes string) {
		_, err := kadm.NewClient(kafka).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &maxBytes}}, "profile.log.v1")
		require.NoError(t, err)
	}
	dlq := func(args ...string) string {
		result := s.CLI(t, append([]string{"dlq"}, args...)...)
		require.Equal(t, 0, result.Code, "%s%s", result.Out, result.Err)
		return result.Out
	}
	require.Contains(t, dlq("ls"), "no dead letters in 6 stages")

	events := func(c require.TestingT) int {
		return stack.One[struct{ N int }](c, s, "SELECT toInt32(count()) AS N FROM events WHERE user_id = 'u-1'").N
	}
	s.Send(t, "demo-key", stack.Event{"type": "track", "event": "Seen", "userId": "u-1", "messageId": "before"})
	stack.Eventually(t, soon, "the person is known", func(c *assert.CollectT) { require.Equal(c, 1, events(c)) })

	profileLog("4000")
	poison := &kgo.Record{Topic: "events.v1", Key: []byte("demo/user_id:nobody"), Value: []byte("no event")}
	require.NoError(t, kafka.ProduceSync(t.Context(), poison).FirstErr())
	s.Send(t, "demo-key",
		stack.Event{"type": "track", "event": "Seen", "userId": "u-1", "messageId": "large", "properties": stack.Event{"secret": incompressible(6000)}},
		stack.Event{"type": "track", "event": "Seen", "userId": "u-1", "messageId": "after"})
	stack.Eventually(t, soon, "two letters", func(c *assert.CollectT) {
		result := s.CLI(c, "dlq", "ls")
		require.Contains(c, result.Out, "1 × misuse: emitting to profile.log")
		require.Contains(c, result.Out, "1 × error: ")
	})
	stack.Eventually(t, soon, "the others go on", func(c *assert.CollectT) { require.Equal(c, 2, events(c)) })
	metrics, _ := s.Get(t, "http://"+s.Ports.Ops+"/metrics")
	require.Regexp(t, `sillage_stream_dead_letters_total\{class="misuse",[^}]*topology="identity-resolver"\} 1`, metrics)
	require.Contains(t, metrics, "sillage_stream_stalled_seconds")
	for _, shown := range []string{dlq("show", "identity-resolver"), dlq("show", "identity-resolver", "--json")} {
		require.Equal(t, 2, strings.Count(shown, "events.v1"))
		require.NotContains(t, shown, incompressible(64))
		require.NotContains(t, shown, "u-1")
	}
	require.Contains(t, dlq("show", "identity-resolver", "--class", "misuse", "--payload"), `"messageId":"large"`)

	profileLog("1048588")
	// The stage learns of the new limit within seconds; until then the letter comes back as another one.
	stack.Eventually(t, time.Minute, "the event is put back and passes", func(c *assert.CollectT) {
		result := s.CLI(c, "dlq", "replay", "identity-resolver", "--class", "misuse")
		require.Equal(c, 0, result.Code, result.Err)
		require.Equal(c, 3, events(c))
	})
	require.Contains(t, dlq("replay", "identity-resolver", "--class", "misuse"), "identity-resolver: 0 put back")
	require.Contains(t, dlq("replay", "identity-resolver", "--all"), "identity-resolver: 1 put back", "what nobody can read, once more")
	stack.Eventually(t, soon, "all is counted once", func(c *assert.CollectT) {
		require.Equal(c, 3, events(c))
		require.EqualValues(c, 3, s.Profile(c, "demo", "user_id", "u-1").GetEvents())
		require.Zero(c, stack.One[struct{ N int }](c, s, `SELECT toInt32(sum(difference)) AS N FROM ledger_balance`).N)
		require.Contains(c, s.CLI(c, "dlq", "ls").Out, "1 × error: ")
	})
}

// incompressible is text that takes as much room in a batch as it has letters.
func incompressible(n int) string {
	var text strings.Builder
	for i := 0; text.Len() < n; i++ {
		fmt.Fprintf(&text, "%x", sha256.Sum256([]byte{byte(i)}))
	}
	return text.String()[:n]
}
