package rule

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/tidwall/gjson"
)

// maxExactInt is the largest whole number up to which every whole number is a double.
const maxExactInt = 1 << 53

// object is a JSON object as a CEL map. Its fields are split at once and converted when they are asked for.
type object struct {
	fields map[string]gjson.Result
}

var _ traits.Mapper = (*object)(nil)

// parseObject splits a JSON object into its fields; what is not an object has none. Of two fields with
// one name the later counts.
func parseObject(json []byte) *object {
	return newObject(gjson.ParseBytes(json))
}

func newObject(parsed gjson.Result) *object {
	o := &object{fields: make(map[string]gjson.Result)}
	if parsed.IsObject() {
		parsed.ForEach(func(key, value gjson.Result) bool {
			o.fields[key.String()] = value
			return true
		})
	}
	return o
}

// toValue converts a JSON value to CEL.
func toValue(json gjson.Result) ref.Val {
	switch json.Type {
	case gjson.String:
		return types.String(json.Str)
	case gjson.Number:
		if json.Num >= maxExactInt || json.Num <= -maxExactInt {
			if whole := json.Int(); float64(whole) == json.Num {
				return types.Int(whole)
			}
		}
		return types.Double(json.Num)
	case gjson.True:
		return types.True
	case gjson.False:
		return types.False
	case gjson.JSON:
		if json.IsArray() {
			return toList(json)
		}
		return newObject(json)
	default:
		return types.NullValue
	}
}

func toList(json gjson.Result) ref.Val {
	elements := json.Array()
	values := make([]ref.Val, len(elements))
	for i, element := range elements {
		values[i] = toValue(element)
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

// Find is the value of a field.
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	field, ok := o.fields[string(name)]
	if !ok {
		return nil, false
	}
	return toValue(field), true
}

// Get is the value of a field or an error.
func (o *object) Get(key ref.Val) ref.Val {
	value, ok := o.Find(key)
	if !ok {
		return types.NewErr("no such key: %v", key.Value())
	}
	return value
}

// Contains says whether there is a field of this name.
func (o *object) Contains(key ref.Val) ref.Val {
	_, ok := o.Find(key)
	return types.Bool(ok)
}

// Size is the number of fields.
func (o *object) Size() ref.Val { return types.Int(len(o.fields)) }

// Iterator goes over the names of the fields.
func (o *object) Iterator() traits.Iterator { return o.plain().Iterator() }

// Equal compares with any other map, field by field.
func (o *object) Equal(other ref.Val) ref.Val { return o.plain().Equal(other) }

// ConvertToType converts to a map or to the type of maps.
func (o *object) ConvertToType(target ref.Type) ref.Val { return o.plain().ConvertToType(target) }

// ConvertToNative converts to a Go map.
func (o *object) ConvertToNative(target reflect.Type) (any, error) {
	return o.plain().ConvertToNative(target)
}

// Type is the type of maps.
func (o *object) Type() ref.Type { return types.MapType }

// Value is the map in CEL values.
func (o *object) Value() any { return o.plain().Value() }

// plain is o as an ordinary CEL map, for what is rarely asked.
func (o *object) plain() traits.Mapper {
	values := make(map[ref.Val]ref.Val, len(o.fields))
	for name, field := range o.fields {
		values[types.String(name)] = toValue(field)
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, values)
}
