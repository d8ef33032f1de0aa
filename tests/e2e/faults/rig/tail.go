package rig

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
)

// tail reads everything that is committed to the topics that a judge wants, from the beginning, and gives
// it to the judge.
type tail struct {
	client *kgo.Client
	judge  *oracle.Judge
	done   chan struct{}
	cancel context.CancelFunc

	mu       sync.Mutex // guards what follows
	position map[string]map[int32]int64
	err      error
}

func startTail(brokers []string, judge *oracle.Judge) (*tail, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(judge.Topics()...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers tell how far it has come when the last transaction was aborted.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		return nil, fmt.Errorf("making the client that reads: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	tl := &tail{client: client, judge: judge, done: make(chan struct{}), cancel: cancel, position: map[string]map[int32]int64{}}
	go tl.run(ctx)
	return tl, nil
}

func (tl *tail) run(ctx context.Context) {
	defer close(tl.done)
	for ctx.Err() == nil {
		fetches := tl.client.PollFetches(ctx)
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.Canceled) {
				tl.fail(fmt.Errorf("reading %s: %w", e.Topic, e.Err))
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				tl.judge.Add(r.Topic, r.Key, r.Value)
			}
		})
		tl.note(fetches)
	}
}

func (tl *tail) fail(err error) {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	tl.err = errors.Join(tl.err, err)
}

// note remembers how far the judge has been told.
func (tl *tail) note(fetches kgo.Fetches) {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	fetches.EachRecord(func(r *kgo.Record) {
		if tl.position[r.Topic] == nil {
			tl.position[r.Topic] = map[int32]int64{}
		}
		tl.position[r.Topic][r.Partition] = r.Offset + 1
	})
}

// atEnd says whether everything that is in the topics now has been read.
func (tl *tail) atEnd(ctx context.Context) (bool, error) {
	ends, err := kadm.NewClient(tl.client).ListEndOffsets(ctx, tl.judge.Topics()...)
	if err != nil {
		return false, fmt.Errorf("looking up the ends of the outputs: %w", err)
	}
	tl.mu.Lock()
	defer tl.mu.Unlock()
	if tl.err != nil {
		return false, tl.err
	}
	there := true
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil && o.Offset > tl.position[o.Topic][o.Partition] {
			there = false
		}
	})
	return there, ends.Error()
}

func (tl *tail) stop() {
	tl.cancel()
	<-tl.done
	tl.client.Close()
}
