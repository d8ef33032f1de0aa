package definition

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// enumPrefix is what every value of an enum begins with: that of its zero value before UNSPECIFIED.
func enumPrefix(enum protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(enum.Values().ByNumber(0).Name()), "UNSPECIFIED")
}

// enumWord is a value as YAML writes it.
func enumWord(enum protoreflect.EnumDescriptor, value protoreflect.EnumValueDescriptor) string {
	return strings.ToLower(strings.TrimPrefix(string(value.Name()), enumPrefix(enum)))
}

// enumWords is every value but the unspecified one.
func enumWords(enum protoreflect.EnumDescriptor) []string {
	var words []string
	for i := range enum.Values().Len() {
		if value := enum.Values().Get(i); value.Number() != 0 {
			words = append(words, enumWord(enum, value))
		}
	}
	return words
}

// enumValue is the value that a word or a full name stands for, nil if none does.
func enumValue(enum protoreflect.EnumDescriptor, text string) protoreflect.EnumValueDescriptor {
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		if value.Number() != 0 && (enumWord(enum, value) == text || string(value.Name()) == text) {
			return value
		}
	}
	return nil
}
