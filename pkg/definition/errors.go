package definition

import "fmt"

// ParseError is one thing that is wrong with a file.
type ParseError struct {
	// File is the name that ParseYAML was given.
	File string
	// Document counts the documents of the file from 1.
	Document int
	// Line counts the lines of the file from 1; 0 if it is not known.
	Line int
	// Path is the field, for example `spec.steps[2].wait`; empty for the document itself.
	Path string
	// Problem says what is wrong and what to write.
	Problem string
}

// Error is `file: document 2, line 14: spec.steps[2].wait: problem`.
func (e *ParseError) Error() string {
	text := fmt.Sprintf("%s: document %d", e.File, e.Document)
	if e.Line > 0 {
		text += fmt.Sprintf(", line %d", e.Line)
	}
	if e.Path != "" {
		text += ": " + e.Path
	}
	return text + ": " + e.Problem
}

// FieldError is one thing that is wrong with a definition.
type FieldError struct {
	// Definition is which one.
	Definition ID
	// Path is the field, for example `spec.condition.all[1].where`.
	Path string
	// Problem says what is wrong and what to write.
	Problem string
}

// Error is `segment demo/vip: spec.condition.where: problem`.
func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Definition, e.Path, e.Problem)
}

// FieldErrors takes an error of Validate or ValidateAll apart; other errors within it are left out.
func FieldErrors(err error) []*FieldError {
	// The tree is walked by hand: errors.As would stop at the first.
	switch e := err.(type) { //nolint:errorlint // see above
	case *FieldError:
		return []*FieldError{e}
	case interface{ Unwrap() []error }:
		var all []*FieldError
		for _, part := range e.Unwrap() {
			all = append(all, FieldErrors(part)...)
		}
		return all
	case interface{ Unwrap() error }:
		return FieldErrors(e.Unwrap())
	default:
		return nil
	}
}
