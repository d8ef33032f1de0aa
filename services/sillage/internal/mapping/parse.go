package mapping

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // zones of mappings are there on every machine

	"go.yaml.in/yaml/v3"
)

// maxMapping bounds a mapping file in bytes.
const maxMapping = 1 << 20

// maxDepth bounds how deep the event of a mapping may be nested.
const maxDepth = 32

// Parse reads a mapping. Its error names every mistake with its line.
func Parse(r io.Reader) (*Mapping, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMapping+1))
	if err != nil {
		return nil, fmt.Errorf("reading the mapping: %w", err)
	}
	if len(text) > maxMapping {
		return nil, fmt.Errorf("the mapping is longer than %d bytes", maxMapping)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("reading the mapping: %w", err)
	}
	p := &parser{mapping: &Mapping{}}
	if len(document.Content) == 0 {
		return nil, errors.New("the mapping is empty: it needs `event:`")
	}
	p.root(document.Content[0])
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return p.mapping, nil
}

type parser struct {
	mapping *Mapping
	errs    []error
}

func (p *parser) failf(at *yaml.Node, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("line %d: %s", at.Line, fmt.Sprintf(format, args...)))
}

// fields are the entries of a YAML mapping; false if it is none.
func (p *parser) fields(at *yaml.Node, what string) ([][2]*yaml.Node, bool) {
	if at.Kind != yaml.MappingNode {
		p.failf(at, "%s must be a mapping", what)
		return nil, false
	}
	out := make([][2]*yaml.Node, 0, len(at.Content)/2)
	seen := make(map[string]bool)
	for i := 0; i+1 < len(at.Content); i += 2 {
		key := at.Content[i]
		if key.Kind != yaml.ScalarNode || seen[key.Value] {
			p.failf(key, "%s: a name must be text and there once", what)
			continue
		}
		seen[key.Value] = true
		out = append(out, [2]*yaml.Node{key, at.Content[i+1]})
	}
	return out, true
}

func (p *parser) root(at *yaml.Node) {
	fields, ok := p.fields(at, "the mapping")
	if !ok {
		return
	}
	for _, f := range fields {
		key, value := f[0], f[1]
		switch key.Value {
		case "csv":
			p.csv(value)
		case "group_by":
			p.mapping.groupBy = p.columnName(value)
		case "event":
			p.event(value)
		default:
			p.failf(key, "%q is unknown: a mapping has csv, group_by and event", key.Value)
		}
	}
	if p.mapping.event == nil && len(p.errs) == 0 {
		p.failf(at, "`event:` is missing")
	}
}

func (p *parser) csv(at *yaml.Node) {
	var raw map[string]any
	if err := at.Decode(&raw); err != nil {
		p.failf(at, "csv: %v", err)
		return
	}
	text, err := json.Marshal(raw)
	if err == nil {
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(&p.mapping.CSV)
	}
	if err == nil {
		err = p.mapping.CSV.Validate()
	}
	if err != nil {
		p.failf(at, "csv: %v", err)
	}
}

// calls are the types of an event; the other names that an event may have are those of the tracking API.
var (
	calls  = []string{"track", "identify", "page", "screen", "group", "alias"}
	naming = []string{
		"type", "event", "name", "category", "userId", "anonymousId", "groupId", "previousId", "messageId",
		"timestamp", "properties", "traits", "context", "integrations",
	}
)

func (p *parser) event(at *yaml.Node) {
	fields, ok := p.fields(at, "event")
	if !ok {
		return
	}
	names := make(map[string]*yaml.Node)
	for _, f := range fields {
		names[f[0].Value] = f[1]
		if !slices.Contains(naming, f[0].Value) {
			p.failf(f[0], "event: %q is no field of an event; an event has %s", f[0].Value, strings.Join(naming, ", "))
		}
	}
	switch call := names["type"]; {
	case call == nil:
		p.failf(at, "event.type is missing: one of %s", strings.Join(calls, ", "))
	case call.Kind == yaml.ScalarNode && !strings.HasPrefix(call.Value, "$") && !slices.Contains(calls, call.Value):
		p.failf(call, "event.type: %q is none of %s", call.Value, strings.Join(calls, ", "))
	}
	if names["timestamp"] == nil {
		p.failf(at, "event.timestamp is missing: name the column with the time, or $file.time")
	}
	p.mapping.event = p.value(at, 0)
}

