package table

import (
	"errors"
	"fmt"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/topics"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Key is the record key of a definition: `tenant/kind/name`.
func Key(id definition.ID) []byte {
	return topics.Key(id.Tenant, id.Kind+"/"+id.Name)
}

// Decode reads a definition from a record of the topic and checks that it stands under its own key.
func Decode(key, value []byte) (*definitionv1.Definition, error) {
	def := &definitionv1.Definition{}
	if err := def.UnmarshalVT(value); err != nil {
		return nil, fmt.Errorf("decoding the definition: %w", err)
	}
	if definition.Kind(def) == "" {
		return nil, errors.New("decoding the definition: it has no spec, or one of a kind that this version does not know")
	}
	if want := Key(definition.IDOf(def)); string(want) != string(key) {
		return nil, fmt.Errorf("decoding the definition: it stands under another key than its own, %q", want)
	}
	return def, nil
}
