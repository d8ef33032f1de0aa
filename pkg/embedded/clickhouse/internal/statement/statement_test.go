package statement

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Statement
		data       string
	}{
		{"select", "SELECT 1", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT 1", Bare: "SELECT 1"}, ""},
		{"semicolon and comment", "SELECT 1 ; -- done", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT 1", Bare: "SELECT 1"}, ""},
		{"leading comment", "/* a */ -- b\n select 1", Statement{Kind: Select, Keyword: "SELECT", SQL: "select 1", Bare: "select 1"}, ""},
		{"format", "SELECT 1 FORMAT JSON", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT 1 FORMAT JSON", Bare: "SELECT 1 ", Format: "JSON"}, ""},
		{"format then settings", "SELECT 1 FORMAT JSON SETTINGS max_threads = 1, x = 'y'", Statement{Kind: Select, Keyword: "SELECT",
			SQL: "SELECT 1 FORMAT JSON SETTINGS max_threads = 1, x = 'y'", Bare: "SELECT 1 ", Format: "JSON"}, ""},
		{"column called format", "SELECT format FROM t", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT format FROM t", Bare: "SELECT format FROM t"}, ""},
		{"format in string", "SELECT ' FORMAT JSON'", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT ' FORMAT JSON'", Bare: "SELECT ' FORMAT JSON'"}, ""},
		{"semicolon in string", `SELECT ';''\';'`, Statement{Kind: Select, Keyword: "SELECT", SQL: `SELECT ';''\';'`, Bare: `SELECT ';''\';'`}, ""},
		{"heredoc", "SELECT $x$ ; ' $x$", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT $x$ ; ' $x$", Bare: "SELECT $x$ ; ' $x$"}, ""},
		{"brackets", "(SELECT 1) UNION ALL (SELECT 2)", Statement{Kind: Select, Keyword: "(", SQL: "(SELECT 1) UNION ALL (SELECT 2)", Bare: "(SELECT 1) UNION ALL (SELECT 2)"}, ""},
		{"show", "SHOW TABLES FORMAT CSV", Statement{Keyword: "SHOW", SQL: "SHOW TABLES FORMAT CSV", Format: "CSV"}, ""},
		{"set", "SET a = 1", Statement{Keyword: "SET", SQL: "SET a = 1", KeepsSession: true}, ""},
		{"temporary", "CREATE TEMPORARY TABLE t (a Int8)", Statement{Keyword: "CREATE", SQL: "CREATE TEMPORARY TABLE t (a Int8)", KeepsSession: true}, ""},
		{"file function", "SELECT file('/etc/passwd')", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT file('/etc/passwd')", Bare: "SELECT file('/etc/passwd')", Foreign: true}, ""},
		{"quoted file function", "SELECT `file` ('x')", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT `file` ('x')", Bare: "SELECT `file` ('x')", Foreign: true}, ""},
		{"escaped file function", "SELECT `\\x66ile`('x')", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT `\\x66ile`('x')", Bare: "SELECT `\\x66ile`('x')", Foreign: true}, ""},
		{"values in a string", "SELECT * FROM format('Values', 'x')", Statement{Kind: Select, Keyword: "SELECT",
			SQL: "SELECT * FROM format('Values', 'x')", Bare: "SELECT * FROM format('Values', 'x')", Foreign: true}, ""},
		{"composed format", "SELECT * FROM format('Val' || 'ues', 'x')", Statement{Kind: Select, Keyword: "SELECT",
			SQL: "SELECT * FROM format('Val' || 'ues', 'x')", Bare: "SELECT * FROM format('Val' || 'ues', 'x')", Foreign: true}, ""},
		{"format function", "SELECT * FROM format(JSONEachRow, 'x')", Statement{Kind: Select, Keyword: "SELECT",
			SQL: "SELECT * FROM format(JSONEachRow, 'x')", Bare: "SELECT * FROM format(JSONEachRow, 'x')"}, ""},
		{"column called file", "SELECT file FROM t", Statement{Kind: Select, Keyword: "SELECT", SQL: "SELECT file FROM t", Bare: "SELECT file FROM t"}, ""},
		{"foreign dictionary", "CREATE DICTIONARY d SOURCE(HTTP(url 'x'))", Statement{Keyword: "CREATE", SQL: "CREATE DICTIONARY d SOURCE(HTTP(url 'x'))", Foreign: true}, ""},
		{"own dictionary", "CREATE DICTIONARY d SOURCE(CLICKHOUSE(TABLE 'x'))", Statement{Keyword: "CREATE", SQL: "CREATE DICTIONARY d SOURCE(CLICKHOUSE(TABLE 'x'))"}, ""},
		{"insert format", "INSERT INTO t (a, b) FORMAT CSV\n1,2\n", Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO t (a, b) ", Format: "CSV"}, "1,2\n"},
		{"insert format blanks", "INSERT INTO t FORMAT CSV  \r\n\n1", Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO t ", Format: "CSV"}, "\n1"},
		{"insert format same line", `INSERT INTO t FORMAT JSONEachRow {"a":1}`, Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO t ", Format: "JSONEachRow"}, `{"a":1}`},
		{"insert values", "INSERT INTO db.t VALUES (1), (2);", Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO db.t ", Format: "Values"}, " (1), (2);"},
		{"insert settings", "INSERT INTO t SETTINGS a = 'VALUES' VALUES (1)", Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO t SETTINGS a = 'VALUES' ", Format: "Values"}, " (1)"},
		{"insert into a table called values", "INSERT INTO values (format) VALUES (1)", Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO values (format) ", Format: "Values"}, " (1)"},
		{"insert quoted", "insert into `a b`.\"c\" (`x`) format Native", Statement{Kind: Insert, Keyword: "INSERT", SQL: "insert into `a b`.\"c\" (`x`) ", Format: "Native"}, ""},
		{"insert function", "INSERT INTO FUNCTION null('a Int8') VALUES (1)", Statement{Kind: Insert, Keyword: "INSERT", SQL: "INSERT INTO FUNCTION null('a Int8') ", Format: "Values"}, " (1)"},
		{"insert select", "INSERT INTO t SELECT 1", Statement{Keyword: "INSERT", SQL: "INSERT INTO t SELECT 1"}, ""},
		{"insert with", "INSERT INTO t WITH 1 AS a SELECT a", Statement{Keyword: "INSERT", SQL: "INSERT INTO t WITH 1 AS a SELECT a"}, ""},
		{"insert without data", "INSERT INTO t (a, b)", Statement{Keyword: "INSERT", SQL: "INSERT INTO t (a, b)", Incomplete: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.text, true)
			require.NoError(t, err)
			if got.Kind == Insert {
				require.Equal(t, tt.data, tt.text[got.Data:])
			}
			got.Data = 0
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"":                                    ErrEmpty,
		" ; -- nothing\n":                     ErrEmpty,
		"SELECT 1; SELECT 2":                  ErrMultiple,
		"SELECT 1 INTO OUTFILE 'x'":           ErrServerFile,
		"INSERT INTO t FROM INFILE 'x'":       ErrServerFile,
		"SELECT 1; DROP TABLE t /* hidden */": ErrMultiple,
	} {
		_, err := Parse(text, true)
		require.ErrorIs(t, err, want, text)
	}
}

// TestParseCutOff feeds every prefix of an INSERT as the first part of a longer text: the header is
// either found whole or not at all.
func TestParseCutOff(t *testing.T) {
	const data = `{"a":1}`
	const text = "INSERT INTO db.t (a, `b)`) SETTINGS x = 'FORMAT' FORMAT JSONEachRow\n" + data
	for i := range len(text) {
		got, err := Parse(text[:i], false)
		if err == nil && got.Kind == Insert {
			require.Equal(t, "JSONEachRow", got.Format, text[:i])
			require.True(t, strings.HasPrefix(data, text[got.Data:i]), text[:i])
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"SELECT 1 FORMAT JSON", "INSERT INTO t VALUES (1)", "INSERT INTO t FORMAT CSV\n1", "SELECT $a$x$a$;", "'\\", "`", "/*", "INSERT INTO"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, complete bool) {
		s, err := Parse(text, complete)
		if err != nil {
			return
		}
		if s.Data < 0 || s.Data > len(text) {
			t.Fatalf("data begins at %d of %d", s.Data, len(text))
		}
		if !strings.Contains(text, s.SQL) {
			t.Fatalf("%q is not a part of %q", s.SQL, text)
		}
		if s.Kind == Insert && s.Format == "" {
			t.Fatal("an insert without a format")
		}
	})
}
