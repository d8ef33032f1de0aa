package dispatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/kafka"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

const (
	killedSends = 300
	kills       = 4
)

// TestKilledDispatcher runs itself as a child that delivers mails, kills it with SIGKILL at random
// moments and starts it again on the same journal. No send is missed; a channel that retries delivers
// each once after the receiver has dropped what has the same Message-ID; one that gives up makes at most
// one SMTP transaction a send.
func TestKilledDispatcher(t *testing.T) {
	if os.Getenv("DISPATCH_CHILD") != "" {
		deliverUntilKilled(t)
	}
	k, box := broker(t), newMailbox(t)
	var sends []*deliveryv1.Send
	for i := range killedSends {
		sends = append(sends, newSend(i, []string{"retry", "giveup"}[i%2], "mail"))
	}
	produce(t, k, sends...)
	dir := t.TempDir()
	for range kills {
		child, done := deliverInChild(t, k, box, dir)
		before := len(box.counts())
		// The kill comes while mails are coming in.
		goal := before + 1 + rand.IntN(killedSends/kills)
		require.Eventually(t, func() bool { return len(box.counts()) >= min(goal, killedSends-20) }, 20*time.Second, time.Millisecond)
		require.NoError(t, child.Process.Kill())
		<-done
	}
	child, done := deliverInChild(t, k, box, dir)
	outcomes := reports(t, k, killedSends)
	require.NoError(t, child.Process.Kill())
	<-done

	taken := box.counts()
	unknown := 0
	for i, send := range sends {
		id, reported := "<"+send.GetSendId()+"@sillage>", outcomes[send.GetSendId()]
		require.NotEmpty(t, reported)
		for _, o := range reported {
			require.Equal(t, reported[0].GetOutcomeId(), o.GetOutcomeId(), "reported again is reported alike")
		}
		switch kind := reported[0].GetType(); {
		case i%2 == 0:
			require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, kind)
			require.Positive(t, taken[id], "send %d was missed", i)
		case kind == deliveryv1.OutcomeType_OUTCOME_TYPE_UNKNOWN:
			unknown++
			require.LessOrEqual(t, taken[id], 1)
		default:
			require.Equal(t, deliveryv1.OutcomeType_OUTCOME_TYPE_DELIVERED, kind)
			require.Equal(t, 1, taken[id], "at most one transaction")
		}
	}
	require.LessOrEqual(t, unknown, kills*laneParallel, "only attempts under way are unknown")
}

func deliverInChild(t *testing.T, k kafka.Config, box *mailbox, dir string) (*exec.Cmd, <-chan struct{}) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledDispatcher$")
	child.Env = append(os.Environ(), "DISPATCH_CHILD="+strings.Join(append([]string{dir, box.addr}, k.Brokers...), " "))
	require.NoError(t, child.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = child.Wait() // it was killed
	}()
	t.Cleanup(func() {
		_ = child.Process.Kill()
		<-done
	})
	return child, done
}

// deliverUntilKilled is the child.
func deliverUntilKilled(t *testing.T) {
	args := strings.Fields(os.Getenv("DISPATCH_CHILD"))
	snapshot := definition.NewSnapshot(append(templates(),
		emailChannel("retry", args[1], definitionv1.Ambiguity_AMBIGUITY_RETRY),
		emailChannel("giveup", args[1], definitionv1.Ambiguity_AMBIGUITY_GIVE_UP))...)
	d := dispatcher(t, Config{
		Kafka: kafka.Config{Brokers: args[2:], Partitions: partitions}, JournalDir: args[0],
	}, definition.Static(snapshot))
	if err := d.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, <-d.Failed())
	os.Exit(1)
}

// TestAPartitionThatMovesIsNotDeliveredAgain: an instance that stops while one send waits and many behind
// it are done hands over to one on another machine; and a group that lost its offsets delivers nothing
// again.
func TestAPartitionThatMovesIsNotDeliveredAgain(t *testing.T) {
	k, box := broker(t), newMailbox(t)
	definitions := &provider{defs: append(templates(), emailChannel("email", box.addr, 0))}
	sends := []*deliveryv1.Send{newSend(0, "down", "mail"), newSend(1, "down", "mail")}
	definitions.add(emailChannel("down", "127.0.0.1:1", 0))
	for i := 2; i < 60; i++ {
		sends = append(sends, newSend(i, "email", "mail"))
	}
	produce(t, k, sends...)
	first := dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir()}, definitions)
	start(t, first)
	reports(t, k, 58)
	require.NoError(t, first.Stop(t.Context()))

	// Only now the channel works: its two sends held up the committed offset of what is done.
	definitions = &provider{defs: append(templates(), emailChannel("email", box.addr, 0), emailChannel("down", box.addr, 0))}
	second := dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir()}, definitions)
	start(t, second)
	reports(t, k, 60)
	require.NoError(t, second.Stop(t.Context()))

	forgetOffsets(t, k)
	third := dispatcher(t, Config{Kafka: k, JournalDir: t.TempDir()}, definitions)
	start(t, third)
	produce(t, k, newSend(60, "email", "mail"))
	reports(t, k, 61)
	require.Len(t, box.counts(), 61)
	for id, n := range box.counts() {
		require.Equal(t, 1, n, id)
	}
}
