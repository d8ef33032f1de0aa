// Package audit checks that nothing was lost between the door and the analysts' tables. It reads Kafka,
// counts for itself, and compares: each event that came in is accounted for once (package balance), each
// record that makes a row has one row, and the ledger's table says what Kafka holds.
//
// It promises to name what it finds: the message ids, the offsets, the hours. TestAPlantedLossIsFound
// catches the loss of that. It looks at what Kafka still holds (a week by default). Events that are under
// way are waited for; while new ones keep coming, the last seconds are left out.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

// Config says what is checked.
type Config struct {
	Kafka  kafka.Config
	Logger *slog.Logger
	// DeadLetters is the topic of the dead letters of the stage that reads the events.
	DeadLetters string
	// Wait is how long events that are not accounted for may be under way.
	Wait time.Duration
	// Progress is told of records that were read; must not be nil.
	Progress func(records int)
}

// maxListed bounds the offsets and message ids that a finding names.
const maxListed = 20

// margin is what is left out before the newest event while new ones keep coming.
const margin = 10 * time.Second

// Report is what was found.
type Report struct {
	// Hours is how many hours of a source were reconciled, and Events what was in them, by fate.
	Hours  int
	Events map[balance.Fate]int64
	// Rows is how many records with rows were compared with the tables.
	Rows int64
	// Until is when the newest events that were looked at came in; zero for all.
	Until time.Time
	// Since is when the oldest of Kafka came in, if earlier ones are gone; zero if all are there.
	Since time.Time
	// Unreadable counts records that could not be decoded.
	Unreadable int
	// Loose are the first events that came in and are not accounted for, or are too often.
	Loose []balance.Loose
	// Unbalanced is how many hours they are in.
	Unbalanced int
	Gaps       []Gap
	Miscounts  []Miscount
}

// Clean says whether everything is accounted for.
func (r *Report) Clean() bool {
	return r.Unbalanced == 0 && len(r.Gaps) == 0 && len(r.Miscounts) == 0 && r.Unreadable == 0
}

// Check is one check of the ledger.
type Check struct {
	cfg  Config
	conn driver.Conn
}

// New returns a check that compares with the tables of the connection.
func New(cfg Config, conn driver.Conn) *Check { return &Check{cfg: cfg, conn: conn} }

// Run checks until all is accounted for or the wait is over. An error means that it could not check.
func (c *Check) Run(ctx context.Context) (*Report, error) {
	client, err := kgo.NewClient(c.cfg.Kafka.Options(c.cfg.Logger)...)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	deadline := time.Now().Add(c.cfg.Wait)
	for {
		report, err := c.once(ctx, admin)
		if err != nil || report.Clean() || time.Now().After(deadline) {
			return report, err
		}
		select {
		case <-ctx.Done():
			return report, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// once checks everything that Kafka has now.
func (c *Check) once(ctx context.Context, admin *kadm.Client) (*Report, error) {
	l, err := c.book(ctx, admin, 0, nil)
	if err != nil {
		return nil, err
	}
	until := int64(0)
	if live, err := moved(ctx, admin, l); err != nil {
		return nil, err
	} else if live {
		until = l.newest - margin.Milliseconds()
	}
	loose := l.book.Unbalanced()
	if until != 0 || len(loose) > 0 {
		if l, err = c.book(ctx, admin, until, within(loose, until, l.floor)); err != nil {
			return nil, err
		}
	}
	return c.report(ctx, l, until)
}

// moved says whether events keep coming.
func moved(ctx context.Context, admin *kadm.Client, l *log) (bool, error) {
	for _, topic := range doorTopics {
		now, err := spansOf(ctx, admin, topic)
		if err != nil {
			return false, err
		}
		for p, s := range now {
			if s.end != l.spans[p].end {
				return true, nil
			}
		}
	}
	return false, nil
}

// within are the hours that Kafka holds whole, as far as they are looked at.
func within(hours []balance.Hour, until, floor int64) []balance.Hour {
	var kept []balance.Hour
	for _, h := range hours {
		if h.Start > floor && (until == 0 || h.Start < until) {
			kept = append(kept, h)
		}
	}
	return kept
}

func (c *Check) report(ctx context.Context, l *log, until int64) (*Report, error) {
	r := &Report{Events: make(map[balance.Fate]int64), Unreadable: l.unreadable}
	if until != 0 {
		r.Until = time.UnixMilli(until).UTC()
	}
	if l.floor != 0 {
		r.Since = time.UnixMilli(l.floor).UTC()
	}
	for _, h := range within(l.book.Hours(), until, l.floor) {
		tally := l.book.Tally(h)
		r.Hours++
		for fate, n := range tally.Events {
			r.Events[balance.Fate(fate)] += n
		}
		if !tally.Balanced() {
			r.Unbalanced++
		}
	}
	for _, rows := range l.rows {
		r.Rows += rows.Len()
	}
	r.Loose = l.book.Loose()
	r.Loose = r.Loose[:min(len(r.Loose), maxListed)]
	const hour = int64(time.Hour / time.Millisecond)
	var gapsErr, countsErr error
	r.Gaps, gapsErr = gaps(ctx, c.conn, l)
	r.Miscounts, countsErr = miscounts(ctx, c.conn, l, func(h balance.Hour) bool {
		return h.Start > l.floor && (until == 0 || h.Start+hour <= until)
	})
	return r, errors.Join(gapsErr, countsErr)
}
