// Package identifier decides whether a value that a producer calls an identifier can name a person, and
// brings it to the one form under which identity knows it.
//
// It promises that no value which many people share by accident (`null`, `0`, `anonymous`, …) becomes an
// identifier: each such value would merge strangers into one profile. The built-in list is the union of
// what Segment and PostHog refuse; a tenant adds its own. The package does not judge whether an identifier
// is true, and knows no limits a profile: that is identity's work. TestRefused and
// TestNormaliseIsIdempotent catch the loss of either promise.
package identifier

import (
	"strings"
	"unicode/utf8"
)

// Namespaces that ingest itself fills.
const (
	UserID      = "user_id"
	AnonymousID = "anonymous_id"
	Email       = "email"
)

// MaxLength is the longest identifier in bytes; a longer one is refused, since it is a document rather
// than a name and every later stage keys its state by it.
const MaxLength = 512

// maxEmailLength is the longest address that SMTP can carry (RFC 5321, 4.5.3.1.3).
const maxEmailLength = 254

// Refusal says why a value is no identifier. The zero value means that it is one.
type Refusal uint8

// The reasons, in the order of the checks.
const (
	// OK: the value is an identifier.
	OK Refusal = iota
	// Blank: nothing is left after trimming.
	Blank
	// WrongType: neither a string nor a number.
	WrongType
	// TooLong: more than MaxLength bytes.
	TooLong
	// ControlCharacter: it holds a control character or is not UTF-8.
	ControlCharacter
	// Placeholder: a value that stands for "nobody", built in or the tenant's own.
	Placeholder
	// BadEmail: in the email namespace, but not an address.
	BadEmail
	// Count is how many values Refusal has.
	Count
)

// String is the reason as metrics and answers name it.
func (r Refusal) String() string {
	names := [Count]string{"ok", "blank", "wrong_type", "too_long", "control_character", "placeholder", "bad_email"}
	if r >= Count {
		return "unknown"
	}
	return names[r]
}

// Policy is what one tenant refuses. The zero value refuses the built-in list alone. A Policy is
// immutable and may be shared.
type Policy struct {
	refused map[string]struct{}
}

// NewPolicy adds a tenant's own refused values to the built-in list; they are compared without regard to
// case and surrounding space.
func NewPolicy(refused []string) Policy {
	if len(refused) == 0 {
		return Policy{}
	}
	p := Policy{refused: make(map[string]struct{}, len(refused))}
	for _, v := range refused {
		p.refused[strings.ToLower(strings.TrimSpace(v))] = struct{}{}
	}
	return p
}

// Normalise returns the one form of an identifier: trimmed, and in lower case if it is an e-mail address.
// With a refusal other than OK the value is empty.
func (p Policy) Normalise(namespace, value string) (string, Refusal) {
	value = strings.TrimSpace(value)
	switch {
	case value == "":
		return "", Blank
	case len(value) > MaxLength:
		return "", TooLong
	case !printable(value):
		return "", ControlCharacter
	case p.placeholder(value):
		return "", Placeholder
	}
	if namespace != Email {
		return value, OK
	}
	value = strings.ToLower(value)
	if !plausibleEmail(value) {
		return "", BadEmail
	}
	return value, OK
}

// placeholder looks at the value as it is and without a pair of quotes around it.
func (p Policy) placeholder(value string) bool {
	if p.listed(value) {
		return true
	}
	bare, quoted := unquote(value)
	return quoted && p.listed(bare)
}

func (p Policy) listed(value string) bool {
	if zerosAndDashes(value) || builtIn(value) {
		return true
	}
	if len(p.refused) == 0 {
		return false
	}
	_, ok := p.refused[strings.ToLower(value)]
	return ok
}

// builtIn is the list of Segment and PostHog, by length so that an ordinary value costs one comparison.
func builtIn(value string) bool {
	switch len(value) {
	case 2:
		return value == "-1" || strings.EqualFold(value, "id")
	case 3:
		return strings.EqualFold(value, "nan")
	case 4:
		return strings.EqualFold(value, "null") || strings.EqualFold(value, "none") || strings.EqualFold(value, "true")
	case 5:
		return strings.EqualFold(value, "guest") || strings.EqualFold(value, "false") || strings.EqualFold(value, "email")
	case 9:
		return strings.EqualFold(value, "undefined") || strings.EqualFold(value, "anonymous")
	case 11:
		return strings.EqualFold(value, "distinct_id")
	case 15:
		return strings.EqualFold(value, "[object Object]")
	case 17:
		return strings.EqualFold(value, "not_authenticated")
	}
	return false
}

// zerosAndDashes matches ^[0-]*$: blank, 0, 000, 00000000-0000-0000-0000-000000000000.
func zerosAndDashes(value string) bool {
	for i := range len(value) {
		if value[i] != '0' && value[i] != '-' {
			return false
		}
	}
	return true
}

func unquote(value string) (bare string, quoted bool) {
	if len(value) < 2 {
		return value, false
	}
	q := value[0]
	if (q != '"' && q != '\'' && q != '`') || value[len(value)-1] != q {
		return value, false
	}
	return strings.TrimSpace(value[1 : len(value)-1]), true
}

func printable(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < 0x20 || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(value)
}

// plausibleEmail asks for one @ between two parts and a domain without space: enough to keep names and
// free text out. Whether mail arrives there is the channel's to find out.
func plausibleEmail(value string) bool {
	at := strings.LastIndexByte(value, '@')
	return at > 0 && at < len(value)-1 && len(value) <= maxEmailLength && !strings.ContainsAny(value, " <>,;")
}
