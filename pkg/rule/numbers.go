package rule

import (
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/stdlib"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// mixedNumbers is CEL's standard library with arithmetic in which whole and broken numbers meet. JSON
// does not tell 3 from 3.0, and who writes `value - 100 > 0` or `properties.price * 2 > 5.5` should not
// have to either. Of two numbers of different kinds both become doubles first. (Comparisons mix anyway:
// those of values that come from data by CEL's own rules, `<` and its like by an option of the environment.)
func mixedNumbers() []cel.EnvOption {
	subset := &env.LibrarySubset{}
	options := []cel.EnvOption{}
	for _, function := range stdlib.Functions() {
		calculate, ok := arithmetic(function.Name())
		if !ok {
			continue
		}
		subset.AddExcludedFunctions(env.NewFunction(function.Name()))
		overloads := []cel.FunctionOpt{cel.SingletonBinaryBinding(promoting(calculate))}
		for _, overload := range function.OverloadDecls() {
			overloads = append(overloads, cel.Overload(overload.ID(), overload.ArgTypes(), overload.ResultType()))
		}
		overloads = append(overloads,
			cel.Overload(function.Name()+"double_int", []*cel.Type{cel.DoubleType, cel.IntType}, cel.DoubleType),
			cel.Overload(function.Name()+"int_double", []*cel.Type{cel.IntType, cel.DoubleType}, cel.DoubleType),
		)
		options = append(options, cel.Function(function.Name(), overloads...))
	}
	return append([]cel.EnvOption{cel.StdLib(cel.StdLibSubset(subset))}, options...)
}

// arithmetic is what an operator does with two values of one kind.
func arithmetic(operator string) (func(a, b ref.Val) ref.Val, bool) {
	switch operator {
	case operators.Add:
		return func(a, b ref.Val) ref.Val {
			if adder, ok := a.(traits.Adder); ok {
				return adder.Add(b)
			}
			return types.MaybeNoSuchOverloadErr(a)
		}, true
	case operators.Subtract:
		return func(a, b ref.Val) ref.Val {
			if subtractor, ok := a.(traits.Subtractor); ok {
				return subtractor.Subtract(b)
			}
			return types.MaybeNoSuchOverloadErr(a)
		}, true
	case operators.Multiply:
		return func(a, b ref.Val) ref.Val {
			if multiplier, ok := a.(traits.Multiplier); ok {
				return multiplier.Multiply(b)
			}
			return types.MaybeNoSuchOverloadErr(a)
		}, true
	case operators.Divide:
		return func(a, b ref.Val) ref.Val {
			if divider, ok := a.(traits.Divider); ok {
				return divider.Divide(b)
			}
			return types.MaybeNoSuchOverloadErr(a)
		}, true
	case operators.Modulo:
		return modulo, true
	default:
		return nil, false
	}
}

// modulo is the remainder of whole numbers, and of doubles as math.Mod has it.
func modulo(a, b ref.Val) ref.Val {
	if x, ok := a.(types.Double); ok {
		if y, ok := b.(types.Double); ok {
			return types.Double(math.Mod(float64(x), float64(y)))
		}
	}
	if modder, ok := a.(traits.Modder); ok {
		return modder.Modulo(b)
	}
	return types.MaybeNoSuchOverloadErr(a)
}

// promoting makes doubles of a double and a whole number before it calculates.
func promoting(calculate func(a, b ref.Val) ref.Val) func(a, b ref.Val) ref.Val {
	return func(a, b ref.Val) ref.Val {
		switch x := a.(type) {
		case types.Double:
			if y, ok := b.(types.Int); ok {
				return calculate(x, types.Double(y))
			}
		case types.Int:
			if y, ok := b.(types.Double); ok {
				return calculate(types.Double(x), y)
			}
		}
		return calculate(a, b)
	}
}
