package clickhouse_test

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Run(m)) }

func TestQueryAndInsertThroughClickHouseGo(t *testing.T) {
	s := clickhousetest.Start(t)
	conn := s.Conn(t)
	ctx := context.Background()
	require.NoError(t, conn.Exec(ctx, "CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a"))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t (a, b)")
	require.NoError(t, err)
	for i := range 1000 {
		require.NoError(t, batch.Append(uint64(i), "row"))
	}
	require.NoError(t, batch.Send())
	var n, sum uint64
	require.NoError(t, conn.QueryRow(ctx, "SELECT count(), sum(a) FROM t WHERE b = ?", "row").Scan(&n, &sum))
	require.Equal(t, uint64(1000), n)
	require.Equal(t, uint64(499500), sum)
}
