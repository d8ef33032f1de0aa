package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/sillage-cdp/sillage/services/analytics/internal/rows"
)

// writer inserts rows so that inserting them again changes nothing.
type writer struct{ conn driver.Conn }

// insert writes the rows of a table under a token. A batch that ClickHouse refuses for its data is cut in
// halves until the row at fault stands alone; that row comes back as refused and all others are written.
// The tokens of the halves follow from the token, so that a repetition takes the same way.
func (w writer) insert(ctx context.Context, t rows.Table, token string) (refused []refusal, err error) {
	err = w.write(ctx, t, token)
	if err == nil || !faultOfData(err) {
		return nil, err
	}
	if len(t.Rows) == 1 {
		return []refusal{{table: t.Name, columns: t.Columns, row: t.Rows[0], reason: err.Error()}}, nil
	}
	middle := len(t.Rows) / 2
	for i, half := range [][][]any{t.Rows[:middle], t.Rows[middle:]} {
		part := t
		part.Rows = half
		more, err := w.insert(ctx, part, fmt.Sprintf("%s/%d", token, i))
		if err != nil {
			return nil, err
		}
		refused = append(refused, more...)
	}
	return refused, nil
}

// refusal is a row that ClickHouse does not take.
type refusal struct {
	table   string
	columns []string
	row     []any
	reason  string
}

func (w writer) write(ctx context.Context, t rows.Table, token string) error {
	ctx = ch.Context(ctx, ch.WithSettings(ch.Settings{
		"insert_deduplicate":              1,
		"insert_deduplication_token":      token,
		"async_insert":                    0,
		"type_json_skip_duplicated_paths": 1,
	}))
	batch, err := w.conn.PrepareBatch(ctx, "INSERT INTO "+t.Name+" ("+strings.Join(t.Columns, ", ")+")")
	if err != nil {
		return fmt.Errorf("preparing an insert into %s: %w", t.Name, err)
	}
	defer batch.Close() //nolint:errcheck // nothing is left to close once it is sent or aborted
	for _, row := range t.Rows {
		if err := batch.Append(row...); err != nil {
			return errors.Join(&appendError{table: t.Name, err: err}, batch.Abort())
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("inserting into %s: %w", t.Name, err)
	}
	return nil
}

// appendError is a row that the client cannot encode.
type appendError struct {
	table string
	err   error
}

func (e *appendError) Error() string { return fmt.Sprintf("encoding a row of %s: %v", e.table, e.err) }
func (e *appendError) Unwrap() error { return e.err }

// dataErrors are ClickHouse's codes for data that it will never take, whatever the number of tries.
var dataErrors = map[int32]bool{
	6:   true, // CANNOT_PARSE_TEXT
	26:  true, // CANNOT_PARSE_QUOTED_STRING
	27:  true, // CANNOT_PARSE_INPUT_ASSERTION_FAILED
	41:  true, // CANNOT_PARSE_DATETIME
	53:  true, // TYPE_MISMATCH
	69:  true, // ARGUMENT_OUT_OF_BOUND
	72:  true, // CANNOT_PARSE_NUMBER
	117: true, // INCORRECT_DATA
	321: true, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
	407: true, // DECIMAL_OVERFLOW
}

func faultOfData(err error) bool {
	if _, ok := errors.AsType[*appendError](err); ok {
		return true
	}
	exception, ok := errors.AsType[*ch.Exception](err)
	return ok && dataErrors[exception.Code]
}
