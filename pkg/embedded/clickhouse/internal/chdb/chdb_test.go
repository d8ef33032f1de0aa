package chdb_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse"
	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
)

// engine is the one engine of this test process.
var engine struct {
	once sync.Once
	lib  *chdb.Library
	keep *chdb.Conn
	args []string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if engine.keep != nil {
		engine.keep.Close()
		_ = os.RemoveAll(engine.args[0][len("--path="):]) // a folder for temporary files
	}
	os.Exit(code)
}

func connect(t testing.TB) *chdb.Conn {
	t.Helper()
	engine.once.Do(func() {
		var path, dir string
		if path, engine.err = clickhouse.Locate(""); engine.err != nil {
			return
		}
		if engine.lib, engine.err = chdb.Load(path); engine.err != nil {
			return
		}
		if dir, engine.err = os.MkdirTemp("", "chdb-test-"); engine.err != nil { //nolint:usetesting // outlives the first test
			return
		}
		engine.args = []string{"--path=" + dir}
		engine.keep, engine.err = engine.lib.Connect(engine.args...)
	})
	require.NoError(t, engine.err)
	conn, err := engine.lib.Connect(engine.args...)
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	return conn
}

func TestQueryWithParameters(t *testing.T) {
	conn := connect(t)
	out, stats, err := conn.Query("SELECT {a:String}, {b:UInt8} + 1", "TSV", []chdb.Param{{Name: "a", Value: ""}, {Name: "b", Value: "41"}})
	require.NoError(t, err)
	require.Equal(t, "\t42\n", string(out))
	require.Equal(t, uint64(1), stats.ResultRows)
	_, _, err = conn.Query("SELECT nope", "TSV", nil)
	var engineError *chdb.Error
	require.ErrorAs(t, err, &engineError)
	require.Contains(t, engineError.Message, "Code: 47.")
}

func TestStream(t *testing.T) {
	conn := connect(t)
	rows, err := conn.Stream("SELECT number FROM numbers(10000) SETTINGS max_block_size = 1000", "TSV", nil)
	require.NoError(t, err)
	chunks := 0
	var total chdb.Stats
	for {
		chunk, stats, err := rows.Next()
		require.NoError(t, err)
		total.Add(stats)
		if len(chunk) == 0 {
			break
		}
		chunks++
	}
	rows.Close()
	rows.Close()
	require.Greater(t, chunks, 1)
	require.Equal(t, uint64(10000), total.ResultRows)

	rows, err = conn.Stream("SELECT number FROM numbers(1000000000)", "TSV", nil)
	require.NoError(t, err)
	_, _, err = rows.Next()
	require.NoError(t, err)
	rows.Close() // in the middle
	out, _, err := conn.Query("SELECT 1", "TSV", nil)
	require.NoError(t, err, "the connection goes on")
	require.Equal(t, "1\n", string(out))
}

func TestInsert(t *testing.T) {
	conn := connect(t)
	_, _, err := conn.Query("CREATE TABLE inserted (a UInt32) ENGINE = MergeTree ORDER BY a", "", nil)
	require.NoError(t, err)
	insert, err := conn.Insert("INSERT INTO inserted", "CSV", nil)
	require.NoError(t, err)
	require.True(t, insert.Append([]byte("1\n2")))
	require.True(t, insert.Append([]byte("3\n")), "a row may go over two pieces")
	stats, err := insert.Done()
	require.NoError(t, err)
	require.Equal(t, uint64(2), stats.WrittenRows)

	insert, err = conn.Insert("INSERT INTO inserted", "CSV", nil)
	require.NoError(t, err)
	require.True(t, insert.Append([]byte("4\n")))
	insert.Cancel()
	insert.Cancel()
	out, _, err := conn.Query("SELECT * FROM inserted ORDER BY a", "CSV", nil)
	require.NoError(t, err)
	require.Equal(t, "1\n23\n", string(out))
	_, err = conn.Insert("INSERT INTO nope", "CSV", nil)
	require.ErrorContains(t, err, "Code: 60.")
}

func TestClassify(t *testing.T) {
	conn := connect(t)
	for sql, want := range map[string]chdb.Class{
		"SELECT 1": chdb.ClassReadOnly, "SHOW TABLES": chdb.ClassReadOnly, "DROP TABLE t": chdb.ClassMutating,
		"SET a = 1": chdb.ClassControl, "((": chdb.ClassUnknown,
	} {
		got, err := conn.Classify(sql)
		require.NoError(t, err)
		require.Equal(t, want, got, sql)
	}
}

func TestLoadOfSomethingElse(t *testing.T) {
	_, err := chdb.Load("/no/such/libchdb.so")
	require.ErrorContains(t, err, "loading /no/such/libchdb.so")
	_, err = chdb.Load("libc.so.6")
	require.ErrorContains(t, err, "entry point chdb_connect is missing")
}

// BenchmarkInsert is the engine without HTTP and without a client: the yardstick of the benchmark of
// the same name in the parent package.
func BenchmarkInsert(b *testing.B) {
	for _, rows := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			conn := connect(b)
			for _, sql := range []string{"DROP TABLE IF EXISTS events", `CREATE TABLE events (tenant LowCardinality(String), profile String,
				name LowCardinality(String), at DateTime64(3, 'UTC'), value Float64, properties String) ENGINE = MergeTree ORDER BY (tenant, profile, at)`} {
				_, _, err := conn.Query(sql, "", nil)
				require.NoError(b, err)
			}
			block := encodeEvents(b, rows)
			for b.Loop() {
				insert, err := conn.Insert("INSERT INTO events", "Native", nil)
				require.NoError(b, err)
				require.True(b, insert.Append(block))
				stats, err := insert.Done()
				require.NoError(b, err)
				require.Equal(b, uint64(rows), stats.WrittenRows)
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func encodeEvents(b *testing.B, rows int) []byte {
	b.Helper()
	block := proto.Block{ServerContext: &column.ServerContext{Timezone: time.UTC}}
	for _, c := range [][2]string{{"tenant", "LowCardinality(String)"}, {"profile", "String"}, {"name", "LowCardinality(String)"},
		{"at", "DateTime64(3, 'UTC')"}, {"value", "Float64"}, {"properties", "String"}} {
		require.NoError(b, block.AddColumn(c[0], column.Type(c[1])))
	}
	for i := range rows {
		require.NoError(b, block.Append("acme", fmt.Sprintf("2hQ7yVxZ0kD4sJ9mR1tB6nC3p%02d", i%64), "page", time.Unix(1_800_000_000, 0),
			float64(i), `{"path":"/pricing","title":"Pricing"}`))
	}
	var buf chproto.Buffer
	require.NoError(b, block.Encode(&buf, 0))
	return buf.Buf
}
