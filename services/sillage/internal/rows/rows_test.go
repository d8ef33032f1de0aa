package rows_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// read lists what a reader gives: the named value of each row or its code, with the line in front.
func read(t testing.TB, r rows.Reader, name string) (got []string, err error) {
	t.Helper()
	for {
		row, line, err := r.Next()
		var bad *rows.Bad
		switch {
		case errors.Is(err, io.EOF):
			return got, nil
		case errors.As(err, &bad):
			got = append(got, itoa(line)+" "+bad.Code)
		case err != nil:
			return got, err
		default:
			v, ok := row.Value(name)
			if !ok {
				v.Text = "-"
			}
			got = append(got, itoa(line)+" "+v.Text)
		}
	}
}

func itoa(n int) string { return string(rune('0' + n)) }

func TestBadRowsCostNothingElse(t *testing.T) {
	lines := "{\"a\":{\"b\":1}}\n[1]\n\n{\"a\":\n{\"a\":{\"b\":null}}\n{\"a\":{\"b\":\"x\"}}"
	got, err := read(t, rows.NewJSONLines(strings.NewReader(lines)), "a.b")
	require.NoError(t, err)
	require.Equal(t, []string{"1 1", "2 bad_json", "4 bad_json", "5 -", "6 x"}, got)

	text := "id,name\n1,one\n2\n3,\"a \"\"quoted\"\"\nname\"\n4,bad\"quote\n5,five,too\n6,six\n"
	file, err := rows.NewCSV(strings.NewReader(text), rows.CSVOptions{})
	require.NoError(t, err)
	require.True(t, file.Has("name"))
	require.False(t, file.Has("nom"))
	got, err = read(t, file, "name")
	require.NoError(t, err)
	require.Equal(t, []string{"2 one", "3 bad_row", "4 a \"quoted\"\nname", "6 bad_row", "7 bad_row", "8 six"}, got)
}

// Lines are counted as an editor counts them, also behind rows that cannot be read and over several lines.
func TestLinesAfterBadRows(t *testing.T) {
	long := strings.Repeat("x", rows.MaxRow+1)
	deep := strings.Repeat("[", rows.MaxRow/2)
	got, err := read(t, rows.NewJSONLines(strings.NewReader("\n"+long+"\n{\"a\":4}\n{\"a\":"+deep+"\n"+long+"\n\n{\"a\":8}\n"+long)), "a")
	require.NoError(t, err)
	require.Equal(t, []string{"2 line_too_long", "3 4", "4 bad_json", "5 line_too_long", "7 8", "8 line_too_long"}, got)

	file, err := rows.NewCSV(strings.NewReader("a,b\n\n\"one\ntwo\",\"three\nfour\"x\n5,\"6\n7\",8\n9,9\n"), rows.CSVOptions{})
	require.NoError(t, err)
	got, err = read(t, file, "a")
	require.NoError(t, err)
	require.Equal(t, []string{"3 bad_row", "6 bad_row", "8 9"}, got)
}

// The bound is of one row, not of the file.
func TestAFileMayBeLong(t *testing.T) {
	const n = 9
	row := strings.Repeat("x", 1<<20)
	file, err := rows.NewCSV(strings.NewReader("name\n"+strings.Repeat(row+"\n", n)), rows.CSVOptions{})
	require.NoError(t, err)
	for range n {
		r, _, err := file.Next()
		require.NoError(t, err)
		v, _ := r.Value("name")
		require.Len(t, v.Text, len(row))
	}
	_, _, err = file.Next()
	require.ErrorIs(t, err, io.EOF)
}

// A row that is kept stays as it is while others are read.
func TestAClonedRowStays(t *testing.T) {
	file, err := rows.NewCSV(strings.NewReader("a\n1\n2\n3\n"), rows.CSVOptions{})
	require.NoError(t, err)
	for _, from := range []rows.Reader{file, rows.NewJSONLines(strings.NewReader("{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n"))} {
		first, _, err := from.Next()
		require.NoError(t, err)
		kept := first.Clone()
		for range 2 {
			_, _, err = from.Next()
			require.NoError(t, err)
		}
		v, ok := kept.Value("a")
		require.True(t, ok)
		require.Equal(t, "1", v.Text)
	}
}

