// Package secret resolves references to secrets. Configuration and definitions hold a reference
// (`env:NAME` or `file:PATH`), never a value; the value lives in a type that does not print.
package secret

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Redacted is what a Value prints as.
const Redacted = "[redacted]"

// maxBytes bounds a secret read from a file.
const maxBytes = 64 << 10

// Value is a secret. Every way of printing or encoding it shows Redacted.
type Value struct{ text string }

// New wraps a secret made at run time.
func New(text string) Value { return Value{text: text} }

// Reveal returns the secret itself, for the one place that needs it.
func (v Value) Reveal() string { return v.text }

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.text == "" }

// String is Redacted.
func (Value) String() string { return Redacted }

// GoString is Redacted.
func (Value) GoString() string { return Redacted }

// MarshalText is Redacted, so that encoders do not show it either.
func (Value) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Check says what is wrong with a reference without resolving it; an empty one is right.
func Check(ref string) error {
	if ref == "" {
		return nil
	}
	kind, rest, ok := strings.Cut(ref, ":")
	if !ok || rest == "" || (kind != "env" && kind != "file") {
		return errors.New("a secret is given by reference: env:NAME or file:PATH")
	}
	return nil
}

// Resolve reads the secret that ref refers to; an empty reference is a zero Value. Errors name the
// reference and never hold the secret.
func Resolve(ref string) (Value, error) {
	if err := Check(ref); err != nil || ref == "" {
		return Value{}, err
	}
	kind, rest, _ := strings.Cut(ref, ":")
	if kind == "env" {
		text, ok := os.LookupEnv(rest)
		if !ok || text == "" {
			return Value{}, fmt.Errorf("reading secret %s: the variable %s is not set", ref, rest)
		}
		return New(text), nil
	}
	return fromFile(ref, rest)
}

func fromFile(ref, path string) (Value, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Value{}, fmt.Errorf("reading secret %s: %w", ref, err)
	}
	if info.Size() > maxBytes {
		return Value{}, fmt.Errorf("reading secret %s: the file is larger than %d bytes", ref, maxBytes)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Value{}, fmt.Errorf("reading secret %s: %w", ref, err)
	}
	text := strings.TrimRight(string(raw), "\r\n")
	if text == "" {
		return Value{}, fmt.Errorf("reading secret %s: the file is empty", ref)
	}
	return New(text), nil
}
