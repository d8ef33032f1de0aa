package definition

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// ParseYAML reads a file of definitions, one a document:
//
//	kind: segment
//	tenant: demo
//	name: big-spenders
//	description: …
//	spec: {…}
//
// A tenant's own definition may leave `tenant` out. The fields of `spec` are those of the protobuf
// message of the kind, in snake case; enums are their last word in lower case (`wait`). Whatever is not
// known, of the wrong type or there twice is an error. All errors of the file are returned, joined; each
// is a *ParseError. What the values mean is checked by Validate.
func ParseYAML(r io.Reader, file string) ([]*definitionv1.Definition, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(text) > MaxFileBytes {
		return nil, fmt.Errorf("reading %s: the file is larger than %d bytes: split it", file, MaxFileBytes)
	}
	var defs []*definitionv1.Definition
	var errs []error
	documents := yaml.NewDecoder(bytes.NewReader(text))
	for number := 1; ; number++ {
		var root yaml.Node
		err := documents.Decode(&root)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// The reader cannot go on after broken YAML.
			problem := strings.TrimPrefix(err.Error(), "yaml: ")
			errs = append(errs, &ParseError{File: file, Document: number, Problem: "this is not YAML: " + problem})
			break
		}
		if isEmpty(&root) {
			continue
		}
		d := &decoder{file: file, document: number}
		def := d.definition(root.Content[0])
		if len(d.errs) == 0 {
			defs = append(defs, def)
		}
		errs = append(errs, d.errs...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return defs, nil
}

func isEmpty(root *yaml.Node) bool {
	return len(root.Content) == 0 || (root.Content[0].Kind == yaml.ScalarNode && root.Content[0].Tag == nullTag)
}

// definition reads the head of a document and its spec.
func (d *decoder) definition(node *yaml.Node) *definitionv1.Definition {
	def := &definitionv1.Definition{}
	fields := d.mapping(node, "")
	kind := d.head(fields, "kind")
	def.Tenant = d.head(fields, "tenant")
	def.Name = d.head(fields, "name")
	def.Description = d.head(fields, "description")
	spec := fields["spec"]
	for _, key := range sortedKeys(fields) {
		switch key {
		case "kind", "tenant", "name", "description", "spec":
		default:
			d.failf(fields[key], key, "%s", unknownField(key, []string{"kind", "tenant", "name", "description", "spec"}))
		}
	}
	if kind == KindTenant && def.Tenant == "" {
		def.Tenant = def.Name
	}
	field := specField(def, kind)
	switch {
	case len(d.errs) > 0:
	case kind == "":
		d.failf(node, "kind", "is missing (write one of %s)", strings.Join(Kinds(), ", "))
	case field == nil:
		d.failf(node, "kind", "%q is not a kind (write one of %s)", kind, strings.Join(Kinds(), ", "))
	case spec == nil:
		d.failf(node, "spec", "is missing (write what the %s is)", kind)
	default:
		d.message(spec, def.ProtoReflect().Mutable(field).Message(), "spec", 0)
	}
	return def
}

func (d *decoder) head(fields map[string]*yaml.Node, key string) string {
	node, ok := fields[key]
	if !ok {
		return ""
	}
	return d.text(node, key)
}

// specField is the field of the oneof that holds the spec of a kind, nil if there is no such kind.
func specField(def *definitionv1.Definition, kind string) protoreflect.FieldDescriptor {
	name := kind
	if kind == KindTenant {
		name = "tenant_spec"
	}
	field := def.ProtoReflect().Descriptor().Oneofs().ByName("spec").Fields().ByName(protoreflect.Name(name))
	return field
}
