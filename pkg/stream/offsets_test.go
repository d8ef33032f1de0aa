package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// slowly counts, and takes its time over each record.
type slowly struct{ counter }

func (s slowly) Process(ctx *Context, rec Record) error {
	<-time.After(4 * time.Millisecond)
	return s.counter.Process(ctx, rec)
}

// TestEveryInputIsCommitted: a transaction that takes no new records, only what the one before had no time
// for, commits where it stands in every input, not in the first alone. R14 found records of another input
// done twice after a restart on a machine under load.
func TestEveryInputIsCommitted(t *testing.T) {
	brokers := startKfake(t, "in", "in2", "out").ListenAddrs()
	top := counterTopology()
	top.Inputs = []string{"in", "in2"}
	top.New = func() Processor { return slowly{} }
	cfg := quickConfig(brokers, t.TempDir())
	cfg.CommitInterval = time.Millisecond
	const records = 100
	w := newWriter(t, brokers)
	for i := range records {
		w.send("in2", "k", fmt.Sprint("v", i)) // one partition, one poll, several transactions
	}
	w.flush()
	r := startRunner(t, top, cfg, testDeps(t))
	out := startTail(t, brokers, "out")
	out.waitFor(t, records)
	stopRunner(t, r)

	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	require.NoError(t, err)
	defer client.Close()
	offsets, err := kadm.NewClient(client).FetchOffsets(context.Background(), top.Group())
	require.NoError(t, err)
	committed := int64(0)
	for _, p := range offsets["in2"] {
		committed += max(0, p.At)
	}
	require.Equal(t, int64(records), committed)

	r = startRunner(t, top, cfg, testDeps(t))
	w.send("in2", "k", "last")
	w.flush()
	all := out.waitFor(t, records+1)
	require.Equal(t, fmt.Sprint("last=", records+1), string(all[records].Value))
	stopRunner(t, r)
	require.Len(t, out.all(), records+1)
}
