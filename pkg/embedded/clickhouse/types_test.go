package clickhouse_test

import (
	"context"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
)

func TestTypesThroughClickHouseGo(t *testing.T) {
	s := clickhousetest.Start(t)
	when := time.Date(2026, 11, 21, 10, 20, 30, 123456000, time.UTC)
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	text, id := "text", uuid.New()
	for _, tt := range []struct {
		typ   string
		value any
		into  any
	}{
		{"UInt8", uint8(200), new(uint8)},
		{"Int64", int64(-1 << 62), new(int64)},
		{"UInt64", uint64(1<<64 - 1), new(uint64)},
		{"Float64", 1.5, new(float64)},
		{"Bool", true, new(bool)},
		{"String", "a\x00ü", new(string)},
		{"FixedString(3)", "abc", new(string)},
		{"LowCardinality(String)", text, new(string)},
		{"Nullable(String)", &text, new(*string)},
		{"Nullable(Int32)", (*int32)(nil), new(*int32)},
		{"LowCardinality(Nullable(String))", &text, new(*string)},
		{"UUID", id, new(uuid.UUID)},
		{"Date", day, new(time.Time)},
		{"DateTime('UTC')", when.Truncate(time.Second), new(time.Time)},
		{"DateTime64(3, 'UTC')", when.Truncate(time.Millisecond), new(time.Time)},
		{"DateTime64(6, 'UTC')", when, new(time.Time)},
		{"IPv4", net.ParseIP("10.1.2.3").To4(), new(net.IP)},
		{"IPv6", net.ParseIP("2001:db8::1"), new(net.IP)},
		{"Int128", big.NewInt(-12345678901234), new(big.Int)},
		{"Enum8('a' = 1, 'b' = 2)", "b", new(string)},
		{"Array(String)", []string{"x", "", "y"}, new([]string)},
		{"Array(Array(UInt32))", [][]uint32{{1, 2}, {}, {3}}, new([][]uint32)},
		{"Array(LowCardinality(String))", []string{"x", "y"}, new([]string)},
		{"Array(Nullable(String))", []*string{&text, nil}, new([]*string)},
		{"Map(String, String)", map[string]string{"k": "v", "": "e"}, new(map[string]string)},
		{"Map(LowCardinality(String), UInt64)", map[string]uint64{"k": 1}, new(map[string]uint64)},
		{"Map(String, Array(String))", map[string][]string{"k": {"v", "w"}}, new(map[string][]string)},
		{"Tuple(String, UInt8)", []any{"a", uint8(1)}, new([]any)},
	} {
		t.Run(tt.typ, func(t *testing.T) {
			for _, method := range []ch.CompressionMethod{ch.CompressionNone, ch.CompressionLZ4} {
				options := s.Options()
				options.Compression = &ch.Compression{Method: method}
				roundTrip(t, options, tt.typ, tt.value, tt.into)
			}
		})
	}
}

// roundTrip inserts a value three times and reads it back.
func roundTrip(t *testing.T, options *ch.Options, typ string, value, into any) {
	t.Helper()
	conn, err := ch.Open(options)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ctx := t.Context()
	require.NoError(t, conn.Exec(ctx, "DROP TABLE IF EXISTS t"))
	require.NoError(t, conn.Exec(ctx, "CREATE TABLE t (n UInt32, v "+typ+", w String) ENGINE = MergeTree ORDER BY n"))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t (n, v, w)")
	require.NoError(t, err)
	defer func() { require.NoError(t, batch.Close()) }()
	for i := range 3 {
		require.NoError(t, batch.Append(uint32(i), value, fmt.Sprint(i)))
	}
	require.NoError(t, batch.Send())
	rows, err := conn.Query(ctx, "SELECT n, v, w FROM t ORDER BY n")
	require.NoError(t, err)
	var n uint32
	var w string
	count := 0
	for rows.Next() {
		require.NoError(t, rows.Scan(&n, into, &w))
		require.Equal(t, fmt.Sprint(n), w)
		requireSame(t, value, into)
		count++
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Equal(t, 3, count)
}

func requireSame(t *testing.T, want, into any) {
	t.Helper()
	switch got := into.(type) {
	case *time.Time:
		require.True(t, want.(time.Time).Equal(*got), "want %s, got %s", want, got)
	case *big.Int:
		require.Zero(t, want.(*big.Int).Cmp(got))
	case *net.IP:
		require.True(t, want.(net.IP).Equal(*got))
	case **string:
		require.Equal(t, want, *got)
	case **int32:
		require.Nil(t, *got)
	case *[]*string:
		require.Equal(t, want, *got)
	case *[]any:
		require.Equal(t, want, *got)
	default:
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(deref(into)))
	}
}

