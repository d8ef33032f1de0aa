package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/sillage-cdp/sillage/services/sillage/internal/demo/retail"
)

// sql is the analyst's connection.
type sql struct{ conn driver.Conn }

func openSQL(addr, database string) (*sql, error) {
	conn, err := ch.Open(&ch.Options{Protocol: ch.HTTP, Addr: []string{addr}, Auth: ch.Auth{Database: database}, ReadTimeout: time.Minute})
	if err != nil {
		return nil, fmt.Errorf("configuring the ClickHouse client: %w", err)
	}
	return &sql{conn: conn}, nil
}

// count is the single number of a query.
func (s *sql) count(ctx context.Context, query string) (int64, error) {
	var n int64
	if err := s.conn.QueryRow(ctx, "SELECT toInt64(ifNull(("+query+"), 0))").Scan(&n); err != nil {
		return 0, fmt.Errorf("asking ClickHouse: %w", err)
	}
	return n, nil
}

// rows are the rows of a query as text, with the names of the columns.
func (s *sql) rows(ctx context.Context, query string) (header []string, out [][]string, err error) {
	rows, err := s.conn.Query(ctx, query)
	if err != nil {
		return nil, nil, fmt.Errorf("asking ClickHouse: %w", err)
	}
	defer rows.Close() //nolint:errcheck // its error stands in Err
	for rows.Next() {
		cells := make([]string, len(rows.Columns()))
		into := make([]any, len(cells))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, nil, fmt.Errorf("reading ClickHouse's answer: %w", err)
		}
		out = append(out, cells)
	}
	return rows.Columns(), out, rows.Err()
}

// section is one part of the report: a title and the query behind it. Every column is text.
type section struct{ title, query string }

func sections() []section {
	return []section{
		{"The import", `SELECT toString(uniqExact(order_id)) AS invoices, toString(uniqExactIf(user_id, user_id != '')) AS customers,
  toString(sum(lines)) AS lines, toString(toDecimal64(sum(line_total), 2)) AS sum_of_quantity_times_price
FROM orders WHERE tenant = 'demo'`},
		{"Segments", `SELECT segment, toString(profiles) AS profiles FROM segment_sizes WHERE tenant = 'demo' ORDER BY segment_sizes.profiles DESC`},
		{"Sends and holds", `SELECT journey, step, channel, decision, reason, toString(sum(r.sends)) AS sends, toString(sum(r.delivered)) AS delivered,
  toString(sum(r.opened)) AS opened, toString(sum(r.clicked)) AS clicked, toString(sum(r.unsubscribed)) AS unsubscribed
FROM send_results AS r WHERE tenant = 'demo' GROUP BY ALL ORDER BY journey, step, decision DESC, reason`},
		{"The abandonment funnel", `SELECT step, toString(people) AS people, concat(toString(round(of_all * 100, 1)), ' %') AS of_all
FROM journey_funnel(tenant = 'demo', started = 'Loan Application Started', segment = 'loan-abandoned', journey = 'loan-abandonment', conversion = 'Loan Subscribed')`},
		{"Subscriptions by what led to them (30 days)", `SELECT channel, toString(a.first) AS first, toString(a.last) AS last, toString(a.linear) AS linear,
  toString(a.first_value) AS first_eur, toString(a.last_value) AS last_eur, toString(a.linear_value) AS linear_eur
FROM attribution(tenant = 'demo', conversion = 'Loan Subscribed', days = 30) AS a`},
		{"Hold-out against treated", `SELECT arm, toString(people) AS people, toString(converted) AS subscribed, concat(toString(round(rate * 100, 1)), ' %') AS rate,
  concat(toString(round(rate_low * 100, 1)), ' – ', toString(round(rate_high * 100, 1)), ' %') AS interval_95
FROM holdout_lift(tenant = 'demo', journey = 'loan-abandonment', conversion = 'Loan Subscribed')`},
		{"The ledger", `SELECT source, toString(sum(l.accepted)) AS accepted, toString(sum(l.stored)) AS stored, toString(sum(l.deduplicated)) AS deduplicated,
  toString(sum(l.rejected)) AS rejected, toString(sum(l.suppressed)) AS suppressed, toString(sum(l.difference)) AS difference
FROM ledger_balance AS l WHERE tenant = 'demo' GROUP BY source ORDER BY source`},
	}
}

// report prints the sections and checks the totals.
func (d *Demo) report(ctx context.Context) error {
	d.Progress.Stagef("the report, by SQL from ClickHouse")
	for _, s := range sections() {
		header, rows, err := d.sql.rows(ctx, s.query)
		if err != nil {
			return fmt.Errorf("making the section %q: %w", s.title, err)
		}
		d.print(s, header, rows)
	}
	return d.check(ctx)
}

func (d *Demo) print(s section, header []string, rows [][]string) {
	fmt.Fprintf(d.Report, "\n%s\n", text.Bold.Sprint(s.title))
	t := table.NewWriter()
	t.SetOutputMirror(d.Report)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(cells(header))
	for _, row := range rows {
		t.AppendRow(cells(row))
	}
	t.Render()
	fmt.Fprintln(d.Report, text.Faint.Sprint(strings.TrimSpace(s.query)))
}

func cells(texts []string) table.Row {
	row := make(table.Row, len(texts))
	for i, t := range texts {
		row[i] = t
	}
	return row
}

// check compares the totals with what the data set is known to hold.
func (d *Demo) check(ctx context.Context) error {
	var errs []error
	for _, c := range []struct {
		what, query string
		want        int64
	}{
		{"invoices", "SELECT uniqExact(order_id) FROM orders WHERE tenant = 'demo'", retail.Invoices},
		{"orders and refunds", "SELECT count() FROM orders WHERE tenant = 'demo'", retail.Invoices},
		{"invoice lines", "SELECT sum(lines) FROM orders WHERE tenant = 'demo'", retail.Lines},
		{"customers", "SELECT uniqExactIf(user_id, user_id != '') FROM orders WHERE tenant = 'demo'", retail.Customers},
		{"Σ quantity × price in thousandths", "SELECT round(sum(line_total) * 1000) FROM orders WHERE tenant = 'demo'", retail.TotalMillis},
		{"Σ revenue in thousandths", "SELECT sum(total) * 1000 FROM orders WHERE tenant = 'demo'", retail.TotalMillis},
		{"the ledger's difference", "SELECT sum(abs(difference)) FROM ledger_balance WHERE tenant = 'demo'", 0},
	} {
		have, err := d.sql.count(ctx, c.query)
		if err == nil && have != c.want {
			err = fmt.Errorf("%s: %d in ClickHouse, %d in the data", c.what, have, c.want)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the totals are not exact:\n%w", err)
	}
	fmt.Fprintf(d.Report, "\nAll totals are exact: %d invoices, %d customers, Σ quantity × price 9,747,747.93, ledger difference 0.\n", retail.Invoices, retail.Customers)
	return nil
}
