package identifier

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRefused(t *testing.T) {
	policy := NewPolicy([]string{" Test-User ", "42"})
	cases := map[string]Refusal{
		"": Blank, "   ": Blank, "\t\n": Blank,
		"0": Placeholder, "000": Placeholder, "-": Placeholder, "-1": Placeholder,
		"00000000-0000-0000-0000-000000000000": Placeholder,
		"null":                                 Placeholder, "NULL": Placeholder, "None": Placeholder, "undefined": Placeholder,
		"anonymous": Placeholder, "Guest": Placeholder, "NaN": Placeholder, "true": Placeholder, "FALSE": Placeholder,
		"id": Placeholder, "email": Placeholder, "distinct_id": Placeholder, "not_authenticated": Placeholder,
		"[object Object]": Placeholder, "[OBJECT OBJECT]": Placeholder,
		`"null"`: Placeholder, `'undefined'`: Placeholder, "`0`": Placeholder, `""`: Placeholder, `" null "`: Placeholder,
		"test-user": Placeholder, "TEST-USER": Placeholder, `"42"`: Placeholder,
		"a\x00b": ControlCharacter, "a\xffb": ControlCharacter,
		strings.Repeat("x", MaxLength+1): TooLong,
		strings.Repeat("x", MaxLength):   OK,
		"1":                              OK, "-2": OK, "10": OK, "nullable": OK, "user-1": OK, "Ünïcode": OK, `"`: OK,
	}
	for value, want := range cases {
		got, refusal := policy.Normalise(UserID, value)
		require.Equal(t, want, refusal, "value %q", value)
		if refusal != OK {
			require.Empty(t, got)
		}
	}
}

func TestEmail(t *testing.T) {
	value, refusal := Policy{}.Normalise(Email, "  Ada.Lovelace@Example.COM ")
	require.Equal(t, OK, refusal)
	require.Equal(t, "ada.lovelace@example.com", value)
	for _, bad := range []string{"ada", "@example.com", "ada@", "ada lovelace@example.com", "<ada@example.com>", strings.Repeat("a", 250) + "@b.fr"} {
		_, refusal := Policy{}.Normalise(Email, bad)
		require.Equal(t, BadEmail, refusal, bad)
	}
}

func TestUserIDKeepsCase(t *testing.T) {
	value, refusal := Policy{}.Normalise(UserID, " AbC ")
	require.Equal(t, OK, refusal)
	require.Equal(t, "AbC", value)
}

func TestNormaliseIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		namespace := rapid.SampledFrom([]string{UserID, AnonymousID, Email, "loyalty_card"}).Draw(t, "namespace")
		value := rapid.String().Draw(t, "value")
		once, refusal := Policy{}.Normalise(namespace, value)
		if refusal != OK {
			require.Empty(t, once)
			return
		}
		twice, refusal := Policy{}.Normalise(namespace, once)
		require.Equal(t, OK, refusal)
		require.Equal(t, once, twice)
	})
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Count {
		require.NotEmpty(t, r.String())
		require.False(t, seen[r.String()])
		seen[r.String()] = true
	}
	require.Equal(t, "unknown", Count.String())
}
