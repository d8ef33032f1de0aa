package definition

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// schemaField holds a JSON Schema: JSON text in the message, fields and values in YAML.
const schemaField = protoreflect.FullName("sillage.definition.v1.PlannedEvent.schema")

// schema reads a JSON Schema that is written as YAML. Keys come out sorted: the order of a schema's members
// means nothing, and the same schema is then the same text.
func (d *decoder) schema(node *yaml.Node, path string) (protoreflect.Value, bool) {
	failed := len(d.errs)
	value := d.value(node, path, 0)
	if len(d.errs) > failed {
		return protoreflect.Value{}, false
	}
	text, err := json.Marshal(value)
	if err != nil {
		d.failf(node, path, "cannot be written as JSON: %s", err)
		return protoreflect.Value{}, false
	}
	return protoreflect.ValueOfString(string(text)), true
}

// value is what a node is in JSON.
func (d *decoder) value(node *yaml.Node, path string, depth int) any {
	if depth > maxDecodeDepth {
		d.failf(node, path, "is nested too deeply (%d levels are allowed)", maxDecodeDepth)
		return nil
	}
	switch node.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		fields := d.mapping(node, path)
		for _, key := range sortedKeys(fields) {
			out[key] = d.value(fields[key], join(path, key), depth+1)
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, 0, len(node.Content))
		for i, inner := range node.Content {
			out = append(out, d.value(inner, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		return out
	case yaml.ScalarNode:
		return d.scalarValue(node, path)
	default:
		d.failf(node, path, "is %s", describe(node))
		return nil
	}
}

func (d *decoder) scalarValue(node *yaml.Node, path string) any {
	switch node.Tag {
	case nullTag:
		return nil
	case "!!bool":
		var b bool
		if err := node.Decode(&b); err != nil {
			d.failf(node, path, "%q is neither true nor false", node.Value)
		}
		return b
	case "!!int":
		if n, err := strconv.ParseInt(node.Value, 0, 64); err == nil {
			return n
		}
	case "!!float":
	case "!!binary":
		d.failf(node, path, "is binary and must be text")
		return nil
	default:
		return node.Value
	}
	x, err := strconv.ParseFloat(node.Value, 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		d.failf(node, path, "%q is not a number", node.Value)
		return nil
	}
	return x
}

// schemaNode writes a JSON Schema as YAML; text that is none stays as it is.
func schemaNode(text string) *yaml.Node {
	var document yaml.Node // JSON is YAML
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return textNode(text)
	}
	plainStyle(document.Content[0])
	return document.Content[0]
}

// plainStyle drops the braces and quotes of JSON; texts are quoted where they would read as something else.
func plainStyle(node *yaml.Node) {
	flat := true
	for _, inner := range node.Content {
		plainStyle(inner)
		flat = flat && inner.Kind == yaml.ScalarNode
	}
	node.Style = 0
	if node.Kind == yaml.SequenceNode && flat || len(node.Content) == 0 && node.Kind != yaml.ScalarNode {
		node.Style = yaml.FlowStyle
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" {
		node.SetString(node.Value)
	}
}
