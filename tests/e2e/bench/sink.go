package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/shopspring/decimal"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	embeddedclickhouse "github.com/sillage-cdp/sillage/pkg/embedded/clickhouse"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	analytics "github.com/sillage-cdp/sillage/services/analytics/app"
)

// sinkBatch is the batch of both sides; the sink's default. Measurements of less than a second take less.
const sinkBatch = 20_000

func batchOf(o Options) int { return max(1000, int(sinkBatch*min(1, o.Duration.Seconds()))) }

// warehouse is an embedded ClickHouse on a folder of its own; a process has one.
type warehouse struct {
	engine *embeddedclickhouse.Engine
	conn   driver.Conn
	round  int
}

// Sink measures P11: events from Kafka into ClickHouse by the analytics service, against inserting the
// same rows, made beforehand, in batches of the same size and as many at once.
func Sink(ctx context.Context, o Options) (rows []Row, err error) {
	dir, remove, err := folder(o, "sink")
	if err != nil {
		return nil, err
	}
	defer remove()
	w := &warehouse{}
	if w.engine, err = embeddedclickhouse.Open(embeddedclickhouse.Config{DataDir: filepath.Join(dir, "clickhouse"), Addr: "127.0.0.1:0", Logger: quiet}); err != nil {
		return nil, err
	}
	if err := w.engine.Start(ctx); err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = errors.Join(err, w.engine.Stop(ctx))
	}()
	if w.conn, err = ch.Open(&ch.Options{Protocol: ch.HTTP, Addr: []string{w.engine.Addr()}, MaxOpenConns: 4, ReadTimeout: time.Minute}); err != nil {
		return nil, fmt.Errorf("configuring the ClickHouse client: %w", err)
	}
	defer func() { err = errors.Join(err, w.conn.Close()) }()
	// Each partition has whole batches: what is measured is work, not the wait for a batch to fill.
	n := partitions * batchOf(o)
	got, err := series(ctx, o, "P11",
		turn{"sink", func(ctx context.Context) (Sample, error) { return w.sink(ctx, o, n) }},
		turn{"raw inserts", func(ctx context.Context) (Sample, error) { return w.raw(ctx, n, batchOf(o)) }})
	if err != nil {
		return nil, err
	}
	return []Row{{
		Figure: "P11", What: fmt.Sprintf("Kafka → ClickHouse, %d events in batches of %d, two at once", n, batchOf(o)), Unit: "rows/s",
		Against: "raw Native inserts", Target: "≥ 0.7", Ours: got[0], Baseline: got[1],
	}}, nil
}

func sinkEvent(i int) *eventv1.Event {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC).UnixMilli() + int64(i)
	return &eventv1.Event{
		Tenant: "bench", Source: "web", MessageId: fmt.Sprintf("ajs-next-1763719-%d", i), Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Product Viewed",
		AnonymousId: fmt.Sprint("anon-", i%1000), UserId: fmt.Sprint("user-", i%1000), TimestampMs: at, OriginalTimestampMs: at, ReceivedAtMs: at,
		Properties:  fmt.Appendf(nil, `{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","name":"Monopoly: 3rd Edition","price":18.99,"quantity":%d}`, i%7),
		Context:     []byte(`{"locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris"}`),
		ValueMicros: 18_990_000, Currency: "EUR",
		Page: &eventv1.Page{Url: "https://www.example.com/product/path", Path: "/product/path", Title: "Monopoly: 3rd Edition"},
	}
}

