package policy

import "strings"

// refusedValues are never identifiers: what broken producers send in the place of one. It is the union
// of the lists of Segment and PostHog; `^[0-]*$` comes on top (onlyZeros).
func refusedValues() []string {
	return []string{
		"-1", "null", "none", "undefined", "anonymous", "guest", "nan", "true", "false", "id", "email",
		"distinct_id", "not_authenticated", "[object object]",
	}
}

// Usable is true if id may name a person: a namespace without `:` and `/` (keys are built of both) that
// is neither a group nor a profile, and a value within bounds that no list refuses.
func (p *Policy) Usable(id Identifier) bool {
	switch id.Namespace {
	case "", GroupID, ProfileID:
		return false
	case UserID, Email, AnonymousID:
	default:
		if len(id.Namespace) > MaxNamespace || strings.ContainsAny(id.Namespace, ":/") {
			return false
		}
	}
	return len(id.Value) <= MaxValue && !p.refuses(id.Value)
}

func (p *Policy) refuses(value string) bool {
	if onlyZeros(value) {
		return true
	}
	// Two quotes on either side at most: longer values cannot be on the list, and most are longer.
	if len(value) > p.longest+2 && value[0] != ' ' {
		return false
	}
	plain := unquote(strings.ToLower(strings.TrimSpace(value)))
	if onlyZeros(plain) {
		return true
	}
	_, refused := p.refused[plain]
	return refused
}

// onlyZeros matches `^[0-]*$`, the empty value included.
func onlyZeros(value string) bool {
	for i := range len(value) {
		if value[i] != '0' && value[i] != '-' {
			return false
		}
	}
	return true
}

// unquote takes one pair of quotes off.
func unquote(value string) string {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'' || value[0] == '`') && value[len(value)-1] == value[0] {
		return strings.TrimSpace(value[1 : len(value)-1])
	}
	return value
}
