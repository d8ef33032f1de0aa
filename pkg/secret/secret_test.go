package secret_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/secret"
)

func TestNeverPrints(t *testing.T) {
	v := secret.New("hunter2")
	encoded, err := json.Marshal(map[string]any{"v": v})
	require.NoError(t, err)
	for _, shown := range []string{v.String(), fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v), string(encoded)} {
		require.NotContains(t, shown, "hunter2")
		require.Contains(t, shown, secret.Redacted)
	}
	require.Equal(t, "hunter2", v.Reveal())
}

func TestResolve(t *testing.T) {
	t.Setenv("SECRET_TEST", "s1")
	path := filepath.Join(t.TempDir(), "s")
	require.NoError(t, os.WriteFile(path, []byte("s2\n"), 0o600))

	for ref, want := range map[string]string{"": "", "env:SECRET_TEST": "s1", "file:" + path: "s2"} {
		v, err := secret.Resolve(ref)
		require.NoError(t, err, ref)
		require.Equal(t, want, v.Reveal(), ref)
	}
	for _, ref := range []string{"hunter2", "env:", "env:NOT_SET_ANYWHERE", "file:/does/not/exist", "vault:x"} {
		_, err := secret.Resolve(ref)
		require.Error(t, err, ref)
	}
}
