package intake

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// No byte of entropy is handed out twice or left out.
func TestEntropyIsHandedOutOnce(t *testing.T) {
	source := make([]byte, 4096)
	for i := range source {
		source[i] = byte(i ^ i>>8)
	}
	e := &entropy{from: bytes.NewReader(source)}
	seen := map[string]bool{}
	for range 300 {
		p := make([]byte, 10)
		n, err := e.Read(p)
		require.NoError(t, err)
		require.Equal(t, 10, n)
		require.False(t, seen[string(p)])
		seen[string(p)] = true
	}
	large := make([]byte, 2000)
	_, err := e.Read(large)
	require.Error(t, err, "the source is used up, and says so")
}
