// Package statement reads just enough of a ClickHouse statement to carry it over HTTP: what kind
// it is, which format its result has, and where the data of an INSERT begins.
//
// It promises never to change what a statement means: it only cuts trailing semicolons and
// comments off, and cuts an INSERT in two before its data. What it cannot make out it reports as
// [Other], which the engine's own parser then judges. It knows ClickHouse's tokens (strings,
// quoted identifiers, comments, heredocs), not its grammar. FuzzParse would catch a panic, the
// table tests a wrong cut.
package statement

import (
	"errors"
	"strings"
)

// Kind is how a statement has to be carried out.
type Kind int

const (
	// Other is run as a whole: DDL, SHOW, EXPLAIN, INSERT ... SELECT and whatever is not known.
	Other Kind = iota
	// Select returns rows and may be streamed.
	Select
	// Insert takes data that follows it.
	Insert
)

// Statement is what was made out.
type Statement struct {
	Kind Kind
	// Keyword is the first word, in upper case.
	Keyword string
	// SQL is the statement without trailing semicolons and comments. For an Insert it is the part
	// before FORMAT or VALUES.
	SQL string
	// Bare is SQL without its FORMAT clause and what follows that; set for a Select.
	Bare string
	// Format is the FORMAT clause of a result, or the format of an Insert's data; empty if none.
	Format string
	// Data is the offset in the text at which the data of an Insert begins; it is the length of
	// the text if all of the data comes separately.
	Data int
	// KeepsSession says that the statement changes the session beyond itself (SET, USE, temporary
	// tables, transactions).
	KeepsSession bool
	// Foreign says that the statement names the function file(), or what may hide it, or a
	// dictionary source other than a table. The engine has no right that would forbid these. For
	// the data of an INSERT ... VALUES see [ValuesGuard].
	Foreign bool
	// Incomplete says that the text ends before the header of an Insert does.
	Incomplete bool
}

var (
	// ErrEmpty is returned for a text without a statement.
	ErrEmpty = errors.New("empty query")
	// ErrMultiple is returned for more than one statement.
	ErrMultiple = errors.New("multi-statements are not allowed")
	// ErrServerFile is returned for a statement that would read or write a file of the process
	// (INTO OUTFILE, FROM INFILE), which belongs to a client, not to a server.
	ErrServerFile = errors.New("INTO OUTFILE and FROM INFILE are not allowed over HTTP")
)

// Parse makes out one statement. The text of an Insert may go on beyond its header with the first
// part of its data. If the text is not complete, an Insert whose header may go on is Incomplete.
func Parse(text string, complete bool) (Statement, error) {
	lex := lexer{text: text, cut: !complete}
	first := lex.next()
	for first.is(";") {
		first = lex.next()
	}
	if first.kind == tokenEnd {
		return Statement{}, ErrEmpty
	}
	s := Statement{Keyword: strings.ToUpper(text[first.begin:first.end])}
	if first.kind == tokenWord && s.Keyword == "INSERT" {
		return parseInsert(lex, first, s)
	}
	return parseOther(lex, first, s)
}

// parseInsert finds the end of "INSERT [INTO] [TABLE] [FUNCTION] target [(columns)] [SETTINGS ...]".
func parseInsert(lex lexer, first token, s Statement) (Statement, error) {
	text := lex.text
	whole := lex
	t := lex.next()
	for t.word(text, "INTO") || t.word(text, "TABLE") || t.word(text, "FUNCTION") {
		t = lex.next()
	}
	t = lex.next() // the target's first name is over, whatever it is called
	for t.is(".") {
		lex.next()
		t = lex.next()
	}
	for depth := 0; ; t = lex.next() {
		switch {
		case t.kind == tokenEnd:
			s.Incomplete = true
			s.SQL = text[first.begin:]
			return s, nil
		case t.opens():
			depth++
		case t.closes():
			depth--
		case depth > 0 || t.kind != tokenWord:
		case t.word(text, "VALUES"):
			s.Kind, s.Format = Insert, "Values"
			s.SQL, s.Data = text[first.begin:t.begin], t.end
			return s, nil
		case t.word(text, "FORMAT"):
			return insertFormat(lex, first, t, s)
		case t.word(text, "SELECT"), t.word(text, "WITH"), t.word(text, "WATCH"), t.word(text, "FROM"), t.word(text, "EXPLAIN"):
			return parseOther(whole, first, s)
		}
	}
}

