package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/stream"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// letters are a cluster with the dead letters of two stages: two events of two tenants and a timer.
func letters(t *testing.T) string {
	t.Helper()
	cluster := kafkatest.StartCluster(t, kfake.SeedTopics(1, "identity-resolver.dlq", "identity-resolver.replay", "journeys.dlq", "journeys.replay", "scoring.dlq", "scoring.replay"))
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	header := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	for i, tenant := range []string{"bank", "shop"} {
		value, err := (&eventv1.Event{Tenant: tenant, MessageId: "secret-message", Name: "Seen"}).MarshalVT()
		require.NoError(t, err)
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{
			Topic: "identity-resolver.dlq", Key: []byte(tenant + "/user_id:secret-person"), Value: value, Headers: []kgo.RecordHeader{
				header(stream.HeaderClass, "error"), header(stream.HeaderReason, fmt.Sprintf("resolving: %q is number %d", "secret-value", 17+i)),
				header(stream.HeaderTopic, "events.v1"), header(stream.HeaderPartition, "0"), header(stream.HeaderOffset, fmt.Sprint(4+i)), header(stream.HeaderTimestamp, "1000"),
				header("own", "secret-header"),
			},
		}).FirstErr())
	}
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{
		Topic: "journeys.dlq", Key: []byte("bank/secret-person"), Value: []byte("secret-payload"), Headers: []kgo.RecordHeader{
			header(stream.HeaderClass, "panic"), header(stream.HeaderReason, "panic: no"), header(stream.HeaderPartition, "0"), header(stream.HeaderTimestamp, "1000"),
			header(stream.HeaderTimer, "secret-timer"), header(stream.HeaderTimerDue, "2000"),
		},
	}).FirstErr())
	return cluster.ListenAddrs()[0]
}

// command runs a command line and returns its exit code and what it wrote.
func command(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Main(args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestDeadLettersOnTheCommandLine(t *testing.T) {
	broker := letters(t)
	run := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := command(append(append([]string{"dlq"}, args...), "--kafka", broker)...)
		require.Equal(t, want, code, "%s%s", out, errs)
		return out + errs
	}
	for _, args := range [][]string{{"ls"}, {"ls", "--json"}, {"show", "identity-resolver"}, {"show", "identity-resolver", "--json"}, {"show", "journeys"}, {"replay", "journeys", "--all", "--dry-run"}} {
		require.NotContains(t, run(0, args...), "secret", "personal data without being asked for: %v", args)
	}
	list := run(0, "ls")
	require.Contains(t, list, `2 × error: resolving: "…" is number #`)
	require.Contains(t, list, "1 × panic: "+"panic: no")
	require.NotContains(t, list, "scoring", "it has none")

	require.Contains(t, run(0, "show", "identity-resolver"), "from events.v1 0/4  tenant bank")
	bank := run(0, "show", "identity-resolver", "--tenant", "bank", "--json", "--payload")
	var view letterView
	require.NoError(t, json.Unmarshal([]byte(bank), &view), bank)
	require.Equal(t, "bank/user_id:secret-person", view.Payload.Key)
	require.Contains(t, string(view.Payload.Value), "secret-message", "a known message is shown as JSON")
	require.Equal(t, []byte("secret-header"), view.Payload.Headers["own"])
	require.Equal(t, `resolving: "secret-value" is number 17`, view.Reason)
	timer := run(0, "show", "journeys", "--payload")
	require.Contains(t, timer, "timer due 1970-01-01 00:00:02")
	require.Contains(t, timer, `"secret-payload"`)
	require.Contains(t, run(0, "show", "identity-resolver", "--limit", "1"), "more than 1")
	require.Contains(t, run(0, "show", "identity-resolver", "--since", "2999-01-01T00:00:00Z"), "no such letters")
	require.Contains(t, run(0, "show", "identity-resolver", "--since", "1h", "--reason", "number 18"), "tenant shop")

	require.Contains(t, run(1, "replay", "identity-resolver"), "--all")
	require.Contains(t, run(0, "replay", "identity-resolver", "--tenant", "shop"), "1 put back, 0 had been before")
	require.Contains(t, run(0, "replay", "identity-resolver", "--all", "--dry-run"), "1 would be put back (dry run), 1 had been before")
	require.Contains(t, run(0, "replay", "identity-resolver", "--all"), "1 put back, 1 had been before")
	require.Contains(t, run(0, "replay", "journeys", "--place", "0/0"), "1 put back")
	require.Contains(t, run(0, "show", "identity-resolver"), "no such letters")
	require.Contains(t, run(0, "show", "identity-resolver", "--all"), "(put back)")
	require.Contains(t, run(1, "replay", "nobody", "--all"), `no stage named "nobody"`)
	require.Contains(t, run(1, "show", "journeys", "--since", "soon"), "--since")
	require.Contains(t, run(1, "show", "journeys", "--place", "4"), "partition/offset")
}

func TestDeadLettersWithoutKafka(t *testing.T) {
	code, _, errs := command("dlq", "ls", "--kafka", "127.0.0.1:1")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "sillage up")
	require.Contains(t, errs, "--kafka")
}
