package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/server/httpserver"
	"github.com/sillage-cdp/sillage/pkg/topics"
)

// connections is how many clients send at once.
const connections = 64

// track is a track call as a browser sends it, about 1.1 kB.
func track(user, message string) string {
	return `{"timestamp":"2026-11-21T10:15:30.123Z","integrations":{},"type":"track","event":"Product Viewed","userId":"` + user +
		`","anonymousId":"anon-` + user + `","messageId":"` + message + `","sentAt":"2026-11-21T10:15:30.456Z","properties":{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","name":"Monopoly: 3rd Edition","brand":"Hasbro","variant":"200 pieces","price":18.99,"quantity":1,"coupon":"MAYDEALS","currency":"eur","position":3,"value":18.99,"url":"https://www.example.com/product/path","image_url":"https://www.example.com/product/path.jpg"},"context":{"page":{"path":"/product/path","referrer":"https://www.google.com/","search":"?q=monopoly","title":"Monopoly: 3rd Edition","url":"https://www.example.com/product/path?q=monopoly"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36","locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris","campaign":{"name":"spring","source":"newsletter","medium":"email"}}}`
}

// empty reads the body and answers as ingest does: what HTTP itself costs.
func empty(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"success":true}`))
}

// door is ingest and the empty handler, each behind the server that the product uses.
type door struct {
	broker        *broker
	ingest, empty *httpserver.Server
	stop          func() error
}

func openDoor(ctx context.Context, o Options) (*door, error) {
	b, err := startBroker(ctx, o)
	if err != nil {
		return nil, err
	}
	app, err := newIngest(ctx, b)
	if err != nil {
		return nil, errors.Join(err, b.stop())
	}
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	d := &door{
		broker: b,
		ingest: httpserver.New(httpserver.Config{Name: "ingest", Addr: "127.0.0.1:0"}, mux, quiet),
		empty:  httpserver.New(httpserver.Config{Name: "the empty handler", Addr: "127.0.0.1:0"}, http.HandlerFunc(empty), quiet),
	}
	d.stop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		return errors.Join(d.ingest.Stop(ctx), d.empty.Stop(ctx), app.Stop(ctx), b.stop())
	}
	if err := errors.Join(d.ingest.Start(ctx), d.empty.Start(ctx)); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// timed sends the same request for a while; events is how many events it holds. What a first moment
// costs (connections, producers) is not counted.
func timed(ctx context.Context, d time.Duration, l load, raw []byte, events int) (rate Sample, sorted []time.Duration, err error) {
	for _, span := range []time.Duration{d / 5, d} {
		until, watch := time.Now().Add(span), startWatch()
		l.next = func(int, int) []byte {
			if time.Now().After(until) {
				return nil
			}
			return raw
		}
		if sorted, err = l.run(ctx); err != nil {
			return Sample{}, nil, err
		}
		rate = watch.rate(len(sorted) * events)
	}
	return rate, sorted, nil
}

// Single measures P1 and P2: one event a request over 64 connections.
func Single(ctx context.Context, o Options) (rows []Row, err error) {
	d, err := openDoor(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	raw := request("/v1/track", writeKey, []byte(track("user-1", "ajs-next-1763719-0b5a6f9e")))
	var p50, p99 [2][]Sample
	at := func(i int, s *httpserver.Server) func(context.Context) (Sample, error) {
		return func(ctx context.Context) (Sample, error) {
			rate, sorted, err := timed(ctx, o.Duration, load{addr: s.Addr(), connections: connections}, raw, 1)
			p50[i] = append(p50[i], Sample{Value: percentile(sorted, 50)})
			p99[i] = append(p99[i], Sample{Value: percentile(sorted, 99)})
			return rate, err
		}
	}
	got, err := series(ctx, o, "P1", turn{"ingest", at(0, d.ingest)}, turn{"empty handler", at(1, d.empty)})
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("one event a request, %d connections, answered after Kafka's acknowledgement", connections)
	return []Row{
		{Figure: "P1", What: what, Unit: "requests/s", Against: "empty handler", Target: "≥ 0.35", Ours: got[0], Baseline: got[1]},
		{Figure: "P2", What: "the same, p50", Unit: "ms", Against: "empty handler", Ours: p50[0], Baseline: p50[1]},
		{Figure: "P2", What: "the same, p99", Unit: "ms", Against: "empty handler", Target: "≤ 2", Ours: p99[0], Baseline: p99[1]},
	}, nil
}

// batchSenders is how many clients send batches at once; raw produce has as many.
const batchSenders = 16

// Batches measures P3: a hundred events a request, against single events and against producing the same
// records without HTTP, JSON and checks.
func Batches(ctx context.Context, o Options) (rows []Row, err error) {
	const size = 100
	d, err := openDoor(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	items := make([]string, size)
	for i := range items {
		items[i] = track(fmt.Sprintf("user-%d", i), fmt.Sprintf("ajs-next-1763719-%d", i))
	}
	batch := request("/v1/batch", writeKey, []byte(`{"batch":[`+strings.Join(items, ",")+`]}`))
	single := request("/v1/track", writeKey, []byte(items[0]))
	records, err := d.recordsOf(ctx, batch, size)
	if err != nil {
		return nil, err
	}
	got, err := series(ctx, o, "P3",
		turn{"batches", func(ctx context.Context) (Sample, error) {
			rate, _, err := timed(ctx, o.Duration, load{addr: d.ingest.Addr(), connections: batchSenders}, batch, size)
			return rate, err
		}},
		turn{"single events", func(ctx context.Context) (Sample, error) {
			rate, _, err := timed(ctx, o.Duration, load{addr: d.ingest.Addr(), connections: connections}, single, 1)
			return rate, err
		}},
		turn{"raw produce", func(ctx context.Context) (Sample, error) { return d.broker.produce(ctx, o.Duration, records) }})
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("batches of %d from %d clients", size, batchSenders)
	return []Row{
		{Figure: "P3", What: what, Unit: "events/s", Against: "own single events", Target: "≥ 5", Ours: got[0], Baseline: got[1]},
		{Figure: "P3", What: what, Unit: "events/s", Against: "raw produce", Target: "≥ 0.35", Ours: got[0], Baseline: got[2]},
	}, nil
}

// recordsOf sends a request once and reads the records that it became.
func (d *door) recordsOf(ctx context.Context, raw []byte, n int) ([]*kgo.Record, error) {
	once := load{addr: d.ingest.Addr(), connections: 1, next: func(_, i int) []byte {
		if i > 0 {
			return nil
		}
		return raw
	}}
	if _, err := once.run(ctx); err != nil {
		return nil, err
	}
	reader, err := kgo.NewClient(append(d.broker.kafka.Options(quiet), kgo.ConsumeTopics(topics.Events), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer reader.Close()
	var records []*kgo.Record
	for len(records) < n {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("reading the records of a batch: %w", err)
		}
		records = append(records, fetches.Records()...)
	}
	return records, nil
}

// produce writes the same records for a while, each sender waiting for its batch as a request does.
func (b *broker) produce(ctx context.Context, d time.Duration, batch []*kgo.Record) (rate Sample, err error) {
	client, err := kgo.NewClient(append(b.kafka.ProducerOptions(quiet), kgo.MaxBufferedRecords(100_000))...)
	if err != nil {
		return Sample{}, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	for _, span := range []time.Duration{d / 5, d} {
		until, watch := time.Now().Add(span), startWatch()
		sent := make([]int, batchSenders)
		var group errgroup.Group
		for i := range batchSenders {
			group.Go(func() error {
				for time.Now().Before(until) {
					copies := make([]*kgo.Record, len(batch))
					for j, r := range batch {
						copies[j] = &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value}
					}
					if err := client.ProduceSync(ctx, copies...).FirstErr(); err != nil {
						return fmt.Errorf("producing: %w", err)
					}
					sent[i] += len(batch)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return Sample{}, err
		}
		total := 0
		for _, n := range sent {
			total += n
		}
		rate = watch.rate(total)
	}
	return rate, nil
}
