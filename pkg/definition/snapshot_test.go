package definition_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/definition"
	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

func TestSnapshotFindsEverything(t *testing.T) {
	s := definition.NewSnapshot(parse(t, world)...)
	require.Equal(t, []string{"demo", "other"}, s.Tenants())
	require.Equal(t, "Europe/Paris", s.Tenant("demo").GetTenantSpec().GetTimezone())
	var names []string
	for _, def := range s.Segments("demo") {
		names = append(names, def.GetName())
	}
	require.Equal(t, []string{"a", "b", "vip"}, names)
	require.NotNil(t, s.Channel("demo", "email"))
	require.NotNil(t, s.Template("demo", "hello"))
	require.NotNil(t, s.Source("other", "web"))
	require.Nil(t, s.Source("demo", "web"), "a tenant sees its own only")
	require.Nil(t, s.Journey("demo", "x"))
	require.Nil(t, s.Score("demo", "x"))
	require.Empty(t, s.Scores("demo"))
	require.Empty(t, s.Journeys("demo"))
	require.Len(t, s.All(), len(parse(t, world)))
	require.Same(t, s, definition.Static(s).Snapshot())
}

func TestWriteKeysAreFoundByHash(t *testing.T) {
	plain := parse(t, `{kind: source, tenant: demo, name: web, spec: {write_keys: [demo-key]}}`)[0]
	hashed := &definitionv1.Definition{Tenant: "demo", Name: "web", Spec: &definitionv1.Definition_Source{
		Source: &definitionv1.Source{WriteKeySha256: []string{definition.HashWriteKey("demo-key"), "nonsense"}}}}
	for _, def := range []*definitionv1.Definition{plain, hashed} {
		s := definition.NewSnapshot(def)
		found, ok := s.SourceByWriteKey("demo-key")
		require.True(t, ok)
		require.Same(t, def, found)
		for _, wrong := range []string{"", "demo-kez", "nonsense", definition.HashWriteKey("demo-key")} {
			_, ok = s.SourceByWriteKey(wrong)
			require.False(t, ok, wrong)
		}
	}
}

func TestNilSnapshotIsEmpty(t *testing.T) {
	var s *definition.Snapshot
	require.Zero(t, s.Revision())
	require.Empty(t, s.All())
	require.Empty(t, s.Tenants())
	require.Nil(t, s.Segment("demo", "x"))
	require.Empty(t, s.Segments("demo"))
	_, ok := s.SourceByWriteKey("demo-key")
	require.False(t, ok)
}

func TestRevisionFollowsContentNotOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		defs := rapid.SliceOfNDistinct(anyDefinition(), 1, 4, definition.IDOf).Draw(t, "definitions")
		revision := definition.NewSnapshot(defs...).Revision()
		shuffled := rapid.Permutation(defs).Draw(t, "shuffled")
		require.Equal(t, revision, definition.NewSnapshot(shuffled...).Revision())

		changed := slices.Clone(defs)
		changed[0] = changed[0].CloneVT()
		changed[0].Version++
		require.NotEqual(t, revision, definition.NewSnapshot(changed...).Revision())
		require.NotEqual(t, revision, definition.NewSnapshot(defs[1:]...).Revision())
	})
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "90s": 90 * time.Second, "45m": 45 * time.Minute, "24h": 24 * time.Hour,
		"7d": 7 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "3653d": definition.MaxDuration,
	} {
		got, err := definition.ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for text, hint := range map[string]string{
		"": "for example 45m", "45 min": "write 45m", "2 weeks": "write 2w", "1h30m": "write 90m", "7D": "write 7d",
		"-5m": "for example 45m", "1.5h": "write 90m", "m": "for example 45m", "500ms": "for example 45m", "3 months": "for example 45m",
		"４５m": "for example 45m", "99999999999d": "longer than ten years", "3654d": "longer than ten years", "4294967295w": "longer than ten years",
	} {
		_, err := definition.ParseDuration(text)
		require.ErrorContains(t, err, hint, text)
	}
}

func TestDurationsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(definition.MaxDuration/time.Second)).Draw(t, "seconds")) * time.Second
		got, err := definition.ParseDuration(definition.FormatDuration(d))
		require.NoError(t, err)
		require.Equal(t, d, got)
	})
}