// A header that names a column twice or not at all, and rows that do not fit the columns that were given.
func TestColumnsAreWhatTheySay(t *testing.T) {
	for text, want := range map[string]string{"a,b, a\n1,2,3\n": `"a" is there twice`, "a,,b\n": "column 2 has no name", "a\"b\n": "header"} {
		_, err := rows.NewCSV(strings.NewReader(text), rows.CSVOptions{})
		require.ErrorContains(t, err, want)
	}
	file, err := rows.NewCSV(strings.NewReader("1\n1,2,3\n1,2\n"), rows.CSVOptions{Columns: []string{"a", "b"}})
	require.NoError(t, err)
	got, err := read(t, file, "b")
	require.NoError(t, err)
	require.Equal(t, []string{"1 bad_row", "2 bad_row", "3 2"}, got)
}

func TestHowCSVIsWritten(t *testing.T) {
	cases := map[string]struct {
		text string
		how  rows.CSVOptions
		want string
	}{
		"byte order mark":    {"\xef\xbb\xbfname\nx\n", rows.CSVOptions{}, "2 x"},
		"semicolons":         {"id;name\n1;a,b\n", rows.CSVOptions{Delimiter: ";"}, "2 a,b"},
		"windows-1252":       {"name\ncaf\xe9 5 \x80\n", rows.CSVOptions{Encoding: "windows-1252"}, "2 café 5 €"},
		"not UTF-8":          {"name\ncaf\xe9\n", rows.CSVOptions{}, "2 bad_row"},
		"no header":          {"1,x\n", rows.CSVOptions{Columns: []string{"id", "name"}}, "1 x"},
		"spaces in a header": {"id , name\n1,x\n", rows.CSVOptions{}, "2 x"},
		"carriage returns":   {"name\r\nx\r\n", rows.CSVOptions{}, "2 x"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			file, err := rows.NewCSV(strings.NewReader(c.text), c.how)
			require.NoError(t, err)
			got, err := read(t, file, "name")
			require.NoError(t, err)
			require.Equal(t, []string{c.want}, got)
		})
	}
}

func TestWrongOptionsAreExplained(t *testing.T) {
	for want, how := range map[string]rows.CSVOptions{
		"csv.delimiter": {Delimiter: ";;"}, "csv.encoding": {Encoding: "ebcdic"}, "twice": {Columns: []string{"a", "a"}}, "no name": {Columns: []string{""}},
	} {
		_, err := rows.NewCSV(strings.NewReader("a\n"), how)
		require.ErrorContains(t, err, want)
	}
	_, err := rows.NewCSV(strings.NewReader(""), rows.CSVOptions{})
	require.ErrorContains(t, err, "empty")
}

// A quote that is never closed does not take the rest of the file into memory.
func TestRowsAreBounded(t *testing.T) {
	text := io.MultiReader(strings.NewReader("name\nx\n\""), io.LimitReader(endless{}, 1<<30))
	file, err := rows.NewCSV(text, rows.CSVOptions{})
	require.NoError(t, err)
	got, err := read(t, file, "name")
	require.ErrorContains(t, err, "after line 2")
	require.ErrorContains(t, err, "quote")
	require.Equal(t, []string{"2 x"}, got)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("a,b\n1,2\n"), ",", "utf-8")
	f.Add([]byte("\"a\nb\";c\n1;2;3"), ";", "windows-1252")
	f.Fuzz(func(t *testing.T, text []byte, delimiter, encoding string) {
		file, err := rows.NewCSV(bytes.NewReader(text), rows.CSVOptions{Delimiter: delimiter, Encoding: encoding})
		if err != nil {
			return
		}
		last := 0
		for range len(text) + 1 {
			_, line, err := file.Next()
			var bad *rows.Bad
			if err != nil && !errors.As(err, &bad) {
				return
			}
			require.GreaterOrEqual(t, line, last)
			last = line
		}
		t.Fatal("more rows than bytes")
	})
}
