package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	// MaxSchemaBytes is the largest schema of one event.
	MaxSchemaBytes = 64 << 10
	// MaxUnfolded is how many parts a schema may have once every reference is written out.
	MaxUnfolded = 10_000
	// maxSchemaDepth is how deep it may nest.
	maxSchemaDepth = 64
	// draft is the only dialect: https://json-schema.org/draft/2020-12.
	draft = "https://json-schema.org/draft/2020-12/schema"
	// here is the address of a schema while it is compiled; nothing is read from it.
	here = "schema:plan"
)

// CompileSchema compiles a JSON Schema (draft 2020-12, formats asserted). The error says what to change.
func CompileSchema(text string) (*jsonschema.Schema, error) {
	if len(text) > MaxSchemaBytes {
		return nil, fmt.Errorf("has %d bytes and %d are allowed", len(text), MaxSchemaBytes)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	object, ok := document.(map[string]any)
	if !ok {
		return nil, errors.New("must be an object (write type, properties, required, …)")
	}
	if dialect, stated := object["$schema"]; stated && dialect != draft {
		return nil, fmt.Errorf("$schema must be %s, or left out", draft)
	}
	w := &walk{root: document, sizes: map[string]int{}}
	if _, err := w.size(document, 0); err != nil {
		return nil, err
	}
	return compile(document)
}

func compile(document any) (*jsonschema.Schema, error) {
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	compiler.UseLoader(nowhere{})
	if err := compiler.AddResource(here, document); err != nil {
		return nil, fmt.Errorf("is no JSON Schema: %w", err)
	}
	schema, err := compiler.Compile(here)
	if bad, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		return nil, fmt.Errorf("is no JSON Schema: %s", firstIssue(bad.Err))
	}
	if err != nil {
		return nil, fmt.Errorf("is no JSON Schema: %w", err)
	}
	return schema, nil
}

// firstIssue says of a schema against its own schema what is wrong, in one line.
func firstIssue(err error) string {
	bad, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err.Error()
	}
	found := issues(bad)
	if len(found) == 0 {
		return "it does not follow the dialect"
	}
	return describe(found[0])
}

// nowhere is a loader that loads nothing: a schema is whole in itself.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s: write what it needs under $defs", url)
}

// walk measures a schema with every reference written out.
type walk struct {
	root  any
	sizes map[string]int // by reference; open ones are 0
}

func (w *walk) size(value any, depth int) (int, error) {
	if depth > maxSchemaDepth {
		return 0, fmt.Errorf("nests deeper than %d levels", maxSchemaDepth)
	}
	total := 1
	add := func(n int, err error) error {
		if total += n; err == nil && total > MaxUnfolded {
			return fmt.Errorf("has more than %d parts with its references written out", MaxUnfolded)
		}
		return err
	}
	switch v := value.(type) {
	case []any:
		for _, part := range v {
			if err := add(w.size(part, depth+1)); err != nil {
				return 0, err
			}
		}
	case map[string]any:
		for key, part := range v {
			if err := add(w.member(key, part, depth)); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

// member is the size of a member of an object: what it refers to, or what it is.
func (w *walk) member(key string, part any, depth int) (int, error) {
	text, isText := part.(string)
	switch {
	case !isText:
		return w.size(part, depth+1)
	case key == "$ref":
		return w.reference(text)
	case key == "$dynamicRef", key == "$recursiveRef", key == "$id", key == "$anchor", key == "$dynamicAnchor":
		return 0, fmt.Errorf("has %s, which is not supported (refer with $ref to a part of $defs)", key)
	}
	return 1, nil
}

// reference is the size of what a reference leads to, measured once.
func (w *walk) reference(to string) (int, error) {
	size, seen := w.sizes[to]
	switch {
	case seen && size == 0:
		return 0, fmt.Errorf("refers to itself in a circle: %s", to)
	case seen:
		return size, nil
	}
	target, ok := pointer(w.root, to)
	if !ok {
		return 0, fmt.Errorf("refers to %s, which is no part of it (write #/$defs/…)", to)
	}
	w.sizes[to] = 0
	size, err := w.size(target, 0)
	w.sizes[to] = size
	return size, err
}

// pointer finds a part by a JSON Pointer after #. The whole is no part: it would hold itself.
func pointer(root any, reference string) (any, bool) {
	path, ok := strings.CutPrefix(reference, "#/")
	if !ok {
		return nil, false
	}
	at := root
	for step := range strings.SplitSeq(path, "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch v := at.(type) {
		case map[string]any:
			if at, ok = v[step]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil, false
			}
			at = v[i]
		default:
			return nil, false
		}
	}
	return at, true
}

// instance reads a document to be checked. Numbers stay exact as long as that is cheap: an exponent of a
// million, made exact, is a number of a million digits.
func instance(document []byte) (any, error) {
	if len(document) == 0 {
		return map[string]any{}, nil
	}
	decoder := json.NewDecoder(strings.NewReader(string(document)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("decoding the document: %w", err)
	}
	return cheap(value), nil
}

// maxExactDigits is the longest number that is kept exact.
const maxExactDigits = 24

func cheap(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key, part := range v {
			v[key] = cheap(part)
		}
	case []any:
		for i, part := range v {
			v[i] = cheap(part)
		}
	case json.Number:
		if len(v) <= maxExactDigits && !strings.ContainsAny(string(v), "eE") {
			return v
		}
		// Out of range gives the largest double; ParseFloat's infinity cannot be made exact.
		x, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			x = 1.7976931348623157e308
			if strings.HasPrefix(string(v), "-") {
				x = -x
			}
		}
		return x
	}
	return value
}