// value understands one value of the event.
func (p *parser) value(at *yaml.Node, depth int) node {
	if depth > maxDepth {
		p.failf(at, "nested deeper than %d", maxDepth)
		return nil
	}
	switch at.Kind {
	case yaml.ScalarNode:
		return p.scalar(at)
	case yaml.SequenceNode:
		elements := make(list, 0, len(at.Content))
		for _, element := range at.Content {
			elements = append(elements, p.value(element, depth+1))
		}
		return elements
	case yaml.MappingNode:
		if kind := directive(at); kind != "" {
			return p.directive(kind, at, depth)
		}
		fields, _ := p.fields(at, "event")
		out := make(object, 0, len(fields))
		for _, f := range fields {
			out = append(out, field{quote(f[0].Value), p.value(f[1], depth+1)})
		}
		return out
	default:
		p.failf(at, "aliases are not understood here")
		return nil
	}
}

// scalar is `$column`, `$$text` or a literal.
func (p *parser) scalar(at *yaml.Node) node {
	if at.Tag == "!!str" {
		if rest, ok := strings.CutPrefix(at.Value, "$$"); ok {
			return literal(quote("$" + rest))
		}
		if name, ok := strings.CutPrefix(at.Value, "$"); ok {
			return &column{name: p.use(at, name), convert: asIs}
		}
	}
	return p.literal(at)
}

// literal is a scalar as JSON; a time stays the text that it is.
func (p *parser) literal(at *yaml.Node) literal {
	if at.Kind != yaml.ScalarNode {
		p.failf(at, "must be a single value")
		return ""
	}
	var v any
	if err := at.Decode(&v); err != nil {
		p.failf(at, "%v", err)
		return ""
	}
	if at.Tag == "!!timestamp" || at.Tag == "!!binary" {
		v = at.Value
	}
	out, err := json.Marshal(v)
	if err != nil {
		p.failf(at, "%q cannot be JSON", at.Value)
		return ""
	}
	return literal(out)
}

// directive is the word that makes a mapping a directive; empty for an object of the event.
func directive(at *yaml.Node) string {
	for i := 0; i+1 < len(at.Content); i += 2 {
		switch key := at.Content[i].Value; key {
		case "column", "sum", "each", "if":
			return key
		}
	}
	return ""
}

func (p *parser) directive(kind string, at *yaml.Node, depth int) node {
	fields, _ := p.fields(at, kind)
	args := make(map[string]*yaml.Node, len(fields))
	known := map[string][]string{
		"column": {"column", "as", "decimal", "time", "zone", "prefix", "values", "default", "required"},
		"sum":    {"sum", "decimal"},
		"each":   {"each"},
		"if":     {"if", "matches", "then", "else"},
	}[kind]
	for _, f := range fields {
		if !slices.Contains(known, f[0].Value) {
			p.failf(f[0], "%q does not go with `%s`, which has %s", f[0].Value, kind, strings.Join(known, ", "))
		}
		args[f[0].Value] = f[1]
	}
	switch kind {
	case "column":
		return p.column(args)
	case "sum":
		return p.sum(args)
	case "each":
		return each{p.value(args["each"], depth+1)}
	default:
		return p.choice(at, args, depth)
	}
}

func (p *parser) column(args map[string]*yaml.Node) node {
	c := &column{name: p.columnName(args["column"]), convert: asIs}
	if at := args["prefix"]; at != nil {
		c.prefix, c.convert = at.Value, asText
	}
	if at := args["required"]; at != nil {
		if err := at.Decode(&c.required); err != nil {
			p.failf(at, "required: must be true or false")
		}
	}
	if at := args["default"]; at != nil {
		c.fallback = string(p.literal(at))
	}
	if at := args["values"]; at != nil {
		pairs, _ := p.fields(at, "values")
		c.values = make(map[string]string, len(pairs))
		for _, pair := range pairs {
			c.values[pair[0].Value] = string(p.literal(pair[1]))
		}
	}
	if convert := p.conversion(args); convert != nil {
		if c.prefix != "" || c.values != nil {
			p.failf(args["column"], "`as` and `time` do not go with `prefix` and `values`")
		}
		c.convert = convert
	}
	return c
}

