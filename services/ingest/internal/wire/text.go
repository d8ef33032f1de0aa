package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

const (
	// maxBodyDepth is how deep a body may nest before anything reads it by recursion.
	maxBodyDepth = 1000
	// MaxEventDepth is how deep one event may nest.
	MaxEventDepth = 64
	// bracketsToCount is from how many brackets on the depth of a body is measured before validating it:
	// below that its depth cannot hurt.
	bracketsToCount = 10_000
)

// validate returns the text of a body that is JSON, with bytes that are not UTF-8 replaced by U+FFFD (as
// every JSON decoder of the standard library does) and without a byte order mark.
func validate(body []byte) (string, *Problem) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	}
	if bytes.Count(body, []byte{'['})+bytes.Count(body, []byte{'{'}) > bracketsToCount && depth(body) > maxBodyDepth {
		return "", &Problem{Code: TooDeep, Detail: fmt.Sprintf("the body nests deeper than %d objects and arrays", maxBodyDepth)}
	}
	if !gjson.ValidBytes(body) {
		return "", syntaxProblem(body)
	}
	return stringOf(body), nil
}

// Value looks at JSON that is to stand in a body in the place of one field. deep is true for what nests deeper
// than an event may: reading that would cost memory for every bracket, so that nothing else is said of it.
func Value(text []byte) (valid, deep bool) {
	if bytes.Count(text, []byte{'['})+bytes.Count(text, []byte{'{'}) > MaxEventDepth && depth(text) > MaxEventDepth {
		return false, true
	}
	return gjson.ValidBytes(text), false
}

// depth is how deep brackets outside strings nest. On text that is not JSON it is at least the depth of
// the longest prefix that is.
func depth(body []byte) int {
	open, deepest := 0, 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '{', '[':
			open++
			deepest = max(deepest, open)
		case '}', ']':
			open--
		case '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		}
	}
	return deepest
}

// syntaxProblem says where a body stops being JSON. The offset is encoding/json's; the text around it is
// not repeated, since it may be personal data.
func syntaxProblem(body []byte) *Problem {
	if len(bytes.TrimSpace(body)) == 0 {
		return &Problem{Code: BadJSON, Detail: "the body is empty: send a JSON object"}
	}
	var raw json.RawMessage
	err := json.Unmarshal(body, &raw)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &Problem{Code: BadJSON, Detail: fmt.Sprintf("the body is not JSON at byte %d of %d: %s", syntax.Offset, len(body), kindOfSyntaxError(syntax))}
	}
	return &Problem{Code: BadJSON, Detail: "the body is not JSON"}
}

// kindOfSyntaxError drops the quoted character from encoding/json's message.
func kindOfSyntaxError(err *json.SyntaxError) string {
	message := err.Error()
	if _, where, ok := strings.Cut(message, "' "); ok && strings.HasPrefix(message, "invalid character") {
		return "invalid character " + where
	}
	return message
}

// unquote returns the content of a JSON string.
func unquote(raw string) string {
	inner := raw[1 : len(raw)-1]
	if strings.IndexByte(inner, '\\') < 0 {
		return inner
	}
	return gjson.Parse(raw).Str
}

// canonical rewrites JSON so that equal values have equal bytes: keys sorted, of a repeated key the last,
// no space, one way to write each string, half of a surrogate pair replaced by U+FFFD; numbers stay as
// they were written. The text must be JSON no deeper than MaxEventDepth. drop names keys to leave out of
// the outermost object.
func canonical(text string, drop ...string) (string, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", fmt.Errorf("decoding JSON to rewrite it: %w", err)
	}
	if object, ok := value.(map[string]any); ok {
		for _, key := range drop {
			delete(object, key)
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", fmt.Errorf("encoding JSON to rewrite it: %w", err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// loneSurrogate reports a \uD800–\uDFFF escape without its other half. It is JSON by the grammar, but no
// text: ClickHouse's parser, among others, refuses the whole document.
func loneSurrogate(text string) bool {
	for {
		i := strings.IndexByte(text, '\\')
		if i < 0 || i+1 >= len(text) {
			return false
		}
		if text[i+1] != 'u' {
			text = text[i+2:]
			continue
		}
		unit := hex4(text[i+2:])
		text = text[i+6:]
		switch {
		case unit < 0xD800 || unit > 0xDFFF:
			continue
		case unit > 0xDBFF || len(text) < 6 || text[0] != '\\' || text[1] != 'u':
			return true
		}
		if low := hex4(text[2:]); low < 0xDC00 || low > 0xDFFF {
			return true
		}
		text = text[6:]
	}
}

func hex4(s string) (unit uint32) {
	for i := range 4 {
		c := s[i]
		switch {
		case c >= 'a':
			c -= 'a' - 10
		case c >= 'A':
			c -= 'A' - 10
		default:
			c -= '0'
		}
		unit = unit<<4 | uint32(c)
	}
	return unit
}
