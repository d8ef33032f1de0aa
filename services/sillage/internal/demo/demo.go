// Package demo is the demonstration: a real history through the public import endpoint, a bank's two
// hours at an accelerated clock through the public tracking endpoints, and a report by SQL. It talks to
// the stack as a producer, a mail reader, a call centre and an analyst would; it knows nothing from within.
package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/bank"
	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/retail"
	"github.com/sillage-cdp/sillage/services/sillage/internal/importer"
	"github.com/sillage-cdp/sillage/services/sillage/internal/progress"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// Tenant is the tenant of the demonstration, WriteKey the write key of its source.
const (
	Tenant   = "demo"
	WriteKey = "demo-key"
)

// playTime is how long the bank is played, in the stack's time.
const playTime = 2 * time.Hour

// Options say what is played and on which stack.
type Options struct {
	// Ingest, ClickHouse and Database are the stack's surfaces: the base URL of ingest, the address of
	// ClickHouse's HTTP interface, the analysts' database.
	Ingest, ClickHouse, Database string
	// OutboxDir is where mails are kept.
	OutboxDir string
	// Clock is the stack's time.
	Clock clock.Clock
	// Seed and People are whom the bank meets.
	Seed   uint64
	People int
	// Calls receives the number of a person whom the call centre is asked to call.
	Calls <-chan Task
	// Progress shows what goes on, Report takes the report.
	Progress *progress.Output
	Report   io.Writer
}

// Demo is one demonstration.
type Demo struct {
	Options
	client *http.Client
	sql    *sql
}

// New returns a demonstration that has not begun.
func New(options Options) (*Demo, error) {
	conn, err := openSQL(options.ClickHouse, options.Database)
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Timeout: 30 * time.Second,
		// A click is counted by the first answer; nobody needs the page behind it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Demo{Options: options, client: client, sql: conn}, nil
}

// Close ends the analyst's connection.
func (d *Demo) Close() error { return d.sql.conn.Close() }

// Run imports, plays and reports. It fails if a total is not what it must be.
func (d *Demo) Run(ctx context.Context) error {
	if err := d.importHistory(ctx); err != nil {
		return err
	}
	if err := d.play(ctx); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	return d.report(ctx)
}

// importHistory sends the history and waits until it stands in ClickHouse.
func (d *Demo) importHistory(ctx context.Context) error {
	d.Progress.Stagef("importing the history of a shop: %d invoices with %d lines (UCI Online Retail, CC BY 4.0)", retail.Invoices, retail.Lines)
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(retail.WriteJSONLines(writer)) }()
	defer reader.Close() //nolint:errcheck // ends the writer if the import failed
	bar := d.Progress.Count("sent", retail.Invoices)
	result, err := importer.Import(ctx, rows.NewJSONLines(reader), importer.Options{URL: d.Ingest, WriteKey: WriteKey, BatchEvents: 200, Progress: bar.Add})
	bar.Done()
	if err != nil {
		return fmt.Errorf("importing the history: %w", err)
	}
	if result.Refused > 0 {
		return fmt.Errorf("importing the history: %d invoices were refused, the first for %s", result.Refused, result.Refusals[0].Code)
	}
	bar = d.Progress.Count("resolved and stored", retail.Invoices)
	err = d.until(ctx, 3*time.Minute, "the history to stand in ClickHouse", func() (bool, error) {
		n, err := d.sql.count(ctx, "SELECT count() FROM events WHERE tenant = 'demo' AND historical")
		bar.Set(n)
		return n >= retail.Invoices, err
	})
	bar.Done()
	return err
}

// play meets the bank's people for two hours.
func (d *Demo) play(ctx context.Context) error {
	people := bank.People(d.Seed, d.People)
	d.Progress.Stagef("playing a bank's two hours: %d people, seed %d", len(people), d.Seed)
	p := newPlayer(d, people)
	bar := d.Progress.Count("minutes", int64(playTime/time.Minute))
	err := p.run(ctx, func(passed time.Duration) { bar.Set(int64(passed / time.Minute)) })
	bar.Done()
	if err != nil {
		return fmt.Errorf("playing the bank: %w", err)
	}
	d.Progress.Linef("%d calls of the tracking API, %d mails read, %d opened, %d clicked, %d unsubscribed, %d call tasks",
		p.sent, p.mails, p.opened, p.clicked, p.unsubscribed, p.tasks)
	return nil
}

// settle waits until all that came in has been dealt with.
func (d *Demo) settle(ctx context.Context) error {
	d.Progress.Stagef("waiting for the last events")
	same, last := 0, int64(-1)
	return d.until(ctx, time.Minute, "the ledger to balance", func() (bool, error) {
		difference, err := d.sql.count(ctx, "SELECT sum(abs(difference)) FROM ledger_balance WHERE tenant = 'demo'")
		if err != nil {
			return false, err
		}
		stored, err := d.sql.count(ctx, "SELECT sum(stored) FROM ledger_balance WHERE tenant = 'demo'")
		if same++; stored != last || difference != 0 {
			same, last = 0, stored
		}
		// Balanced and unchanged over several rounds of the sink's batches.
		return same >= 6, err
	})
}

// until asks again and again, and gives up with what it waited for.
func (d *Demo) until(ctx context.Context, patience time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(400 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", patience, what, ctx.Err())
		}
	}
}
