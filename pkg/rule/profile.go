package rule

import (
	"maps"
	"reflect"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/tidwall/gjson"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// Names of the variables of a profile's expression.
const (
	varTraits   = "traits"
	varConsents = "consents"
	varScores   = "scores"
	varTrigger  = "trigger"
)

// Profile is an expression on a profile. It is immutable and safe for concurrent use.
type Profile struct {
	program   cel.Program
	variables []string
}

// Vars is what an expression on a profile may look at. Nothing in it is changed.
type Vars struct {
	// Traits are the profile's; a deleted one is missing.
	Traits map[string]*profilev1.Trait
	// Consents are the profile's, by purpose and `channel:<channel>`.
	Consents map[string]*profilev1.ConsentState
	// Scores are current values by name.
	Scores map[string]float64
	// Trigger is the JSON object of the properties of the event that started a journey; empty if none did.
	Trigger []byte
}

// CompileProfile compiles an expression on a profile; an empty one is an error.
func CompileProfile(expression string) (*Profile, error) {
	if expression == "" {
		return nil, errEmpty
	}
	program, ast, err := compile(profileEnv, expression)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, reference := range ast.NativeRep().ReferenceMap() {
		switch reference.Name {
		case varTraits, varConsents, varScores, varTrigger:
			used[reference.Name] = true
		}
	}
	return &Profile{program: program, variables: slices.Sorted(maps.Keys(used))}, nil
}

// Variables are the names of those of `traits`, `consents`, `scores` and `trigger` that the expression
// looks at, sorted.
func (p *Profile) Variables() []string { return p.variables }

// Match says whether the expression holds.
func (p *Profile) Match(vars Vars) bool { return holds(p.program, &profileInput{vars: vars}) }

// profileInput gives CEL the variables of a profile.
type profileInput struct{ vars Vars }

var _ cel.Activation = (*profileInput)(nil)

func (in *profileInput) ResolveName(name string) (any, bool) {
	switch name {
	case varTraits:
		return newLookup(in.vars.Traits, func(t *profilev1.Trait) (ref.Val, bool) {
			if len(t.GetJson()) == 0 {
				return nil, false
			}
			return toValue(gjson.ParseBytes(t.GetJson())), true
		}), true
	case varConsents:
		return newLookup(in.vars.Consents, func(c *profilev1.ConsentState) (ref.Val, bool) {
			return types.Bool(c.GetGranted()), true
		}), true
	case varScores:
		return newLookup(in.vars.Scores, func(s float64) (ref.Val, bool) { return types.Double(s), true }), true
	case varTrigger:
		return parseObject(in.vars.Trigger), true
	default:
		return nil, false
	}
}

func (in *profileInput) Parent() cel.Activation { return nil }

// lookup is a Go map as a CEL map whose values are converted when they are asked for.
type lookup[V any] struct {
	entries map[string]V
	convert func(V) (ref.Val, bool)
}

func newLookup[V any](entries map[string]V, convert func(V) (ref.Val, bool)) *lookup[V] {
	return &lookup[V]{entries: entries, convert: convert}
}

var _ traits.Mapper = (*lookup[float64])(nil)

func (l *lookup[V]) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	entry, ok := l.entries[string(name)]
	if !ok {
		return nil, false
	}
	return l.convert(entry)
}

func (l *lookup[V]) Get(key ref.Val) ref.Val {
	value, ok := l.Find(key)
	if !ok {
		return types.NewErr("no such key: %v", key.Value())
	}
	return value
}

func (l *lookup[V]) Contains(key ref.Val) ref.Val {
	_, ok := l.Find(key)
	return types.Bool(ok)
}

func (l *lookup[V]) Size() ref.Val               { return l.plain().Size() }
func (l *lookup[V]) Iterator() traits.Iterator   { return l.plain().Iterator() }
func (l *lookup[V]) Equal(other ref.Val) ref.Val { return l.plain().Equal(other) }
func (l *lookup[V]) ConvertToType(target ref.Type) ref.Val {
	return l.plain().ConvertToType(target)
}
func (l *lookup[V]) ConvertToNative(target reflect.Type) (any, error) {
	return l.plain().ConvertToNative(target)
}
func (l *lookup[V]) Type() ref.Type { return types.MapType }
func (l *lookup[V]) Value() any     { return l.plain().Value() }

func (l *lookup[V]) plain() traits.Mapper {
	values := make(map[ref.Val]ref.Val, len(l.entries))
	for name, entry := range l.entries {
		if value, ok := l.convert(entry); ok {
			values[types.String(name)] = value
		}
	}
	return types.NewRefValMap(types.DefaultTypeAdapter, values)
}
