package rows

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/transform"
)

// CSVOptions say how a CSV file is written. The zero value is RFC 4180 in UTF-8 with a header.
type CSVOptions struct {
	// Delimiter is between fields: one character; default `,`.
	Delimiter string `json:"delimiter"`
	// Encoding is `utf-8` (default, with or without a byte order mark), `windows-1252` or `iso-8859-15`.
	Encoding string `json:"encoding"`
	// Columns names the columns of a file without a header line; empty takes the first line.
	Columns []string `json:"columns"`
}

// Validate says everything that is wrong with o.
func (o CSVOptions) Validate() error {
	var errs []error
	if r, size := utf8.DecodeRuneInString(o.Delimiter); o.Delimiter != "" && (size != len(o.Delimiter) || r == utf8.RuneError || strings.ContainsRune("\"\r\n", r)) {
		errs = append(errs, fmt.Errorf("csv.delimiter: %q is not one character that can stand between fields", o.Delimiter))
	}
	if _, err := o.decoder(nil); err != nil {
		errs = append(errs, err)
	}
	if err := checkColumns(o.Columns); err != nil {
		errs = append(errs, fmt.Errorf("csv.columns: %w", err))
	}
	return errors.Join(errs...)
}

func (o CSVOptions) decoder(r io.Reader) (io.Reader, error) {
	switch strings.ToLower(o.Encoding) {
	case "", "utf-8", "utf8":
		return r, nil
	case "windows-1252", "cp1252":
		return transform.NewReader(r, charmap.Windows1252.NewDecoder()), nil
	case "iso-8859-15", "latin9":
		return transform.NewReader(r, charmap.ISO8859_15.NewDecoder()), nil
	}
	return nil, fmt.Errorf("csv.encoding: %q is none of utf-8, windows-1252, iso-8859-15", o.Encoding)
}

// CSV reads CSV (RFC 4180).
type CSV struct {
	limit *limited
	from  *csv.Reader
	row   csvRow
	last  int // line of the last row
}

// NewCSV reads from r; without Columns in the options it reads the header at once.
func NewCSV(r io.Reader, o CSVOptions) (*CSV, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	decoded, err := o.decoder(r)
	if err != nil {
		return nil, err
	}
	limit := &limited{from: withoutMark(decoded), left: MaxRow}
	c := &CSV{limit: limit, from: csv.NewReader(limit)}
	c.from.ReuseRecord = true
	if o.Delimiter != "" {
		c.from.Comma, _ = utf8.DecodeRuneInString(o.Delimiter)
	}
	columns := o.Columns
	if len(columns) == 0 {
		header, err := c.from.Read()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty: a header line with the names of the columns is needed, or csv.columns")
		}
		if err != nil {
			return nil, fmt.Errorf("reading the header: %w", err)
		}
		columns = make([]string, len(header))
		for i, name := range header {
			columns[i] = strings.TrimSpace(name)
		}
		if err := checkColumns(columns); err != nil {
			return nil, fmt.Errorf("reading the header: %w", err)
		}
	}
	c.row.columns = columns
	c.row.place = make(map[string]int, len(columns))
	for i, name := range columns {
		c.row.place[name] = i
	}
	c.from.FieldsPerRecord = len(columns)
	return c, nil
}

func checkColumns(columns []string) error {
	seen := make(map[string]bool, len(columns))
	for i, name := range columns {
		if name == "" {
			return fmt.Errorf("column %d has no name", i+1)
		}
		if seen[name] {
			return fmt.Errorf("column %q is there twice", name)
		}
		seen[name] = true
	}
	return nil
}

// withoutMark drops a byte order mark.
func withoutMark(r io.Reader) io.Reader {
	buffered := bufio.NewReader(r)
	if mark, err := buffered.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = buffered.Discard(3) // was peeked at
	}
	return buffered
}

// Has says whether the file has a column of that name.
func (c *CSV) Has(name string) bool {
	_, ok := c.row.place[name]
	return ok
}

// Next returns the next row.
func (c *CSV) Next() (Row, int, error) {
	c.limit.left = MaxRow
	fields, err := c.from.Read()
	var wrong *csv.ParseError
	switch {
	case errors.Is(err, errLong):
		return nil, c.last, fmt.Errorf("reading the row after line %d: %w: a quote may not be closed there", c.last, errLong)
	case errors.As(err, &wrong):
		return nil, wrong.StartLine, bad(BadRow, "%v", describe(wrong, len(fields), len(c.row.columns)))
	case err != nil:
		return nil, 0, err //nolint:wrapcheck // io.EOF as it is, or what the file says
	}
	c.last, _ = c.from.FieldPos(0)
	for _, field := range fields {
		if !utf8.ValidString(field) {
			return nil, c.last, bad(BadRow, "the row is not valid UTF-8: name the file's encoding with csv.encoding")
		}
	}
	c.row.fields = fields
	return &c.row, c.last, nil
}

func describe(wrong *csv.ParseError, fields, columns int) string {
	if errors.Is(wrong.Err, csv.ErrFieldCount) {
		return fmt.Sprintf("the row has %d fields and the file has %d columns", fields, columns)
	}
	return fmt.Sprintf("column %d: %v", wrong.Column, wrong.Err)
}

// csvRow is one row of text.
type csvRow struct {
	columns []string
	place   map[string]int
	fields  []string
}

func (r *csvRow) Value(name string) (Value, bool) {
	i, ok := r.place[name]
	if !ok {
		return Value{}, false
	}
	return Value{Text: r.fields[i]}, true
}

func (r *csvRow) Clone() Row {
	return &csvRow{columns: r.columns, place: r.place, fields: slices.Clone(r.fields)}
}

// limited ends with errLong after left bytes; each row gives it new ones.
type limited struct {
	from io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLong
	}
	n, err := l.from.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err //nolint:wrapcheck // a reader that passes on
}
