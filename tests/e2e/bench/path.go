package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/topics"
	segmentv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/segment/v1"
)

// demoKey is the write key of the example definitions that a fresh stack begins with: seven segments, two
// scores and two journeys are at work on every event.
const demoKey = "demo-key"

// pathSenders is how many clients feed the whole path.
const pathSenders = 8

// WholePath measures P16 and P8 on a real process: events over HTTP until ClickHouse holds them all, then,
// at light load, how long a membership takes. It runs once: minutes of steady work say more than pairs,
// and there is no baseline.
func WholePath(ctx context.Context, o Options) (rows []Row, err error) {
	dir, remove, err := folder(o, "path")
	if err != nil {
		return nil, err
	}
	defer remove()
	p, err := startProcess(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	client, err := kgo.NewClient(append(kafka.Config{Brokers: []string{p.kafka}, Partitions: partitions}.Options(quiet),
		kgo.ConsumeTopics(topics.Segments), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	throughput, err := p.flood(ctx, o, kadm.NewClient(client))
	if err != nil {
		return nil, err
	}
	latency, err := p.latency(ctx, o, client)
	return append(throughput, latency...), err
}

// flood sends o.Events events as fast as they are taken.
func (p *process) flood(ctx context.Context, o Options, admin *kadm.Client) ([]Row, error) {
	before, err := p.used()
	if err != nil {
		return nil, err
	}
	var sent, accepted atomic.Int64
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Minute, errors.New("the whole path took more than ten minutes"))
	defer cancel()
	var group errgroup.Group
	var ingested time.Duration
	group.Go(func() error {
		err := p.feed(ctx, int64(o.Events), &sent, &accepted)
		ingested = time.Since(begun)
		return err
	})
	fed := make(chan error, 1)
	go func() { fed <- group.Wait() }()
	done, stored := false, 0
	report := time.Now()
	// Asking often would be a load of its own.
	err = wait(ctx, 200*time.Millisecond, func() (bool, error) {
		select {
		case err := <-fed:
			if err != nil {
				return false, err
			}
			done = true
		default:
		}
		var err error
		if stored, err = p.count(ctx, "SELECT count() FROM events WHERE NOT internal"); err != nil {
			return false, err
		}
		if time.Since(report) > 2*time.Second {
			report = time.Now()
			fmt.Fprintf(o.Progress, "P16 %3.0fs  accepted %d  stored %d  %s\n", time.Since(begun).Seconds(), accepted.Load(), stored, lags(ctx, admin))
		}
		return done && stored >= int(accepted.Load()), p.alive()
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	after, err := p.used()
	if err != nil {
		return nil, err
	}
	_, most, err := p.memory()
	if err != nil {
		return nil, err
	}
	if stored != int(accepted.Load()) {
		return nil, fmt.Errorf("%d events were accepted and %d are stored", accepted.Load(), stored)
	}
	n := float64(stored)
	return []Row{
		{Figure: "P16", What: fmt.Sprintf("the whole path, one process: %d events over HTTP until the last row is in ClickHouse", stored),
			Unit: "events/s", Target: "≥ 10 k", Ours: []Sample{{Value: n / took.Seconds(), CPU: float64((after - before).Microseconds()) / n}},
			Note: fmt.Sprintf("%.0f s of CPU, at most %d MiB resident", (after - before).Seconds(), most)},
		{Figure: "P16", What: "the same, until the last is acknowledged", Unit: "events/s", Ours: []Sample{{Value: n / ingested.Seconds()}}},
	}, nil
}

// feed sends batches of about a hundred calls from several clients until there are n.
func (p *process) feed(ctx context.Context, n int64, sent, accepted *atomic.Int64) error {
	visitors := make([]*people, pathSenders)
	last := make([]int64, pathSenders)
	for i := range visitors {
		visitors[i] = newPeople(uint64(i), fmt.Sprintf("s%d", i))
	}
	l := load{addr: p.http, connections: pathSenders, next: func(c, _ int) []byte {
		accepted.Add(last[c]) // the answer to the one before has come
		last[c] = 0
		if sent.Load() >= n {
			return nil
		}
		body, calls := visitors[c].batch(100)
		last[c] = int64(calls)
		sent.Add(int64(calls))
		return request("/v1/batch", demoKey, body)
	}}
	_, err := l.run(ctx)
	return err
}

// lags is how far each stage is behind.
func lags(ctx context.Context, admin *kadm.Client) string {
	groups, err := admin.Lag(ctx)
	if err != nil {
		return "the lag is not known now"
	}
	var text []string
	for _, group := range groups.Sorted() {
		if behind := group.Lag.Total(); behind > 0 {
			text = append(text, fmt.Sprintf("%s -%d", strings.TrimPrefix(group.Group, "sillage."), behind))
		}
	}
	return strings.Join(text, "  ")
}

// count is the number that a query gives.
func (p *process) count(ctx context.Context, query string) (int, error) {
	target := "http://" + p.sql + "/?" + url.Values{"database": {"sillage"}, "query": {query}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, fmt.Errorf("making a query: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("asking ClickHouse: %w", err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, fmt.Errorf("reading ClickHouse's answer: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("ClickHouse answers %q: %w", text, err)
	}
	return n, nil
}

// The light load of P8: so many events, one at a time, so far apart.
const (
	lightEvents = 200
	lightEvery  = 20 * time.Millisecond
)

// latency measures from the acknowledgement of an event to the moment that the membership which it brings
// about can be read from Kafka, committed.
func (p *process) latency(ctx context.Context, o Options, client *kgo.Client) ([]Row, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("memberships did not come within a minute"))
	defer cancel()
	var mu sync.Mutex // guards acknowledged
	acknowledged := map[string]time.Time{}
	var took []time.Duration
	var group errgroup.Group
	group.Go(func() error { return p.trickle(ctx, &mu, acknowledged) })
	seen := map[string]time.Time{}
	for len(seen) < lightEvents {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, errors.Join(fmt.Errorf("reading memberships: %w", err), group.Wait())
		}
		now := time.Now()
		var failure error
		fetches.EachRecord(func(r *kgo.Record) {
			var m segmentv1.MembershipChanged
			failure = errors.Join(failure, m.UnmarshalVT(r.Value))
			if m.GetSegment() == "customers" && strings.HasPrefix(m.GetCauseId(), "light-") {
				seen[m.GetCauseId()] = now
			}
		})
		if failure != nil {
			return nil, fmt.Errorf("decoding a membership: %w", failure)
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for id, at := range seen {
		took = append(took, max(0, at.Sub(acknowledged[id])))
	}
	slices.Sort(took)
	fmt.Fprintf(o.Progress, "P8 %d memberships, p50 %.1f ms, p99 %.1f ms\n", len(took), percentile(took, 50), percentile(took, 99))
	what := fmt.Sprintf("event acknowledged → membership readable in Kafka, %d events at %d/s", lightEvents, time.Second/lightEvery)
	return []Row{
		{Figure: "P8", What: what + ", p50", Unit: "ms", Ours: []Sample{{Value: percentile(took, 50)}}},
		{Figure: "P8", What: what + ", p99", Unit: "ms", Target: "≤ 1000", Ours: []Sample{{Value: percentile(took, 99)}}},
	}, nil
}

// trickle sends purchases, each by somebody new, and notes when they were acknowledged.
func (p *process) trickle(ctx context.Context, mu *sync.Mutex, acknowledged map[string]time.Time) error {
	ticker := time.NewTicker(lightEvery)
	defer ticker.Stop()
	id := ""
	l := load{addr: p.http, connections: 1, next: func(_, i int) []byte {
		mu.Lock()
		acknowledged[id] = time.Now()
		mu.Unlock()
		if i == lightEvents {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		id = fmt.Sprint("light-", i)
		return request("/v1/track", demoKey, fmt.Appendf(nil, `{"event":"Loan Subscribed","anonymousId":"light-v%d","messageId":"%s","properties":{"value":900}}`, i, id))
	}}
	_, err := l.run(ctx)
	return err
}
