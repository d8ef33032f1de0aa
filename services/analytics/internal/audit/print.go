package audit

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

// Print says what was found, for a person to read.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d hours of sources, %d events came in:", r.Hours, r.Events[balance.Accepted])
	for _, fate := range []balance.Fate{balance.Stored, balance.Deduplicated, balance.Rejected, balance.Suppressed, balance.DeadLetter} {
		fmt.Fprintf(&b, " %d %s", r.Events[fate], fate)
	}
	fmt.Fprintf(&b, "\n%d records compared with the rows of the tables\n", r.Rows)
	if !r.Since.IsZero() {
		fmt.Fprintf(&b, "from the hour after %s: Kafka has not kept all that came in before\n", r.Since.Format(time.RFC3339))
	}
	if !r.Until.IsZero() {
		fmt.Fprintf(&b, "up to %s: events keep coming, and the newest are left out\n", r.Until.Format(time.RFC3339))
	}
	r.printFindings(&b)
	if r.Clean() {
		b.WriteString("everything is accounted for\n")
	}
	_, err := io.WriteString(w, b.String())
	if err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	return nil
}

func (r *Report) printFindings(b *strings.Builder) {
	if r.Unbalanced > 0 {
		fmt.Fprintf(b, "NOT ACCOUNTED FOR in %d hours, between the door and the profile log:\n", r.Unbalanced)
	}
	for _, l := range r.Loose {
		what := "lost"
		if l.Times < 0 {
			what = "accounted for too often"
		}
		fmt.Fprintf(b, "  %s %s %s message %s: %s\n", l.Hour.Tenant, l.Hour.Source, hourText(l.Hour), l.MessageID, what)
	}
	for _, g := range r.Gaps {
		if g.Missing > 0 {
			fmt.Fprintf(b, "MISSING in table %s: %d rows of %s partition %d, offsets %s\n", g.Table, g.Missing, g.Topic, g.Partition, listed(g))
		}
		if g.Doubled > 0 {
			fmt.Fprintf(b, "DOUBLED in table %s: %d rows of %s partition %d\n", g.Table, g.Doubled, g.Topic, g.Partition)
		}
	}
	for _, m := range r.Miscounts {
		fmt.Fprintf(b, "MISCOUNTED in table ledger: %s %s %s %s is %d, Kafka holds %d\n", m.Hour.Tenant, m.Hour.Source, hourText(m.Hour), m.Fate, m.Table, m.Kafka)
	}
	if r.Unreadable > 0 {
		fmt.Fprintf(b, "UNREADABLE: %d records; table unreadable_records and the dead letters have them\n", r.Unreadable)
	}
}

func hourText(h balance.Hour) string { return time.UnixMilli(h.Start).UTC().Format("2006-01-02T15h") }

func listed(g Gap) string {
	text := strings.Trim(fmt.Sprint(g.Offsets), "[]")
	if int64(len(g.Offsets)) < g.Missing {
		text += " …"
	}
	return text
}
