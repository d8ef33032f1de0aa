package definition

import (
	"bytes"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// FormatYAML writes definitions as ParseYAML reads them, one document each, with fields in the order of
// the protobuf messages. Version and time of application stand in a comment: they are control's.
func FormatYAML(defs ...*definitionv1.Definition) ([]byte, error) {
	if len(defs) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, def := range defs {
		kind := Kind(def)
		if kind == "" {
			return nil, fmt.Errorf("writing definition %s/%s: it has no spec", def.GetTenant(), def.GetName())
		}
		root := &yaml.Node{Kind: yaml.MappingNode}
		addText(root, "kind", kind)
		addText(root, "tenant", def.GetTenant())
		addText(root, "name", def.GetName())
		if def.GetDescription() != "" {
			addText(root, "description", def.GetDescription())
		}
		spec := def.ProtoReflect().Get(specField(def, kind)).Message()
		add(root, "spec", messageNode(spec))
		if def.GetVersion() > 0 {
			root.HeadComment = fmt.Sprintf("version %d", def.GetVersion())
		}
		if err := encoder.Encode(root); err != nil {
			return nil, fmt.Errorf("writing %s: %w", IDOf(def), err)
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("writing definitions: %w", err)
	}
	return out.Bytes(), nil
}

func add(mapping *yaml.Node, key string, value *yaml.Node) {
	mapping.Content = append(mapping.Content, textNode(key), value)
}

func addText(mapping *yaml.Node, key, value string) { add(mapping, key, textNode(value)) }

// textNode is a string, quoted by the encoder where it would read as something else.
func textNode(text string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(text)
	return node
}

func messageNode(msg protoreflect.Message) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if !msg.Has(field) {
			continue
		}
		if field.IsList() {
			add(node, string(field.Name()), listNode(msg.Get(field).List(), field))
			continue
		}
		if field.FullName() == schemaField {
			add(node, string(field.Name()), schemaNode(msg.Get(field).String()))
			continue
		}
		add(node, string(field.Name()), valueNode(msg.Get(field), field))
	}
	if len(node.Content) == 0 {
		node.Style = yaml.FlowStyle
	}
	return node
}

func listNode(list protoreflect.List, field protoreflect.FieldDescriptor) *yaml.Node {
	node := &yaml.Node{Kind: yaml.SequenceNode}
	if field.Kind() != protoreflect.MessageKind {
		node.Style = yaml.FlowStyle
	}
	for i := range list.Len() {
		node.Content = append(node.Content, valueNode(list.Get(i), field))
	}
	return node
}

func valueNode(value protoreflect.Value, field protoreflect.FieldDescriptor) *yaml.Node {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return messageNode(value.Message())
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			return textNode(enumWord(field.Enum(), known))
		}
		return plainNode("!!int", strconv.FormatInt(int64(value.Enum()), 10))
	case protoreflect.BoolKind:
		return plainNode("!!bool", strconv.FormatBool(value.Bool()))
	case protoreflect.DoubleKind:
		return plainNode("!!float", strconv.FormatFloat(value.Float(), 'f', -1, 64))
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return plainNode("!!int", strconv.FormatInt(value.Int(), 10))
	default:
		return textNode(value.String())
	}
}

func plainNode(tag, text string) *yaml.Node {
	// The tag is left implicit: `5` is a number whether whole or broken.
	if tag == "!!float" {
		tag = ""
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
}
