package statement

import "strings"

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted // a string or a quoted identifier
	tokenSign   // one character of punctuation, or a number
)

// token is a piece of the text; sign is its character if it is punctuation.
type token struct {
	kind       tokenKind
	begin, end int
	sign       byte
}

func (t token) is(sign string) bool { return t.kind == tokenSign && t.sign == sign[0] }
func (t token) opens() bool         { return t.is("(") || t.is("[") || t.is("{") }
func (t token) closes() bool        { return t.is(")") || t.is("]") || t.is("}") }

func (t token) word(text, keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(text[t.begin:t.end], keyword)
}

// lexer cuts a text into tokens and drops blanks and comments.
type lexer struct {
	text string
	pos  int
	cut  bool // the text may be cut off at its end
}

func (l *lexer) next() token {
	l.skipBlanks()
	begin := l.pos
	if begin >= len(l.text) {
		return token{kind: tokenEnd, begin: begin, end: begin}
	}
	c := l.text[begin]
	switch {
	case c == '\'' || c == '"' || c == '`':
		l.skipQuoted(c)
		return token{kind: tokenQuoted, begin: begin, end: l.pos}
	case c == '$' && l.skipHeredoc():
		return token{kind: tokenQuoted, begin: begin, end: l.pos}
	case letter(c):
		for l.pos < len(l.text) && (letter(l.text[l.pos]) || digit(l.text[l.pos])) {
			l.pos++
		}
		return token{kind: tokenWord, begin: begin, end: l.pos}
	case digit(c):
		for l.pos < len(l.text) && (letter(l.text[l.pos]) || digit(l.text[l.pos])) {
			l.pos++
		}
		return token{kind: tokenSign, begin: begin, end: l.pos, sign: '0'}
	}
	l.pos++
	return token{kind: tokenSign, begin: begin, end: l.pos, sign: c}
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

func (l *lexer) skipBlanks() {
	for l.pos < len(l.text) {
		rest := l.text[l.pos:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.skipPast("\n")
		case strings.HasPrefix(rest, "/*"):
			l.pos += 2
			l.skipPast("*/")
		default:
			return
		}
	}
}

func (l *lexer) skipPast(mark string) {
	if i := strings.Index(l.text[l.pos:], mark); i >= 0 {
		l.pos += i + len(mark)
		return
	}
	l.pos = len(l.text)
}

// skipQuoted passes a quoted piece; a backslash escapes, a doubled quote is a quote.
func (l *lexer) skipQuoted(quote byte) {
	l.pos++
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == '\\':
			l.pos += 2
		case c == quote && l.pos+1 < len(l.text) && l.text[l.pos+1] == quote:
			l.pos += 2
		case c == quote:
			l.pos++
			return
		default:
			l.pos++
		}
	}
	l.pos = len(l.text)
}

// skipHeredoc passes $tag$ ... $tag$ and reports whether there was one.
func (l *lexer) skipHeredoc() bool {
	rest := l.text[l.pos:]
	end := strings.IndexByte(rest[1:], '$')
	if end < 0 {
		return false
	}
	tag := rest[:end+2]
	for i := 1; i < len(tag)-1; i++ {
		if !letter(tag[i]) && !digit(tag[i]) {
			return false
		}
	}
	end = strings.Index(rest[len(tag):], tag)
	if end < 0 {
		return false
	}
	l.pos += len(tag) + end + len(tag)
	return true
}