// insertFormat reads the name after FORMAT and skips to the data as ClickHouse does: over blanks,
// and over one line break.
func insertFormat(lex lexer, first, format token, s Statement) (Statement, error) {
	text := lex.text
	name := lex.next()
	if name.kind != tokenWord || name.end == len(text) && lex.cut {
		s.Incomplete = name.kind == tokenEnd
		s.SQL = text[first.begin:]
		return s, nil
	}
	s.Kind = Insert
	s.Format, s.SQL = text[name.begin:name.end], text[first.begin:format.begin]
	data := name.end
	for data < len(text) && strings.IndexByte(" \t\f", text[data]) >= 0 {
		data++
	}
	if data < len(text) && text[data] == ';' {
		data++
	}
	if data < len(text) && text[data] == '\r' {
		data++
	}
	if data < len(text) && text[data] == '\n' {
		data++
	}
	s.Data = data
	return s, nil
}

// parseOther walks a statement to its end, noting the FORMAT clause.
func parseOther(lex lexer, first token, s Statement) (Statement, error) {
	text := lex.text
	walk := walker{text: text}
	for t := first; t.kind != tokenEnd; t = lex.next() {
		if err := walk.step(t); err != nil {
			return s, err
		}
	}
	s.SQL, s.Format = text[first.begin:walk.end], walk.formatName
	s.Data = len(text)
	s.KeepsSession, s.Foreign = walk.temporary, walk.foreign
	switch s.Keyword {
	case "SELECT", "WITH", "(", "FROM":
		s.Kind = Select
		s.Bare = s.SQL
		if walk.formatName != "" {
			s.Bare = text[first.begin:walk.formatAt]
		}
	case "SET", "USE", "BEGIN", "COMMIT", "ROLLBACK", "START":
		s.KeepsSession = true
	}
	return s, nil
}

// walker follows the tokens of a statement: depth of brackets, the last FORMAT clause, the end.
type walker struct {
	text       string
	depth, end int
	over       bool // a semicolon was seen
	previous   token
	formatAt   int
	formatName string
	temporary  bool
	source     bool // within SOURCE(
	foreign    bool
}

func (w *walker) step(t token) error {
	if w.over && !t.is(";") {
		return ErrMultiple
	}
	if t.is(";") && w.depth == 0 {
		w.over = true
		return nil
	}
	w.end = t.end
	switch {
	case t.opens():
		w.depth++
	case t.closes():
		w.depth--
	}
	w.clause(t)
	if w.depth == 0 && w.previous.word(w.text, "INTO") && t.word(w.text, "OUTFILE") ||
		w.depth == 0 && w.previous.word(w.text, "FROM") && t.word(w.text, "INFILE") {
		return ErrServerFile
	}
	w.reach(t)
	w.temporary = w.temporary || t.word(w.text, "TEMPORARY")
	w.previous = t
	return nil
}

// reach notes what would reach beyond the engine's own tables: file( as a word or quoted, and
// SOURCE(X with another X than CLICKHOUSE, NULL or a subquery's table.
func (w *walker) reach(t token) {
	if w.source && t.kind == tokenWord && !t.word(w.text, "CLICKHOUSE") && !t.word(w.text, "NULL") {
		w.foreign = true
	}
	w.source = false
	if !t.is("(") {
		return
	}
	name := w.text[w.previous.begin:w.previous.end]
	switch {
	case w.previous.kind == tokenSign:
	case w.previous.kind == tokenQuoted && strings.Contains(name, `\`):
		w.foreign = true // an escape may spell anything
	case strings.EqualFold(strings.Trim(name, "`\""), "file"):
		w.foreign = true
	case strings.EqualFold(strings.Trim(name, "`\""), "format"):
		w.foreign = w.foreign || !plainFormat(w.text, t.end)
	case w.previous.word(w.text, "SOURCE"):
		w.source = true
	}
}

// plainFormat tells whether the arguments that begin here, of the table function format() or the
// string function of that name, cannot name the format Values, within which a string may hold
// expressions.
func plainFormat(text string, begin int) bool {
	lex := lexer{text: text, pos: begin}
	name, after := lex.next(), lex.next()
	spelled := text[name.begin:name.end]
	if name.kind == tokenSign || strings.Contains(spelled, `\`) || strings.EqualFold(strings.Trim(spelled, "'`\""), "values") {
		return false
	}
	return after.is(",")
}

// clause keeps "FORMAT name" as the result's format as long as nothing but SETTINGS follows it, so
// that a column called format is not taken for the clause.
func (w *walker) clause(t token) {
	switch {
	case w.depth != 0:
		w.formatName = ""
	case t.kind == tokenWord && w.previous.word(w.text, "FORMAT"):
		w.formatAt, w.formatName = w.previous.begin, w.text[t.begin:t.end]
	case w.formatName != "" && !t.word(w.text, "SETTINGS") && !w.inSettings(t):
		w.formatName = ""
	}
}

// inSettings says that what follows the format is a SETTINGS clause.
func (w *walker) inSettings(t token) bool {
	rest := lexer{text: w.text, pos: w.formatAt}
	rest.next()
	rest.next()
	settings := rest.next()
	return settings.word(w.text, "SETTINGS") && settings.begin < t.begin
}
