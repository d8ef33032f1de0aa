// Package rows reads files of rows: JSON Lines and CSV, one row at a time, each with its line number.
//
// It promises: a row that cannot be read is reported with its line and costs nothing else; memory is
// bounded by MaxRow whatever the file holds; lines are counted as an editor counts them, from 1.
// TestBadRowsCostNothingElse, TestRowsAreBounded and FuzzCSV catch the loss of that.
package rows

import (
	"errors"
	"fmt"
)

// MaxRow bounds one row in bytes. A longer line of JSON is refused alone; a longer row of CSV ends the
// reading, since a quote that is not closed makes the rest of the file one row.
const MaxRow = 8 << 20

// Whole is the path of a row of JSON itself.
const Whole = "@this"

// Value is what a row holds under a name.
type Value struct {
	// Text is the value as text; of a JSON string, without its quotes.
	Text string
	// JSON is the value as JSON if the file has types, else empty.
	JSON string
}

// Row is one row of a file.
type Row interface {
	// Value returns what the row holds under a name: a column of CSV, a path of JSON (`customer.id`, or
	// Whole). It is false if there is no such name or it holds null.
	Value(name string) (Value, bool)
	// Clone is a row that stays valid.
	Clone() Row
}

// Reader reads the rows of a file.
type Reader interface {
	// Next returns the next row, valid until the call after it, and the line on which it begins. A *Bad
	// error is about this row alone; io.EOF ends the file; any other error ends the reading.
	Next() (row Row, line int, err error)
	// Has says whether rows can have the name; a file without declared names says yes to all.
	Has(name string) bool
}

// Codes of rows that cannot be read.
const (
	// BadJSON is a line that is no JSON object.
	BadJSON = "bad_json"
	// LineTooLong is a line over MaxRow.
	LineTooLong = "line_too_long"
	// BadRow is a row of CSV with quotes in the wrong places or the wrong number of fields.
	BadRow = "bad_row"
)

// Bad is a row that cannot be read.
type Bad struct {
	// Code says why in a word, Detail in a sentence without the row's content.
	Code, Detail string
}

// Error makes a Bad an error.
func (b *Bad) Error() string { return b.Code + ": " + b.Detail }

// errLong means that a row went over MaxRow.
var errLong = errors.New("a row is longer than 8 MiB")

func bad(code, format string, args ...any) *Bad {
	return &Bad{Code: code, Detail: fmt.Sprintf(format, args...)}
}
