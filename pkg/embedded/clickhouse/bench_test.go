package clickhouse_test

import (
	"fmt"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
)

// eventsTable is like a table of events; the benchmark of the library alone uses the same.
const eventsTable = `CREATE TABLE events (tenant LowCardinality(String), profile String, name LowCardinality(String),
	at DateTime64(3, 'UTC'), value Float64, properties String) ENGINE = MergeTree ORDER BY (tenant, profile, at)`

// BenchmarkInsert measures batches through clickhouse-go, the bridge and the engine.
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{1_000, 100_000} {
		for _, method := range []ch.CompressionMethod{ch.CompressionNone, ch.CompressionLZ4} {
			b.Run(fmt.Sprintf("rows=%d/%s", rows, method), func(b *testing.B) {
				s := clickhousetest.Start(b)
				options := s.Options()
				options.Compression = &ch.Compression{Method: method}
				conn, err := ch.Open(options)
				require.NoError(b, err)
				defer func() { require.NoError(b, conn.Close()) }()
				require.NoError(b, conn.Exec(b.Context(), eventsTable))
				b.ReportAllocs()
				for b.Loop() {
					insertEvents(b, conn, rows)
				}
				b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

func insertEvents(b *testing.B, conn ch.Conn, rows int) {
	b.Helper()
	batch, err := conn.PrepareBatch(b.Context(), "INSERT INTO events")
	require.NoError(b, err)
	defer func() { require.NoError(b, batch.Close()) }()
	at := time.Unix(1_800_000_000, 0)
	profiles := [64]string{}
	for i := range profiles {
		profiles[i] = fmt.Sprintf("2hQ7yVxZ0kD4sJ9mR1tB6nC3p%02d", i)
	}
	for i := range rows {
		if err := batch.Append("acme", profiles[i%64], "page", at, float64(i), `{"path":"/pricing","title":"Pricing"}`); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, batch.Send())
}

// BenchmarkPointQuery measures the time that one small statement takes.
func BenchmarkPointQuery(b *testing.B) {
	conn := clickhousetest.Start(b).Conn(b)
	for b.Loop() {
		var one uint8
		require.NoError(b, conn.QueryRow(b.Context(), "SELECT 1").Scan(&one))
	}
}

// BenchmarkSelect measures reading rows through the bridge's transcoding and clickhouse-go.
func BenchmarkSelect(b *testing.B) {
	const rows = 1_000_000
	conn := clickhousetest.Start(b).Conn(b)
	for b.Loop() {
		result, err := conn.Query(b.Context(), "SELECT number, toString(number) FROM numbers(1000000)")
		require.NoError(b, err)
		n := 0
		var number uint64
		var text string
		for result.Next() {
			if err := result.Scan(&number, &text); err != nil {
				b.Fatal(err)
			}
			n++
		}
		require.NoError(b, result.Err())
		require.NoError(b, result.Close())
		require.Equal(b, rows, n)
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
