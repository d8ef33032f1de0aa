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
