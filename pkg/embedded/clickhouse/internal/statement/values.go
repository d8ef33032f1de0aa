package statement

import (
	"errors"
	"strings"
)

// ErrForeignValues is returned for VALUES that hold a call of file(), or what could hide one.
var ErrForeignValues = errors.New("VALUES that call file(), heredocs in VALUES and escapes in their quoted identifiers are off")

// ValuesGuard watches the data of an INSERT ... VALUES go by, piece after piece. The format takes
// whole expressions for values, and the engine has no right that would forbid the function file()
// in them. What is inside string literals passes unseen.
type ValuesGuard struct {
	within  byte   // the quote that is open, '*' in a comment, '-' in a line comment, or 0
	escaped bool   // the byte before was a backslash in a quoted piece
	last    byte   // the byte before, outside of quotes
	word    []byte // the word or quoted identifier under way, at most five bytes of it
	called  bool   // the last word was file, and only blanks and comments have followed
}

// Check takes the next piece.
func (g *ValuesGuard) Check(piece []byte) error {
	for _, c := range piece {
		if err := g.step(c); err != nil {
			return err
		}
	}
	return nil
}

func (g *ValuesGuard) step(c byte) error {
	switch {
	case g.within == '\'':
		g.string(c)
		return nil
	case g.within == '*' || g.within == '-':
		if g.within == '-' && c == '\n' || g.within == '*' && g.last == '*' && c == '/' {
			g.within, c = 0, ' '
		}
		g.last = c
		return nil
	case g.within != 0:
		return g.identifier(c)
	}
	return g.outside(c)
}

// string passes a string literal. A doubled quote ends it and begins the next, which comes to the
// same.
func (g *ValuesGuard) string(c byte) {
	switch {
	case g.escaped:
		g.escaped = false
	case c == '\\':
		g.escaped = true
	case c == '\'':
		g.within, g.last = 0, c
	}
}

func (g *ValuesGuard) identifier(c byte) error {
	switch c {
	case '\\':
		return ErrForeignValues
	case g.within:
		g.within, g.last = 0, ' '
		g.endWord()
	default:
		g.addToWord(c)
	}
	return nil
}

func (g *ValuesGuard) outside(c byte) error {
	before := g.last
	g.last = c
	if letter(c) || digit(c) {
		if len(g.word) == 0 {
			g.called = false
		}
		g.addToWord(c)
		return nil
	}
	if len(g.word) > 0 {
		g.endWord()
	}
	if c == '$' || c == '(' && g.called {
		return ErrForeignValues
	}
	if !g.opens(before, c) && strings.IndexByte(" \t\r\n\f\v/-", c) < 0 {
		g.called = false
	}
	return nil
}

// opens notes the beginning of a quoted piece or a comment.
func (g *ValuesGuard) opens(before, c byte) bool {
	switch {
	case c == '\'' || c == '"' || c == '`':
		g.within, g.called = c, false
	case before == '/' && c == '*':
		g.within, g.last = '*', ' '
	case before == '-' && c == '-', c == '#':
		g.within = '-'
	default:
		return false
	}
	return true
}

func (g *ValuesGuard) addToWord(c byte) {
	if len(g.word) < 5 {
		g.word = append(g.word, c|0x20)
	}
}

func (g *ValuesGuard) endWord() {
	g.called = string(g.word) == "file"
	g.word = g.word[:0]
}
