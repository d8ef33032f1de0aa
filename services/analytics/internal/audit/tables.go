package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

// Gap is what a table lacks or has twice of one partition of its topic.
type Gap struct {
	Table, Topic string
	Partition    int32
	// Missing counts the records without a row, and Offsets are the first of them.
	Missing int64
	Offsets []int64
	// Doubled counts rows of records that have one already.
	Doubled int64
}

// Miscount is a count of the ledger's table that is not what Kafka holds.
type Miscount struct {
	Hour  balance.Hour
	Fate  balance.Fate
	Kafka int64
	Table int64
}

// gaps compares the tables with the records that make their rows.
func gaps(ctx context.Context, conn driver.Conn, l *log) ([]Gap, error) {
	var found []Gap
	for _, topic := range slices.Sorted(maps.Keys(tables)) {
		stored, doubled, err := offsetsOf(ctx, conn, tables[topic], topic, l)
		if err != nil {
			return nil, err
		}
		for p, rows := range l.rows {
			if p.topic != topic {
				continue
			}
			have := stored[p]
			if have == nil {
				have = balance.NewOffsets()
			}
			g := Gap{Table: tables[topic], Topic: topic, Partition: p.partition, Doubled: doubled[p]}
			if g.Offsets, g.Missing = rows.Missing(have, maxListed); g.Missing > 0 || g.Doubled > 0 {
				found = append(found, g)
			}
		}
	}
	slices.SortFunc(found, func(a, b Gap) int {
		return strings.Compare(fmt.Sprintf("%s %9d", a.Table, a.Partition), fmt.Sprintf("%s %9d", b.Table, b.Partition))
	})
	return found, nil
}

// offsetsOf reads which records of a topic have rows, and how many rows too many there are.
func offsetsOf(ctx context.Context, conn driver.Conn, table, topic string, l *log) (map[place]*balance.Offsets, map[place]int64, error) {
	rows, err := conn.Query(ctx, "SELECT log_partition, log_offset FROM "+table+
		" UNION ALL SELECT log_partition, log_offset FROM unreadable_records WHERE topic = ?", topic)
	if err != nil {
		return nil, nil, fmt.Errorf("reading table %s: %w", table, err)
	}
	defer rows.Close() //nolint:errcheck // read to its end
	stored, doubled := make(map[place]*balance.Offsets), make(map[place]int64)
	for rows.Next() {
		var partition uint32
		var offset uint64
		if err := rows.Scan(&partition, &offset); err != nil {
			return nil, nil, fmt.Errorf("reading table %s: %w", table, err)
		}
		p := place{topic, int32(partition)}
		s, ok := l.spans[p]
		if !ok || int64(offset) < s.begin || int64(offset) >= s.end {
			continue // not in Kafka any more, or written since
		}
		if stored[p] == nil {
			stored[p] = balance.NewOffsets()
		}
		if !stored[p].Add(int64(offset)) {
			doubled[p]++
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("reading table %s: %w", table, err)
	}
	return stored, doubled, nil
}

// miscounts compares the ledger's table with Kafka in the hours that Kafka holds whole.
func miscounts(ctx context.Context, conn driver.Conn, l *log, whole func(balance.Hour) bool) ([]Miscount, error) {
	rows, err := conn.Query(ctx, "SELECT tenant, source, toInt64(toUnixTimestamp(hour)) * 1000, fate, sum(events) FROM ledger GROUP BY ALL")
	if err != nil {
		return nil, fmt.Errorf("reading table ledger: %w", err)
	}
	defer rows.Close() //nolint:errcheck // read to its end
	type key struct {
		hour balance.Hour
		fate balance.Fate
	}
	table := make(map[key]int64)
	for rows.Next() {
		var h balance.Hour
		var word string
		var events uint64
		if err := rows.Scan(&h.Tenant, &h.Source, &h.Start, &word, &events); err != nil {
			return nil, fmt.Errorf("reading table ledger: %w", err)
		}
		if fate, ok := balance.FateOf(word); ok && whole(h) {
			table[key{h, fate}] = int64(events)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading table ledger: %w", err)
	}
	var found []Miscount
	for _, h := range l.book.Hours() {
		tally := l.book.Tally(h)
		for fate := range balance.DeadLetter {
			k := key{h, fate}
			if have := table[k]; whole(h) && have != tally.Events[fate] {
				found = append(found, Miscount{Hour: h, Fate: fate, Kafka: tally.Events[fate], Table: have})
			}
			delete(table, k)
		}
	}
	for k, n := range table {
		found = append(found, Miscount{Hour: k.hour, Fate: k.fate, Table: n})
	}
	return found, nil
}
