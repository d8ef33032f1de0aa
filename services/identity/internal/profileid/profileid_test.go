package profileid_test

import (
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/services/identity/internal/profileid"
)

func TestDeriveIsStable(t *testing.T) {
	// Ids stand in Kafka and ClickHouse: this value may never change.
	require.Equal(t, "p7f7nUuERNWNMU34Ow8CqLV", profileid.Derive("acme", "anonymous_id", "a1"))
}

func TestDeriveKeepsItsPartsApart(t *testing.T) {
	seen := map[string][3]string{}
	for _, parts := range [][3]string{
		{"a", "b", "c"}, {"ab", "", "c"}, {"", "ab", "c"}, {"a", "bc", ""}, {"abc", "", ""}, {"a", "b", "C"},
	} {
		id := profileid.Derive(parts[0], parts[1], parts[2])
		require.NotContains(t, seen, id, "%v", parts)
		seen[id] = parts
	}
}

func TestDeriveIsBase62OfTheHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := [3]string{rapid.String().Draw(t, "tenant"), rapid.String().Draw(t, "namespace"), rapid.String().Draw(t, "value")}
		var text []byte
		for _, part := range parts {
			n := uint64(len(part))
			for ; n >= 0x80; n >>= 7 {
				text = append(text, byte(n)|0x80)
			}
			text = append(append(text, byte(n)), part...)
		}
		sum := sha256.Sum256(text)
		want := new(big.Int).SetBytes(sum[:16])

		id := profileid.Derive(parts[0], parts[1], parts[2])
		require.Len(t, id, profileid.Length)
		// big.Int orders its digits 0-9a-zA-Z, KSUID 0-9A-Za-z: swap the cases.
		swapped := []byte(id[1:])
		for i, c := range swapped {
			switch {
			case c >= 'a':
				swapped[i] = c - 'a' + 'A'
			case c >= 'A':
				swapped[i] = c - 'A' + 'a'
			}
		}
		have, ok := new(big.Int).SetString(string(swapped), 62)
		require.True(t, ok)
		require.Zero(t, want.Cmp(have))
	})
}

func BenchmarkDerive(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		profileid.Derive("acme", "anonymous_id", "6f1f6f1e-1111-4444-8888-0123456789ab")
	}
}
