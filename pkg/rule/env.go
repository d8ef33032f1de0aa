package rule

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
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

// The two environments are built when the first expression is compiled, which takes longer than the
// compiling itself, and never change.
var (
	eventEnv   = sync.OnceValues(func() (*cel.Env, error) { return newEnv(eventVariables()) })
	profileEnv = sync.OnceValues(func() (*cel.Env, error) { return newEnv(profileVariables()) })
)

// eventVariables are what a filter's expression may use.
func eventVariables() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Variable(varProperties, cel.DynType),
		cel.Variable(varContext, cel.DynType),
		cel.Variable(varName, cel.StringType),
		// A double; declared open so that it may be compared with whole numbers.
		cel.Variable(varValue, cel.DynType),
		cel.Variable(varTimestamp, cel.TimestampType),
	}
}

// profileVariables are what a profile's expression may use.
func profileVariables() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Variable(varTraits, cel.DynType),
		cel.Variable(varConsents, cel.MapType(cel.StringType, cel.BoolType)),
		cel.Variable(varScores, cel.MapType(cel.StringType, cel.DynType)),
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
	options = append(options, mixedNumbers()...)
	return cel.NewCustomEnv(append(options, variables...)...)
}

// compile checks an expression, estimates its cost and plans it.
func compile(environment func() (*cel.Env, error), expression string) (cel.Program, *cel.Ast, error) {
	if len(expression) > MaxExpression {
		return nil, nil, fmt.Errorf("the expression has %d bytes and %d are allowed", len(expression), MaxExpression)
	}
	env, err := environment()
	if err != nil {
		return nil, nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	checked, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, nil, compileError(issues)
	}
	if out := checked.OutputType(); !out.IsExactType(types.BoolType) && !out.IsExactType(types.DynType) {
		return nil, nil, fmt.Errorf("the expression gives a %s and must give true or false", out)
	}
	estimate, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, nil, fmt.Errorf("estimating the cost of the expression: %w", err)
	}
	if estimate.Max > MaxCost {
		return nil, nil, fmt.Errorf("the expression may cost %d and %d is allowed: take out nested loops (exists, all, filter, map) and patterns (matches) within loops", estimate.Max, MaxCost)
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if needsLimit(checked.NativeRep()) {
		options = append(options, cel.CostLimit(MaxCost))
	}
	program, err := env.Program(checked, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("planning the expression: %w", err)
	}
	return program, checked, nil
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

// needsLimit says whether running may cost much more than estimated: where there are loops, and calls of
// functions over data of any length. Mere comparisons of fields cost what their number says, and are
// spared the meter.
func needsLimit(program *ast.AST) bool {
	loops := ast.MatchDescendants(ast.NavigateAST(program), ast.KindMatcher(ast.ComprehensionKind))
	if len(loops) > 0 {
		return true
	}
	calls := ast.MatchDescendants(ast.NavigateAST(program), ast.KindMatcher(ast.CallKind))
	return slices.ContainsFunc(calls, func(call ast.NavigableExpr) bool {
		return !cheapCall(call.AsCall().FunctionName())
	})
}

// cheapCall says whether a function takes the same time whatever its arguments, but for going over a text
// or a list of the event once, whose length the door bounds.
func cheapCall(function string) bool {
	switch function {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional,
		operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals,
		operators.Greater, operators.GreaterEquals, operators.Index, operators.Negate,
		operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo,
		overloads.Size, overloads.StartsWith, overloads.EndsWith, overloads.Contains, operators.In:
		return true
	default:
		return false
	}
}
