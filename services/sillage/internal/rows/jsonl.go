package rows

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tidwall/gjson"
)

// JSONLines reads JSON Lines: one object a line, blank lines skipped.
type JSONLines struct {
	from *bufio.Reader
	line int
	text []byte
}

// NewJSONLines reads from r.
func NewJSONLines(r io.Reader) *JSONLines {
	return &JSONLines{from: bufio.NewReaderSize(r, 1<<20)}
}

// Has is always true: an object may hold any name.
func (j *JSONLines) Has(string) bool { return true }

// Next returns the next object.
func (j *JSONLines) Next() (Row, int, error) {
	for {
		long, err := j.readLine()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, j.line, fmt.Errorf("reading line %d: %w", j.line, err)
		}
		object := bytes.TrimSpace(j.text)
		switch {
		case long:
			return nil, j.line, bad(LineTooLong, "the line is longer than %d bytes", MaxRow)
		case len(object) == 0 && err != nil:
			return nil, j.line, io.EOF
		case len(object) == 0:
		case object[0] != '{' || !validJSON(object):
			return nil, j.line, bad(BadJSON, "the line is no JSON object")
		default:
			return jsonRow(object), j.line, nil
		}
	}
}

// deepFrom is how many brackets text has that may nest too deep to be read by recursion.
const deepFrom = 10_000

// validJSON says whether text is JSON, and nests no deeper than encoding/json reads.
func validJSON(text []byte) bool {
	if bytes.Count(text, []byte{'['})+bytes.Count(text, []byte{'{'}) > deepFrom {
		return json.Valid(text)
	}
	return gjson.ValidBytes(text)
}

// readLine reads one line whole into text. Of a line over MaxRow it keeps nothing and says so.
func (j *JSONLines) readLine() (long bool, err error) {
	j.line++
	j.text = j.text[:0]
	for {
		part, err := j.from.ReadSlice('\n')
		if long = long || len(j.text)+len(part) > MaxRow; !long {
			j.text = append(j.text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return long, err
		}
	}
}

// jsonRow is one object.
type jsonRow []byte

func (r jsonRow) Clone() Row { return jsonRow(bytes.Clone(r)) }

func (r jsonRow) Value(name string) (Value, bool) {
	found := gjson.GetBytes(r, name)
	if !found.Exists() || found.Type == gjson.Null {
		return Value{}, false
	}
	return Value{Text: found.String(), JSON: found.Raw}, true
}
