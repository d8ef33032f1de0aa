// Package mapping turns rows of files that other systems wrote (a CRM's customers, a till's receipts)
// into events of the tracking API, as a mapping file in YAML describes.
//
// A mapping is an event in which columns stand in the places of values:
//
//	group_by: receipt                    # rows that follow one another with the same value are one event
//	event:
//	  type: track
//	  event: Order Completed
//	  userId: $card                      # the column `card`, as text; $$ is a dollar sign
//	  timestamp: {column: sold_at, time: "02/01/2006 15:04", zone: Europe/Paris}
//	  properties:
//	    revenue: {sum: [quantity, price]}       # over the rows: Σ quantity × price, exactly
//	    products:
//	      each: {product_id: $sku, quantity: {column: quantity, as: integer}}
//
// README.md of service sillage lists what a value can be. It promises: mapping is a pure function of the
// rows and the file's name and time; what is empty is left out; a value that is not what the mapping says
// refuses its event with the column and the reason, never with the value. TestMappingsByExample and
// TestWrongMappingsAreExplained catch the loss of that; FuzzParse throws text at the parser.
package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// BadValue is the code of an event whose row holds something else than the mapping says.
const BadValue = "bad_value"

// Mapping is a mapping file that was understood.
type Mapping struct {
	// CSV is how the file is written, if it is CSV.
	CSV rows.CSVOptions

	groupBy string
	event   node
	columns []use
}

// use is a place in the mapping that names a column.
type use struct {
	column string
	line   int
}

// Whole is the mapping of files that hold events: each row of JSON is one.
func Whole() *Mapping {
	return &Mapping{event: &column{name: rows.Whole, convert: asIs}}
}

// GroupBy is the column whose equal values make rows that follow one another one event; empty for one
// event a row.
func (m *Mapping) GroupBy() string { return m.groupBy }

// Check says which columns the mapping names that the file has not.
func (m *Mapping) Check(file rows.Reader) error {
	var errs []error
	for _, u := range m.columns {
		if !file.Has(u.column) && !isBuiltIn(u.column) {
			errs = append(errs, fmt.Errorf("line %d: the file has no column %q", u.line, u.column))
		}
	}
	return errors.Join(errs...)
}

// File is what a mapping may say of the file that a row is from, beside the row.
type File struct {
	// Name is `$file.name`.
	Name string
	// Time is `$file.time`: when the file was last written.
	Time time.Time
}

// Built-in columns.
const (
	columnFileName = "file.name"
	columnFileTime = "file.time"
	columnLine     = "row.line"
)

func isBuiltIn(column string) bool {
	return column == columnFileName || column == columnFileTime || column == columnLine
}

// Event maps the rows of one event, which are at least one, to its JSON. line is where the first begins.
// A *rows.Bad error says what in the rows is wrong.
func (m *Mapping) Event(file File, line int, group []rows.Row) ([]byte, error) {
	b := &build{file: file, line: line, group: group, row: group[0]}
	out, present, err := m.event.append(nil, b)
	if err != nil {
		return nil, err
	}
	if !present {
		return nil, &rows.Bad{Code: BadValue, Detail: "the row is empty"}
	}
	return out, nil
}

// build is one event in the making.
type build struct {
	file  File
	line  int
	group []rows.Row
	row   rows.Row // the one that columns are taken from
}

// value is what the row holds in a column; nothing if it has none of that name.
func (b *build) value(column string) rows.Value {
	if v, ok := b.row.Value(column); ok {
		return v
	}
	switch column {
	case columnFileName:
		return rows.Value{Text: b.file.Name}
	case columnFileTime:
		return rows.Value{Text: b.file.Time.UTC().Format(time.RFC3339Nano)}
	case columnLine:
		return rows.Value{Text: strconv.Itoa(b.line)}
	}
	return rows.Value{}
}
