package policy_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

func TestDefaults(t *testing.T) {
	p := policy.Compile(nil)
	require.Equal(t, policy.Rule{Limit: 1, Known: true, Rank: 0}, p.Rule("user_id"))
	require.Equal(t, policy.Rule{Limit: 5, Known: true, Rank: 1}, p.Rule("email"))
	require.Equal(t, policy.Rule{Limit: 50, Rank: 2}, p.Rule("anonymous_id"))
	require.Equal(t, policy.Rule{Limit: 1000, Rank: 3}, p.Rule("device.token"))
}

func TestListedNamespacesComeBeforeTheBuiltInOnes(t *testing.T) {
	p := policy.Compile(&definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{
		{Name: "crm", Limit: 2, Known: true}, {Name: "email"}, {Name: "crm", Limit: 9},
	}})
	require.Equal(t, policy.Rule{Limit: 2, Known: true, Rank: 0}, p.Rule("crm"), "the first of two entries holds")
	require.Equal(t, policy.Rule{Limit: 1000, Rank: 1}, p.Rule("email"), "0 means 1000")
	require.Equal(t, policy.Rule{Limit: 1, Known: true, Rank: 2}, p.Rule("user_id"))
	require.Equal(t, 4, p.Rule("phone").Rank)
}

func TestCompareOrdersKnownThenRankThenName(t *testing.T) {
	p := policy.Compile(&definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{
		{Name: "device"}, {Name: "email", Known: true}, {Name: "user_id", Known: true},
	}})
	ids := []policy.Identifier{{"zebra", "1"}, {"device", "2"}, {"user_id", "3"}, {"ant", "4"}, {"email", "5"}, {"email", "6"}}
	slices.SortStableFunc(ids, p.Compare)
	require.Equal(t, []policy.Identifier{{"email", "5"}, {"email", "6"}, {"user_id", "3"}, {"device", "2"}, {"ant", "4"}, {"zebra", "1"}}, ids)
}

func TestUsable(t *testing.T) {
	p := policy.Compile(&definitionv1.IdentityPolicy{RefusedValues: []string{" Test-User ", "kiosk-of-the-agency-in-lyon"}})
	for _, value := range []string{
		"", "0", "000-00", "-1", "null", "NULL", `"null"`, "'none'", "undefined", "Anonymous", "guest", "NaN", "TRUE", "false",
		"id", "email", "distinct_id", "not_authenticated", "[object Object]", " null ", `"0"`, "test-user", "TEST-USER", "Kiosk-of-the-agency-in-Lyon",
	} {
		require.False(t, p.Usable(policy.Identifier{Namespace: "user_id", Value: value}), "%q", value)
	}
	for _, value := range []string{"1", "00a", "nullable", "u-1", "anonymous1", `"x"`, "-12"} {
		require.True(t, p.Usable(policy.Identifier{Namespace: "user_id", Value: value}), "%q", value)
	}
	require.True(t, policy.Compile(nil).Usable(policy.Identifier{Namespace: "user_id", Value: "test-user"}))

	for namespace, want := range map[string]bool{
		"": false, "group_id": false, "profile_id": false, "a:b": false, "a/b": false,
		string(make([]byte, 65)): false, "crm": true, "device.id": true,
	} {
		require.Equal(t, want, p.Usable(policy.Identifier{Namespace: namespace, Value: "x1"}), "%q", namespace)
	}
	require.False(t, p.Usable(policy.Identifier{Namespace: "crm", Value: string(make([]byte, 513))}))
}

func TestFingerprintFollowsEverySetting(t *testing.T) {
	base := func() *definitionv1.IdentityPolicy {
		return &definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{{Name: "crm", Limit: 2}}, RefusedValues: []string{"x"}}
	}
	seen := map[uint64]bool{policy.Compile(base()).Fingerprint(): true, policy.Compile(nil).Fingerprint(): true}
	require.Len(t, seen, 2)
	for i, change := range []func(*definitionv1.IdentityPolicy){
		func(s *definitionv1.IdentityPolicy) { s.Namespaces[0].Limit = 3 },
		func(s *definitionv1.IdentityPolicy) { s.Namespaces[0].Known = true },
		func(s *definitionv1.IdentityPolicy) { s.Namespaces[0].Name = "erp" },
		func(s *definitionv1.IdentityPolicy) { s.RefusedValues = append(s.RefusedValues, "y") },
		func(s *definitionv1.IdentityPolicy) {
			s.Namespaces = append(s.Namespaces, &definitionv1.Namespace{Name: "email", Limit: 5, Known: true})
		},
	} {
		s := base()
		change(s)
		changed := policy.Compile(s).Fingerprint()
		require.False(t, seen[changed], "change %d", i)
		seen[changed] = true
	}
	again := policy.Compile(base()).Fingerprint()
	require.Equal(t, policy.Compile(base()).Fingerprint(), again)
}

func BenchmarkUsable(b *testing.B) {
	p := policy.Compile(nil)
	id := policy.Identifier{Namespace: "anonymous_id", Value: "6f1f6f1e-1111-4444-8888-0123456789ab"}
	b.ReportAllocs()
	for b.Loop() {
		p.Usable(id)
	}
}
