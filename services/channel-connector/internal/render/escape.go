package render

import (
	"bytes"
	"encoding/json"
	"html"
	"regexp"
	"strings"

	"github.com/osteele/liquid"
)

// Filters that escaped adds to what a template puts out.
const (
	htmlFilter = "sillage_html"
	jsonFilter = "sillage_json"
)

func newEngine() *liquid.Engine {
	engine := liquid.NewEngine()
	engine.RegisterFilter(htmlFilter, func(v any) any { return mapStrings(v, html.EscapeString) })
	engine.RegisterFilter(jsonFilter, func(v any) any { return mapStrings(v, jsonInside) })
	engine.RegisterFilter("raw", func(v any) any { return v })
	return engine
}

// output finds what a template puts out, and passes over what it quotes.
var output = regexp.MustCompile(`(?s)\{%-?\s*raw\s*-?%\}.*?\{%-?\s*endraw\s*-?%\}|\{\{-?(.*?)-?\}\}`)

var lastFilter = regexp.MustCompile(`(?s)\|\s*(\w+)\s*$`)

// escaped is a template whose every output ends with a filter, unless it ends with one that makes it
// safe, or says that it is.
func escaped(source, filter string) string {
	own := "escape"
	if filter == jsonFilter {
		own = "json"
	}
	return output.ReplaceAllStringFunc(source, func(found string) string {
		if strings.HasPrefix(found, "{%") {
			return found
		}
		inner := output.FindStringSubmatch(found)[1]
		last := lastFilter.FindStringSubmatch(inner)
		if strings.TrimSpace(inner) == "" || last != nil && (last[1] == "raw" || last[1] == own) {
			return found
		}
		return strings.Replace(found, inner, strings.TrimRight(inner, " \t\r\n")+" | "+filter+" ", 1)
	})
}

// mapStrings applies fn to a text, or to every text within lists and objects.
func mapStrings(v any, fn func(string) string) any {
	switch v := v.(type) {
	case string:
		return fn(v)
	case []byte:
		return fn(string(v))
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = mapStrings(e, fn)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[fn(k)] = mapStrings(e, fn)
		}
		return out
	default:
		return v
	}
}

// jsonInside is a text as it stands between the quotes of a JSON string.
func jsonInside(text string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return "" // never: a string always encodes
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(out.String(), "\n"), `"`), `"`)
}