// sink measures the analytics service on a broker and a database of their own.
func (w *warehouse) sink(ctx context.Context, o Options, n int) (sample Sample, err error) {
	b, err := startBroker(ctx, o)
	if err != nil {
		return Sample{}, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.fillLog(ctx, n); err != nil {
		return Sample{}, err
	}
	w.round++
	cfg := analytics.NewDefaultConfig()
	cfg.ClickHouse = analytics.ClickHouse{Addr: w.engine.Addr(), Database: w.database()}
	cfg.BatchRecords = batchOf(o)
	app, err := analytics.New(cfg, analytics.Deps{Kafka: b.kafka, Logger: quiet, Telemetry: telemetry.Nop()})
	if err != nil {
		return Sample{}, err
	}
	if err := app.Start(ctx); err != nil {
		return Sample{}, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err = errors.Join(err, app.Stop(ctx))
	}()
	watch := startWatch()
	// Asking often would be a load that the baseline does not have.
	err = wait(ctx, 50*time.Millisecond, func() (bool, error) {
		var have uint64
		err := w.conn.QueryRow(ctx, "SELECT count() FROM "+w.database()+".events").Scan(&have)
		return have >= uint64(n), err
	})
	return watch.rate(n), err
}

func (w *warehouse) database() string { return fmt.Sprint("bench_", w.round) }

// fillLog writes n events to the profile log, as many to each partition.
func (b *broker) fillLog(ctx context.Context, n int) error {
	client, err := kgo.NewClient(append(b.kafka.ProducerOptions(quiet), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(50_000))...)
	if err != nil {
		return fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	for i := range n {
		profile := fmt.Sprintf("2hQ7yVxZ0kD4sJ9mR1tB6nC3p%d", i%1000)
		raw, err := (&profilev1.ProfileRecord{Tenant: "bench", ProfileId: profile, Body: &profilev1.ProfileRecord_Event{
			Event: &profilev1.ResolvedEvent{Event: sinkEvent(i)},
		}}).MarshalVT()
		if err != nil {
			return fmt.Errorf("encoding an event: %w", err)
		}
		client.Produce(ctx, &kgo.Record{Topic: topics.ProfileLog, Partition: int32(i % partitions), Key: topics.Key("bench", profile), Value: raw}, nil)
	}
	if err := client.Flush(ctx); err != nil {
		return fmt.Errorf("writing the profile log: %w", err)
	}
	return nil
}

var rawColumns = []string{
	"tenant", "source", "message_id", "type", "name", "profile_id", "anonymous_id", "user_id", "previous_id", "group_id",
	"timestamp", "original_timestamp", "received_at", "properties", "traits", "context", "category",
	"page_url", "page_path", "page_referrer", "page_title",
	"campaign_name", "campaign_source", "campaign_medium", "campaign_term", "campaign_content",
	"value", "currency", "historical", "internal", "log_partition", "log_offset",
}

func rawRow(i int) []any {
	ev := sinkEvent(i)
	at := time.UnixMilli(ev.TimestampMs).UTC()
	return []any{
		ev.Tenant, ev.Source, ev.MessageId, "track", ev.Name, fmt.Sprintf("2hQ7yVxZ0kD4sJ9mR1tB6nC3p%d", i%1000), ev.AnonymousId, ev.UserId, "", "",
		at, at, at, string(ev.Properties), "{}", string(ev.Context), "",
		ev.Page.Url, ev.Page.Path, "", ev.Page.Title,
		"", "", "", "", "",
		decimal.New(ev.ValueMicros, -6), ev.Currency, false, false, uint32(i % partitions), uint64(i / partitions),
	}
}

// raw inserts the same rows into an empty table of the same definition.
func (w *warehouse) raw(ctx context.Context, n, size int) (Sample, error) {
	table := w.database() + ".events_raw"
	if err := w.conn.Exec(ctx, "CREATE TABLE "+table+" AS "+w.database()+".events"); err != nil {
		return Sample{}, fmt.Errorf("making the table of the baseline: %w", err)
	}
	all := make([][]any, n)
	for i := range all {
		all[i] = rawRow(i)
	}
	watch := startWatch()
	var group errgroup.Group
	group.SetLimit(2)
	for at := 0; at < n; at += size {
		group.Go(func() error { return w.insert(ctx, table, all[at:min(n, at+size)]) })
	}
	if err := group.Wait(); err != nil {
		return Sample{}, err
	}
	rate := watch.rate(n)
	// What was measured is not needed any more; the disk is.
	return rate, w.conn.Exec(ctx, "DROP DATABASE "+w.database())
}

func (w *warehouse) insert(ctx context.Context, table string, rows [][]any) error {
	batch, err := w.conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(rawColumns, ", ")+")")
	if err != nil {
		return fmt.Errorf("preparing an insert: %w", err)
	}
	defer batch.Close() //nolint:errcheck // nothing is left to close once it is sent
	for _, row := range rows {
		if err := batch.Append(row...); err != nil {
			return fmt.Errorf("appending a row: %w", err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("inserting: %w", err)
	}
	return nil
}