func deref(into any) any {
	switch v := into.(type) {
	case *uint8:
		return *v
	case *int64:
		return *v
	case *uint64:
		return *v
	case *float64:
		return *v
	case *bool:
		return *v
	case *string:
		return *v
	case *uuid.UUID:
		return *v
	case *[]string:
		return *v
	case *[][]uint32:
		return *v
	case *map[string]string:
		return *v
	case *map[string]uint64:
		return *v
	case *map[string][]string:
		return *v
	}
	return into
}

func TestJSONThroughClickHouseGo(t *testing.T) {
	s := clickhousetest.Start(t)
	conn := s.Conn(t)
	ctx := t.Context()
	require.NoError(t, conn.Exec(ctx, "CREATE TABLE t (n UInt32, j JSON, w String) ENGINE = MergeTree ORDER BY n"))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t (n, j, w)")
	require.NoError(t, err)
	defer func() { require.NoError(t, batch.Close()) }()
	docs := []string{
		`{"a":1,"b":{"c":"x"},"tags":["p","q"]}`,
		`{"a":"text","price":12.5,"nested":[{"k":1},{"k":2}]}`,
		`{}`,
	}
	for i, doc := range docs {
		require.NoError(t, batch.Append(uint32(i), doc, "after"))
	}
	require.NoError(t, batch.Send())

	var c string
	var price float64
	require.NoError(t, conn.QueryRow(ctx, "SELECT j.b.c::String FROM t WHERE n = 0").Scan(&c))
	require.Equal(t, "x", c)
	require.NoError(t, conn.QueryRow(ctx, "SELECT j.price::Float64 FROM t WHERE n = 1").Scan(&price))
	require.Equal(t, 12.5, price)

	rows, err := conn.Query(ctx, "SELECT toJSONString(j), w FROM t ORDER BY n")
	require.NoError(t, err)
	for i := 0; rows.Next(); i++ {
		var doc, w string
		require.NoError(t, rows.Scan(&doc, &w))
		require.JSONEq(t, docs[i], doc)
		require.Equal(t, "after", w)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())

	rows, err = conn.Query(ctx, "SELECT n, j, w FROM t ORDER BY n")
	require.NoError(t, err)
	count := 0
	for ; rows.Next(); count++ {
		var n uint32
		var j ch.JSON
		var w string
		require.NoError(t, rows.Scan(&n, &j, &w))
		require.Equal(t, "after", w)
		doc, err := j.MarshalJSON()
		require.NoError(t, err)
		if n == 0 {
			require.JSONEq(t, docs[0], string(doc))
		}
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Equal(t, 3, count)
}

func TestEmptyResultKeepsItsColumns(t *testing.T) {
	s := clickhousetest.Start(t)
	conn := s.Conn(t)
	for _, query := range []string{
		"SELECT number AS n, toString(number) AS `a\tb`, map('k', 1) AS m FROM numbers(0)",
		"SELECT number AS n, toString(number) AS `a\tb`, map('k', 1) AS m FROM numbers(0) FORMAT Native SETTINGS max_threads = 1",
		"SELECT number AS n, toString(number) AS `a\tb`, map('k', 1) AS m FROM numbers(10) WHERE number > {p:UInt8}",
	} {
		rows, err := conn.Query(ch.Context(context.Background(), ch.WithParameters(ch.Parameters{"p": "50"})), query)
		require.NoError(t, err)
		require.Equal(t, []string{"n", "a\tb", "m"}, rows.Columns())
		require.False(t, rows.Next())
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
	}
}
