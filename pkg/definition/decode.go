package definition

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDecodeDepth bounds messages within messages in a file; Validate has the limits that mean something.
const maxDecodeDepth = 64

// nullTag marks a value that is not there.
const nullTag = "!!null"

// decoder turns the nodes of one document into a message and notes what is wrong on the way.
type decoder struct {
	file     string
	document int
	errs     []error
}

func (d *decoder) failf(node *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, &ParseError{
		File: d.file, Document: d.document, Line: node.Line, Path: path, Problem: fmt.Sprintf(format, args...),
	})
}

// mapping is the fields of a YAML mapping.
func (d *decoder) mapping(node *yaml.Node, path string) map[string]*yaml.Node {
	fields := make(map[string]*yaml.Node, len(node.Content)/2)
	if node.Kind != yaml.MappingNode {
		d.failf(node, path, "must be fields and values, and is %s", describe(node))
		return fields
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.failf(key, path, "the name of a field is %s", describe(key))
			continue
		}
		if _, twice := fields[key.Value]; twice {
			d.failf(key, join(path, key.Value), "is there twice")
			continue
		}
		fields[key.Value] = value
	}
	return fields
}

// message fills in msg from a mapping.
func (d *decoder) message(node *yaml.Node, msg protoreflect.Message, path string, depth int) {
	if depth > maxDecodeDepth {
		d.failf(node, path, "is nested too deeply (%d levels are allowed)", maxDecodeDepth)
		return
	}
	known := msg.Descriptor().Fields()
	fields := d.mapping(node, path)
	for _, key := range sortedKeys(fields) {
		field := known.ByName(protoreflect.Name(key))
		if field == nil {
			d.failf(fields[key], join(path, key), "%s", unknownField(key, fieldNames(known)))
			continue
		}
		d.field(fields[key], msg, field, join(path, key), depth)
	}
}

func (d *decoder) field(node *yaml.Node, msg protoreflect.Message, field protoreflect.FieldDescriptor, path string, depth int) {
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == nullTag:
		d.failf(node, path, "is empty (write a value, or leave the field out)")
	case field.FullName() == schemaField && node.Kind != yaml.ScalarNode:
		if value, ok := d.schema(node, path); ok {
			msg.Set(field, value)
		}
	case field.IsList():
		d.list(node, msg.Mutable(field).List(), field, path, depth)
	case field.Kind() == protoreflect.MessageKind:
		d.message(node, msg.Mutable(field).Message(), path, depth+1)
	default:
		if value, ok := d.scalar(node, field, path); ok {
			msg.Set(field, value)
		}
	}
}

func (d *decoder) list(node *yaml.Node, list protoreflect.List, field protoreflect.FieldDescriptor, path string, depth int) {
	if node.Kind != yaml.SequenceNode {
		d.failf(node, path, "must be a list, and is %s", describe(node))
		return
	}
	for i, element := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if field.Kind() == protoreflect.MessageKind {
			d.message(element, list.AppendMutable().Message(), at, depth+1)
			continue
		}
		if value, ok := d.scalar(element, field, at); ok {
			list.Append(value)
		}
	}
}

// scalar reads one value of the field's type.
func (d *decoder) scalar(node *yaml.Node, field protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	failed := len(d.errs)
	text := d.text(node, path)
	if len(d.errs) > failed {
		return protoreflect.Value{}, false
	}
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text), true
	case protoreflect.BoolKind:
		if text == "true" || text == "false" {
			return protoreflect.ValueOfBool(text == "true"), true
		}
		d.failf(node, path, "%q is neither true nor false", text)
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		if value, ok := integer(text, field.Kind()); ok {
			return value, true
		}
		d.failf(node, path, "%q is not a whole number", text)
	case protoreflect.DoubleKind:
		if x, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
			return protoreflect.ValueOfFloat64(x), true
		}
		d.failf(node, path, "%q is not a number", text)
	case protoreflect.EnumKind:
		if value := enumValue(field.Enum(), text); value != nil {
			return protoreflect.ValueOfEnum(value.Number()), true
		}
		d.failf(node, path, "%q is not one of %s", text, strings.Join(enumWords(field.Enum()), ", "))
	default:
		d.failf(node, path, "cannot be written in YAML")
	}
	return protoreflect.Value{}, false
}

// integer reads a whole number of the size of its field.
func integer(text string, kind protoreflect.Kind) (protoreflect.Value, bool) {
	if kind == protoreflect.Int32Kind {
		n, err := strconv.ParseInt(text, 10, 32)
		return protoreflect.ValueOfInt32(int32(n)), err == nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return protoreflect.ValueOfInt64(n), err == nil
}

// text is the value of a scalar as it is written.
func (d *decoder) text(node *yaml.Node, path string) string {
	switch {
	case node.Kind != yaml.ScalarNode:
		d.failf(node, path, "must be one value, and is %s", describe(node))
	case node.Tag == nullTag:
		d.failf(node, path, "is empty (write a value, or leave the field out)")
	case node.Tag == "!!binary":
		d.failf(node, path, "is binary and must be text")
	default:
		return node.Value
	}
	return ""
}

// describe says what a node is, for people.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "fields and values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias (anchors and aliases are not supported: write it out)"
	default:
		if node.Tag == nullTag {
			return "empty"
		}
		return fmt.Sprintf("the value %q", node.Value)
	}
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func sortedKeys(fields map[string]*yaml.Node) []string {
	keys := slices.Collect(maps.Keys(fields))
	slices.SortFunc(keys, func(a, b string) int {
		if fields[a].Line != fields[b].Line {
			return fields[a].Line - fields[b].Line
		}
		return strings.Compare(a, b)
	})
	return keys
}

func fieldNames(fields protoreflect.FieldDescriptors) []string {
	names := make([]string, 0, fields.Len())
	for i := range fields.Len() {
		names = append(names, string(fields.Get(i).Name()))
	}
	return names
}

func unknownField(key string, known []string) string {
	if near := nearest(key, known); near != "" {
		return fmt.Sprintf("unknown field %q (did you mean %s?)", key, near)
	}
	return fmt.Sprintf("unknown field %q (known: %s)", key, strings.Join(known, ", "))
}
