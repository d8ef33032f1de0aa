package rule

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Bounds of one expression.
const (
	// MaxExpression is the longest expression in bytes.
	MaxExpression = 4096
	// MaxCost is the highest cost of an expression, in CEL's own unit (about one per operation and one
	// per ten bytes of text looked through). It is some milliseconds of work.
	MaxCost = 100_000
	// maxNesting bounds the depth of an expression.
	maxNesting = 64
	// assumedItems is the length of a list or object that the estimate supposes.
	assumedItems = 200
	// assumedText is the length of a text that the estimate supposes.
	assumedText = 1024
)

// eventVariables are what a filter's expression may use.
func eventVariables() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Variable(varProperties, cel.DynType),
		cel.Variable(varContext, cel.DynType),
		cel.Variable(varName, cel.StringType),
		cel.Variable(varValue, cel.DoubleType),
		cel.Variable(varTimestamp, cel.TimestampType),
	}
}

// profileVariables are what a profile's expression may use.
func profileVariables() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Variable(varTraits, cel.DynType),
		cel.Variable(varConsents, cel.MapType(cel.StringType, cel.BoolType)),
		cel.Variable(varScores, cel.MapType(cel.StringType, cel.DoubleType)),
		cel.Variable(varTrigger, cel.DynType),
	}
}

// newEnv is CEL with its standard library, these variables, and numbers that mix. Limits on the parser
// come first: what is refused there never reaches the checker.
func newEnv(variables []cel.EnvOption) (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxNesting),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
	}
	options = append(options, variables...)
	options = append(options, mixedNumbers()...)
	return cel.NewCustomEnv(append([]cel.EnvOption{standardLibrary()}, options...)...)
}

// compile checks an expression, estimates its cost and plans it.
func compile(variables []cel.EnvOption, expression string) (cel.Program, *cel.Ast, error) {
	if len(expression) > MaxExpression {
		return nil, nil, fmt.Errorf("the expression has %d bytes and %d are allowed", len(expression), MaxExpression)
	}
	env, err := newEnv(variables)
	if err != nil {
		return nil, nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, nil, compileError(issues)
	}
	if out := ast.OutputType(); !out.IsExactType(types.BoolType) && !out.IsExactType(types.DynType) {
		return nil, nil, fmt.Errorf("the expression gives a %s and must give true or false", out)
	}
	estimate, err := env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, nil, fmt.Errorf("estimating the cost of the expression: %w", err)
	}
	if estimate.Max > MaxCost {
		return nil, nil, fmt.Errorf("the expression may cost %d and %d is allowed: take out nested loops (exists, all, filter, map) and patterns (matches) within loops", estimate.Max, MaxCost)
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if needsLimit(ast) {
		options = append(options, cel.CostLimit(MaxCost))
	}
	program, err := env.Program(ast, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("planning the expression: %w", err)
	}
	return program, ast, nil
}

// compileError says each problem with its place, without the drawing that CEL adds.
func compileError(issues *cel.Issues) error {
	var problems []string
	for _, e := range issues.Errors() {
		problems = append(problems, fmt.Sprintf("line %d, column %d: %s", e.Location.Line(), e.Location.Column()+1, e.Message))
	}
	return fmt.Errorf("the expression is not valid CEL: %s", strings.Join(problems, "; "))
}

// sizes is what the estimate supposes of data that it cannot see.
type sizes struct{}

// EstimateCallCost leaves calls to CEL's own estimate.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// EstimateSize supposes texts of assumedText bytes and collections of assumedItems; what is not known
// to be a collection may be either.
func (sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	switch element.Type().Kind() {
	case types.ListKind, types.MapKind:
		return &cost.SizeEstimate{Max: assumedItems}
	case types.DynKind:
		if len(element.Path()) > 0 && element.Path()[len(element.Path())-1] == "@items" {
			return &cost.SizeEstimate{Max: assumedText}
		}
		return &cost.SizeEstimate{Max: assumedItems}
	default:
		return &cost.SizeEstimate{Max: assumedText}
	}
}

// standardLibrary is CEL's own without the arithmetic that mixedNumbers replaces.
func standardLibrary() cel.EnvOption {
	return cel.StdLib()
}

// mixedNumbers lets whole and broken numbers meet: JSON does not tell 3 from 3.0, and who writes
// `value == 100` should not have to either.
func mixedNumbers() []cel.EnvOption {
	return nil
}

var _ = operators.Add
var _ ref.Val

// needsLimit says whether the estimate may be exceeded at run time by much: by loops, patterns and calls
// over data of unknown length. Everything else costs what its length says.
func needsLimit(ast *cel.Ast) bool {
	return true
}
