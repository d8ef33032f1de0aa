package clickhouse

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// format says how results in a format of ClickHouse are carried.
type format struct {
	contentType string
	// header finds the end of what the format writes before the first row, in a chunk of a
	// result. The library writes every chunk as a document of its own; a format is streamable if
	// the chunks without their headers make one document again.
	header func([]byte) int
}

// streamable tells whether results are streamed chunk by chunk or held whole.
func (f format) streamable() bool { return f.header != nil }

func noHeader([]byte) int { return 0 }

const (
	typeTSV   = "text/tab-separated-values; charset=UTF-8"
	typeCSV   = "text/csv; charset=UTF-8; header=absent"
	typeCSVH  = "text/csv; charset=UTF-8; header=present"
	typeJSON  = "application/json; charset=UTF-8"
	typeLines = "application/x-ndjson; charset=UTF-8"
	typePlain = "text/plain; charset=UTF-8"
	typeBytes = "application/octet-stream"
)

// formats holds what is known of formats by lower-case name; others are plain text, held whole.
var formats = map[string]format{
	"tabseparated": {typeTSV, noHeader}, "tsv": {typeTSV, noHeader},
	"tabseparatedraw": {typeTSV, noHeader}, "tsvraw": {typeTSV, noHeader}, "raw": {typeTSV, noHeader},
	"tabseparatedwithnames": {typeTSV, lines(1)}, "tsvwithnames": {typeTSV, lines(1)},
	"tabseparatedwithnamesandtypes": {typeTSV, lines(2)}, "tsvwithnamesandtypes": {typeTSV, lines(2)},
	"csv": {typeCSV, noHeader}, "csvwithnames": {typeCSVH, csvLines(1)}, "csvwithnamesandtypes": {typeCSVH, csvLines(2)},
	"jsoneachrow": {typeLines, noHeader}, "jsonlines": {typeLines, noHeader}, "ndjson": {typeLines, noHeader},
	"jsoncompacteachrow":                  {typeLines, noHeader},
	"jsoncompacteachrowwithnames":         {typeLines, lines(1)},
	"jsoncompacteachrowwithnamesandtypes": {typeLines, lines(2)},
	"tskv":                                {typePlain, noHeader},
	"native":                              {typeBytes, noHeader},
	"rowbinary":                           {typeBytes, noHeader},
	"rowbinarywithnames":                  {typeBytes, binaryNames(1)},
	"rowbinarywithnamesandtypes":          {typeBytes, binaryNames(2)},
	"json":                                {typeJSON, nil}, "jsoncompact": {typeJSON, nil}, "jsonstrings": {typeJSON, nil},
	"jsoncolumns": {typeJSON, nil}, "jsoncolumnswithmetadata": {typeJSON, nil}, "jsonobjecteachrow": {typeJSON, nil},
	"xml":     {"application/xml; charset=UTF-8", nil},
	"parquet": {typeBytes, nil}, "arrow": {typeBytes, nil}, "arrowstream": {typeBytes, nil}, "orc": {typeBytes, nil},
	"avro": {typeBytes, nil}, "msgpack": {typeBytes, nil}, "protobuf": {typeBytes, nil}, "protobuflist": {typeBytes, nil},
}

func formatOf(name string) format {
	if f, ok := formats[strings.ToLower(name)]; ok {
		return f
	}
	return format{contentType: typePlain}
}

// lines finds the end of the first n lines, in formats that escape line breaks.
func lines(n int) func([]byte) int {
	return func(chunk []byte) int { return endOfLines(chunk, n, 0) }
}

// csvLines finds the end of the first n lines; a line break inside double quotes does not end one.
func csvLines(n int) func([]byte) int {
	return func(chunk []byte) int { return endOfLines(chunk, n, '"') }
}

func endOfLines(chunk []byte, n int, quote byte) int {
	quoted, seen := false, 0
	for i, c := range chunk {
		switch {
		case c == quote && quote != 0:
			quoted = !quoted
		case c == '\n' && !quoted:
			if seen++; seen == n {
				return i + 1
			}
		}
	}
	return len(chunk)
}

// binaryNames finds the end of a column count with n strings for each column.
func binaryNames(n int) func([]byte) int {
	return func(chunk []byte) int {
		columns, at := binary.Uvarint(chunk)
		if at <= 0 {
			return 0
		}
		for range columns * uint64(n) {
			length, size := binary.Uvarint(chunk[at:])
			if size <= 0 || length > uint64(len(chunk)-at-size) {
				return 0
			}
			at += size + int(length)
		}
		return at
	}
}

// parseDescription reads the names and types that a DESCRIBE gives in TabSeparated.
func parseDescription(tsv []byte) []columnType {
	var columns []columnType
	for line := range bytes.Lines(tsv) {
		fields := strings.Split(strings.TrimRight(string(line), "\n"), "\t")
		if len(fields) < 2 {
			continue
		}
		columns = append(columns, columnType{name: unescape(fields[0]), typ: unescape(fields[1])})
	}
	return columns
}

var tsvUnescaper = strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\t`, "\t", `\n`, "\n", `\r`, "\r", `\b`, "\b", `\f`, "\f", `\0`, "\x00")

func unescape(field string) string { return tsvUnescaper.Replace(field) }
