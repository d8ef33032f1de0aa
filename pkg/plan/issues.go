package plan

import (
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"github.com/tidwall/gjson"

	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
)

const (
	// MaxIssues is how many things that are wrong with an event are named.
	MaxIssues = 8
	// maxIssueText bounds each text of an issue.
	maxIssueText = 200
	// maxSampleBytes and maxSampleMembers bound a sample.
	maxSampleBytes   = 4 << 10
	maxSampleMembers = 64
)

// Describe says in one sentence what a violation is, for whoever sent the event.
func Describe(v *planv1.PlanViolation) string {
	if v.GetCode() == CodeUnplanned {
		return fmt.Sprintf("the tracking plan %s does not list this event", v.GetPlan())
	}
	if len(v.GetIssues()) == 0 {
		return fmt.Sprintf("the event is not as the tracking plan %s says", v.GetPlan())
	}
	text := fmt.Sprintf("not as the tracking plan %s says: %s", v.GetPlan(), describe(v.GetIssues()[0]))
	if more := len(v.GetIssues()) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

func describe(issue *planv1.Issue) string {
	at := issue.GetPath()
	if at == "" {
		at = "/"
	}
	text := at + ": " + issue.GetKeyword()
	if issue.GetExpected() != "" {
		text += ": planned " + issue.GetExpected()
	}
	if issue.GetFound() != "" {
		text += ", found " + issue.GetFound()
	}
	return text
}

// issues are the leaves of an error, the first few.
func issues(bad *jsonschema.ValidationError) (out []*planv1.Issue) {
	var visit func(e *jsonschema.ValidationError)
	visit = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			if len(out) < MaxIssues {
				visit(cause)
			}
		}
		if len(e.Causes) == 0 && len(out) < MaxIssues {
			out = append(out, issuesOf(e)...)
		}
	}
	visit(bad)
	return out[:min(len(out), MaxIssues)]
}

func issuesOf(e *jsonschema.ValidationError) []*planv1.Issue {
	at := pathOf(e.InstanceLocation)
	each := func(names []string, expected, found string) (out []*planv1.Issue) {
		for _, name := range names[:min(len(names), MaxIssues)] {
			out = append(out, issue(at+pathOf([]string{name}), e, expected, found))
		}
		return out
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		return each(k.Missing, "", "nothing")
	case *kind.AdditionalProperties:
		return each(k.Properties, "no such property", "")
	case *kind.DependentRequired:
		return each(k.Missing, "beside "+k.Prop, "nothing")
	}
	expected, found := wanted(e.ErrorKind)
	return []*planv1.Issue{issue(at, e, expected, found)}
}

func issue(path string, e *jsonschema.ValidationError, expected, found string) *planv1.Issue {
	keyword := "schema"
	if words := e.ErrorKind.KeywordPath(); len(words) > 0 {
		keyword = words[len(words)-1]
	}
	if _, never := e.ErrorKind.(*kind.FalseSchema); never {
		keyword = "false"
	}
	return &planv1.Issue{Path: cut(path), Keyword: cut(keyword), Expected: cut(expected), Found: cut(found)}
}

// wanted says what was planned and what was there instead: types and sizes, never a value.
func wanted(e jsonschema.ErrorKind) (expected, found string) {
	switch k := e.(type) {
	case *kind.Type:
		return strings.Join(k.Want, " or "), k.Got
	case *kind.Enum:
		return "one of " + list(k.Want), typeName(k.Got) + " that is none of them"
	case *kind.Const:
		return cut(fmt.Sprint(k.Want)), "another " + typeName(k.Got)
	case *kind.Format:
		return k.Want, typeName(k.Got) + " of another form"
	case *kind.Pattern:
		return k.Want, "text of another form"
	case *kind.Minimum:
		return k.Want.RatString() + " or more", "less"
	case *kind.Maximum:
		return k.Want.RatString() + " or less", "more"
	case *kind.ExclusiveMinimum:
		return "more than " + k.Want.RatString(), "less"
	case *kind.ExclusiveMaximum:
		return "less than " + k.Want.RatString(), "more"
	case *kind.MultipleOf:
		return "a multiple of " + k.Want.RatString(), "none"
	}
	return wantedSize(e)
}

// wantedSize is wanted for how much there may be.
func wantedSize(e jsonschema.ErrorKind) (expected, found string) {
	switch k := e.(type) {
	case *kind.MinLength:
		return count(k.Want, "characters or more"), count(k.Got, "")
	case *kind.MaxLength:
		return count(k.Want, "characters or fewer"), count(k.Got, "")
	case *kind.MinItems:
		return count(k.Want, "items or more"), count(k.Got, "")
	case *kind.MaxItems:
		return count(k.Want, "items or fewer"), count(k.Got, "")
	case *kind.MinProperties:
		return count(k.Want, "properties or more"), count(k.Got, "")
	case *kind.MaxProperties:
		return count(k.Want, "properties or fewer"), count(k.Got, "")
	}
	return "", ""
}

func list(values []any) string {
	var out strings.Builder
	for i, v := range values {
		if i > 0 {
			out.WriteString(", ")
		}
		if out.Len() > maxIssueText {
			break
		}
		fmt.Fprint(&out, v)
	}
	return out.String()
}

func count(n int, of string) string { return strings.TrimSpace(fmt.Sprintf("%d %s", n, of)) }

func typeName(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "number"
	}
}

// pathOf is a JSON Pointer.
func pathOf(steps []string) string {
	var out strings.Builder
	for _, step := range steps {
		out.WriteByte('/')
		out.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
	}
	return out.String()
}

// cut bounds a text without breaking a character.
func cut(text string) string {
	if len(text) > maxIssueText {
		text = strings.ToValidUTF8(text[:maxIssueText], "") + "…"
	}
	return text
}

// sample is a document with its values, if they are allowed and few, else with types in their place.
func sample(document []byte, values bool) []byte {
	if len(document) == 0 {
		return []byte("{}")
	}
	if values && len(document) <= maxSampleBytes {
		return append([]byte(nil), document...)
	}
	out := []byte{'{'}
	members := 0
	gjson.ParseBytes(document).ForEach(func(name, value gjson.Result) bool {
		entry := gjson.AppendJSONString(nil, name.String())
		entry = append(append(append(entry, ':', '"'), shape(value)...), '"')
		if members == maxSampleMembers || len(out)+len(entry)+2 > maxSampleBytes {
			return false
		}
		if members++; members > 1 {
			out = append(out, ',')
		}
		out = append(out, entry...)
		return true
	})
	return append(out, '}')
}

func shape(value gjson.Result) string {
	switch {
	case value.IsObject():
		return "object"
	case value.IsArray():
		return "array"
	case value.IsBool():
		return "boolean"
	case value.Type == gjson.Number:
		return "number"
	case value.Type == gjson.String:
		return "string"
	default:
		return "null"
	}
}
