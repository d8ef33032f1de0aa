package schema_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
	"github.com/sillage-cdp/sillage/services/analytics/internal/schema"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Run(m)) }

func TestApplyTwiceChangesNothing(t *testing.T) {
	conn := clickhousetest.Start(t).Conn(t)
	require.NoError(t, schema.Apply(t.Context(), conn))
	require.NoError(t, schema.Apply(t.Context(), conn))
	var columns, uncommented uint64
	require.NoError(t, conn.QueryRow(t.Context(),
		"SELECT count(), countIf(comment = '') FROM system.tables WHERE database = currentDatabase() AND name != 'chain'").Scan(&columns, &uncommented))
	require.EqualValues(t, 22, columns)
	require.Zero(t, uncommented, "every table and view says what it holds")
}

// A table that was made before it gained columns gains them, and then is as a new one.
func TestOldTablesGainTheirColumns(t *testing.T) {
	conn := clickhousetest.Start(t).Conn(t)
	describe := func() (columns []string) {
		rows, err := conn.Query(t.Context(), "SELECT name, type, comment FROM system.columns WHERE database = currentDatabase() AND table = 'events' ORDER BY position")
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var name, kind, comment string
			require.NoError(t, rows.Scan(&name, &kind, &comment))
			columns = append(columns, name+" "+kind+" "+comment)
		}
		require.NoError(t, rows.Err())
		return columns
	}
	require.NoError(t, schema.Apply(t.Context(), conn))
	want := describe()
	for _, gained := range []string{"channel", "click_id", "click_id_type", "device", "browser", "browser_version", "os", "os_version", "country", "region", "city", "bot"} {
		require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE events DROP COLUMN "+gained))
	}
	require.Len(t, describe(), len(want)-12)
	require.NoError(t, schema.Apply(t.Context(), conn))
	require.Equal(t, want, describe())
}

func TestViewsAnswerOnAnEmptyStore(t *testing.T) {
	conn := clickhousetest.Start(t).Conn(t)
	require.NoError(t, schema.Apply(t.Context(), conn))
	for _, view := range []string{
		"merged_profiles", "people", "orders", "segment_sizes", "send_results", "ledger_balance", "touches", "plan_issues", "unplanned_events",
		"attribution(tenant = 'demo', conversion = 'x', days = 30)", "holdout_lift(tenant = 'demo', journey = 'j', conversion = 'x')",
	} {
		var n uint64
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count() FROM "+view).Scan(&n), view)
		require.Zero(t, n, view)
	}
}
