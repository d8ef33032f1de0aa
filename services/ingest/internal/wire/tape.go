package wire

import (
	"slices"
	"strings"
	"unsafe"
)

// none marks the absence of a member.
const none = int32(-1)

// member is one key of an object and where its value stands in the text.
type member struct {
	keyFrom, keyTo     int32 // without the quotes, escapes as they are
	valueFrom, valueTo int32
	first              int32 // first member of the value, if that is an object with members
	next               int32 // next member of the same object
	hash               uint64
}

// frame is an object or array that is open while scanning.
type frame struct {
	owner       int32 // member whose value it is; none at the root and inside arrays
	first, last int32
	count       int32
	object      bool
}

// tape is where every member of one JSON value stands, found in one pass over text that is known to be
// JSON. It exists because three things that the libraries give separately are needed together for every
// event: the fields, the depth, and whether an object holds a key twice (readers downstream would disagree
// on which one counts). It checks no grammar; gjson has done that.
//
// The zero value is ready; scan may be called again and keeps the memory.
type tape struct {
	text     string
	members  []member
	root     int32 // first member of the outermost object
	deepest  int
	untidy   bool // a key twice, or a key written with an escape
	frames   []frame
	bigFrame []uint64
}

// dedupChain is how many keys of one object are compared pair by pair; larger ones are sorted by hash.
const dedupChain = 24

// scan indexes text, which must be valid JSON. It gives up at maxDepth open objects and arrays and
// returns false then.
func (t *tape) scan(text string, maxDepth int) bool {
	t.text, t.root, t.deepest, t.untidy = text, none, 0, false
	t.members, t.frames = t.members[:0], t.frames[:0]
	owner, wantKey := none, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\n', '\r', ':':
		case ',':
			wantKey = t.frames[len(t.frames)-1].object
		case '{', '[':
			if len(t.frames) == maxDepth {
				return false
			}
			t.frames = append(t.frames, frame{owner: owner, first: none, last: none, object: c == '{'})
			t.deepest = max(t.deepest, len(t.frames))
			wantKey, owner = c == '{', none
		case '}', ']':
			t.closeFrame(int32(i + 1))
			wantKey, owner = false, none
		case '"':
			end := stringEnd(text, i)
			if wantKey {
				owner, wantKey = t.addKey(int32(i+1), int32(end-1)), false
				i = t.valueStart(owner, end) - 1
				continue
			}
			t.closeValue(owner, int32(end))
			owner, i = none, end-1
		default: // number, true, false, null
			end := i + 1
			for end < len(text) && !ends(text[end]) {
				end++
			}
			t.closeValue(owner, int32(end))
			owner, i = none, end-1
		}
	}
	return true
}

func ends(c byte) bool {
	return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t'
}

// stringEnd is the position after the closing quote of the string that opens at from.
func stringEnd(text string, from int) int {
	i := from + 1
	for {
		n := strings.IndexByte(text[i:], '"')
		if n < 0 {
			return len(text) // not JSON; cannot happen after validation
		}
		i += n
		back := i - 1
		for text[back] == '\\' {
			back--
		}
		i++
		if (i-back)%2 == 0 { // an even number of backslashes before the quote
			return i
		}
	}
}

// valueStart notes and returns where the value of a member begins, given the end of its key.
func (t *tape) valueStart(m int32, i int) int {
	for i < len(t.text) && (t.text[i] == ':' || t.text[i] <= ' ') {
		i++
	}
	t.members[m].valueFrom = int32(i)
	return i
}

func (t *tape) closeValue(owner, end int32) {
	if owner != none {
		t.members[owner].valueTo = end
	}
}

func (t *tape) addKey(from, to int32) int32 {
	key := t.text[from:to]
	m := int32(len(t.members))
	f := &t.frames[len(t.frames)-1]
	h := hashKey(key)
	if strings.IndexByte(key, '\\') >= 0 {
		t.untidy = true
	}
	if f.count < dedupChain && !t.untidy {
		for s := f.first; s != none; s = t.members[s].next {
			if t.members[s].hash == h && t.key(s) == key {
				t.untidy = true
				break
			}
		}
	}
	t.members = append(t.members, member{keyFrom: from, keyTo: to, first: none, next: none, hash: h})
	if f.last == none {
		f.first = m
		if len(t.frames) == 1 {
			t.root = m
		}
	} else {
		t.members[f.last].next = m
	}
	f.last = m
	f.count++
	return m
}

func (t *tape) closeFrame(end int32) {
	f := t.frames[len(t.frames)-1]
	t.frames = t.frames[:len(t.frames)-1]
	if f.owner != none {
		t.members[f.owner].valueTo, t.members[f.owner].first = end, f.first
	}
	if f.count > dedupChain && !t.untidy {
		t.untidy = t.repeats(f)
	}
}

// repeats looks for two keys with the same hash in a large object. Two different keys may share one: the
// caller then rewrites the text for nothing, which changes no meaning.
func (t *tape) repeats(f frame) bool {
	t.bigFrame = t.bigFrame[:0]
	for s := f.first; s != none; s = t.members[s].next {
		t.bigFrame = append(t.bigFrame, t.members[s].hash)
	}
	slices.Sort(t.bigFrame)
	for i := 1; i < len(t.bigFrame); i++ {
		if t.bigFrame[i] == t.bigFrame[i-1] {
			return true
		}
	}
	return false
}

// hashKey mixes the length with the bytes, eight at a time.
func hashKey(key string) uint64 {
	const k = 0x9e3779b97f4a7c15
	h := uint64(len(key)) * k
	for len(key) >= 8 {
		h = (h ^ load64(key)) * k
		h ^= h >> 29
		key = key[8:]
	}
	var tail uint64
	for i := range len(key) {
		tail = tail<<8 | uint64(key[i])
	}
	h = (h ^ tail) * k
	return h ^ h>>32
}

func load64(s string) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func (t *tape) key(m int32) string {
	return t.text[t.members[m].keyFrom:t.members[m].keyTo]
}

// keyText is a key without escapes.
func (t *tape) keyText(m int32) string {
	return unquote(t.text[t.members[m].keyFrom-1 : t.members[m].keyTo+1])
}

// raw is the text of a member's value.
func (t *tape) raw(m int32) string {
	return t.text[t.members[m].valueFrom:t.members[m].valueTo]
}

// kind is the first byte of a member's value; of an absent one that of null.
func (t *tape) kind(m int32) byte {
	if m == none {
		return 'n'
	}
	return t.text[t.members[m].valueFrom]
}

// children is the first member of an object value; none for anything else.
func (t *tape) children(m int32) int32 {
	if m == none {
		return none
	}
	return t.members[m].first
}

// find looks for a key among the members that begin with first.
func (t *tape) find(first int32, key string) int32 {
	for m := first; m != none; m = t.members[m].next {
		if t.key(m) == key {
			return m
		}
	}
	return none
}

// str is the value of a member that is a string, without escapes; blank for anything else.
func (t *tape) str(m int32) string {
	if t.kind(m) != '"' {
		return ""
	}
	return unquote(t.raw(m))
}

// bytesOf views text as bytes without copying. The bytes must never be written.
func bytesOf(text string) []byte {
	return unsafe.Slice(unsafe.StringData(text), len(text)) //nolint:gosec // the comment above is the audit
}

// stringOf views bytes as text without copying. The bytes must not change while the text is in use.
func stringOf(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // the comment above is the audit
}