// conversion understands `as`, `decimal`, `time` and `zone`; nil if there is none of them.
func (p *parser) conversion(args map[string]*yaml.Node) conversion {
	number := p.decimal(args["decimal"])
	if layout := args["time"]; layout != nil {
		return asTime(p.layout(layout), p.zone(args["zone"]))
	}
	if at := args["zone"]; at != nil {
		p.failf(at, "`zone` goes with `time`")
	}
	at := args["as"]
	if at == nil {
		if args["decimal"] != nil {
			return number.number
		}
		return nil
	}
	switch at.Value {
	case "text":
		return asText
	case "number":
		return number.number
	case "integer":
		return number.integer
	case "boolean":
		return asBoolean
	case "json":
		return asJSON
	}
	p.failf(at, "as: %q is none of text, number, integer, boolean, json (for a time: `time`)", at.Value)
	return nil
}

// decimal is `decimal: ","`.
func (p *parser) decimal(at *yaml.Node) decimal {
	if at != nil && at.Value != "," && at.Value != "." {
		p.failf(at, "decimal: %q is neither `,` nor `.`", at.Value)
	}
	return decimal{comma: at != nil && at.Value == ","}
}

// layouts are names for layouts of time; every other layout is Go's, written with the reference time
// Mon Jan 2 15:04:05 2006.
var layouts = map[string]string{
	"rfc3339": time.RFC3339Nano, "date": time.DateOnly, "datetime": time.DateTime, "unix": "unix", "unix_ms": "unix_ms",
}

func (p *parser) layout(at *yaml.Node) string {
	if named, ok := layouts[at.Value]; ok {
		return named
	}
	if !strings.Contains(at.Value, "2006") && !strings.Contains(at.Value, "06") {
		p.failf(at, "time: %q is no layout: write how 2 January 2006 15:04:05 looks in the file, or one of rfc3339, date, datetime, unix, unix_ms", at.Value)
	}
	return at.Value
}

func (p *parser) zone(at *yaml.Node) *time.Location {
	if at == nil {
		return time.UTC
	}
	zone, err := time.LoadLocation(at.Value)
	if err != nil {
		p.failf(at, "zone: %q is no zone such as Europe/Paris", at.Value)
		return time.UTC
	}
	return zone
}

func (p *parser) sum(args map[string]*yaml.Node) node {
	s := sum{decimal: p.decimal(args["decimal"])}
	at := args["sum"]
	if at.Kind != yaml.SequenceNode || len(at.Content) == 0 || len(at.Content) > 8 {
		p.failf(at, "sum: must be a list of 1 to 8 columns")
		return s
	}
	for _, name := range at.Content {
		s.columns = append(s.columns, p.columnName(name))
	}
	return s
}

func (p *parser) choice(at *yaml.Node, args map[string]*yaml.Node, depth int) node {
	c := choice{column: p.columnName(args["if"])}
	if pattern := args["matches"]; pattern != nil {
		var err error
		if c.matches, err = regexp.Compile(pattern.Value); err != nil {
			p.failf(pattern, "matches: %v", err)
		}
	}
	if args["then"] == nil && args["else"] == nil {
		p.failf(at, "`if` needs `then` or `else`")
	}
	if args["then"] != nil {
		c.then = p.value(args["then"], depth+1)
	}
	if args["else"] != nil {
		c.els = p.value(args["else"], depth+1)
	}
	return c
}

// columnName is the name of a column, with or without its dollar sign.
func (p *parser) columnName(at *yaml.Node) string {
	if at.Kind != yaml.ScalarNode || at.Value == "" {
		p.failf(at, "must be the name of a column")
		return ""
	}
	return p.use(at, strings.TrimPrefix(at.Value, "$"))
}

func (p *parser) use(at *yaml.Node, name string) string {
	p.mapping.columns = append(p.mapping.columns, use{name, at.Line})
	return name
}
