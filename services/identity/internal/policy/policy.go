// Package policy compiles the identity policy of a tenant: which identifiers are usable, which name a
// known person, how many of a kind one profile may have, and which win over which.
//
// It promises that a compiled Policy is immutable and total: every namespace has a rule, whatever the
// tenant defined. TestDefaults and TestUsable would catch the loss of a rule.
package policy

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// Namespaces with a meaning of their own.
const (
	// UserID is the producer's own name of a known person.
	UserID = "user_id"
	// Email is a normalised e-mail address.
	Email = "email"
	// AnonymousID names a browser or an installation. It alone derives its profile at once: see DerivesAtOnce.
	AnonymousID = "anonymous_id"
	// ProfileID addresses a profile directly; only events that Sillage itself writes may use it.
	ProfileID = "profile_id"
	// GroupID names a company or a household, never a person.
	GroupID = "group_id"
)

// Bounds of what is taken as an identifier, in bytes.
const (
	MaxNamespace = 64
	MaxValue     = 512
)

// UnlimitedCount is the limit of a namespace that states none.
const UnlimitedCount = 1000

// Identifier is one way to name a person within a tenant.
type Identifier struct {
	Namespace string
	Value     string
}

// String is `namespace:value`, the form of record keys. Parse takes it apart again if the namespace is usable.
func (id Identifier) String() string { return id.Namespace + ":" + id.Value }

// Parse is the inverse of String for usable identifiers; ok is false if there is no colon.
func Parse(s string) (id Identifier, ok bool) {
	namespace, value, ok := strings.Cut(s, ":")
	return Identifier{Namespace: namespace, Value: value}, ok
}

// Rule is what the policy says of one namespace.
type Rule struct {
	// Limit is how many values of the namespace one profile may have, at least 1.
	Limit int
	// Known is true if a value names a known person, false for a device or a browser.
	Known bool
	// Rank is the priority: 0 is the highest.
	Rank int
}

// Policy is the compiled policy of one tenant.
type Policy struct {
	rules       map[string]Rule
	other       Rule
	refused     map[string]struct{}
	longest     int
	fingerprint uint64
}

// builtin are the namespaces that every tenant has, in their default order.
func builtin() []*definitionv1.Namespace {
	return []*definitionv1.Namespace{
		{Name: UserID, Limit: 1, Known: true},
		{Name: Email, Limit: 5, Known: true},
		{Name: AnonymousID, Limit: 50},
	}
}

// Compile builds the policy of a tenant; nil is the default policy. Namespaces that the tenant does not
// list come after those that it does: first the built-in ones with their defaults, then all others,
// which are taken for devices. Of a namespace that is listed twice the first entry holds.
func Compile(spec *definitionv1.IdentityPolicy) *Policy {
	p := &Policy{rules: make(map[string]Rule), refused: make(map[string]struct{})}
	for _, ns := range append(slices.Clone(spec.GetNamespaces()), builtin()...) {
		if _, listed := p.rules[ns.GetName()]; listed {
			continue
		}
		limit := int(ns.GetLimit())
		if limit <= 0 {
			limit = UnlimitedCount
		}
		p.rules[ns.GetName()] = Rule{Limit: limit, Known: ns.GetKnown(), Rank: len(p.rules)}
	}
	p.other = Rule{Limit: UnlimitedCount, Rank: len(p.rules)}
	for _, value := range spec.GetRefusedValues() {
		p.refuse(value)
	}
	p.fingerprint = p.hash()
	for _, value := range refusedValues() {
		p.refuse(value)
	}
	return p
}

func (p *Policy) refuse(value string) {
	plain := unquote(strings.ToLower(strings.TrimSpace(value)))
	p.refused[plain] = struct{}{}
	p.longest = max(p.longest, len(plain))
}

// hash covers everything that a tenant can set.
func (p *Policy) hash() uint64 {
	h := fnv.New64a()
	names := make([]string, 0, len(p.rules))
	for name := range p.rules {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(p.rules[a].Rank, p.rules[b].Rank) })
	for _, name := range names {
		rule := p.rules[name]
		known := byte(0)
		if rule.Known {
			known = 1
		}
		_, _ = h.Write([]byte(name)) // never fails, as hash.Hash says
		_, _ = h.Write([]byte{0, byte(rule.Limit), byte(rule.Limit >> 8), byte(rule.Limit >> 16), byte(rule.Limit >> 24), known})
	}
	values := make([]string, 0, len(p.refused))
	for value := range p.refused {
		values = append(values, value)
	}
	slices.Sort(values)
	_, _ = h.Write([]byte(strings.Join(values, "\x00")))
	return h.Sum64()
}

// Fingerprint differs whenever what the tenant set differs. Cached refusals are kept under one fingerprint.
func (p *Policy) Fingerprint() uint64 { return p.fingerprint }

// Rule is what the policy says of a namespace.
func (p *Policy) Rule(namespace string) Rule {
	if rule, ok := p.rules[namespace]; ok {
		return rule
	}
	return p.other
}

// DerivesAtOnce is true for the namespace whose anchors get their derived profile without asking the
// graph. It is fixed, not a matter of the tenant's policy: the graph must know of every anchor that it
// has not heard of whether events may already stand on the derived profile, whatever the policy was then.
func DerivesAtOnce(namespace string) bool { return namespace == AnonymousID }

// Compare orders identifiers by what they are worth: those of known persons first, then by rank, then
// by namespace so that the order never depends on chance. It is 0 within a namespace.
func (p *Policy) Compare(a, b Identifier) int {
	ra, rb := p.Rule(a.Namespace), p.Rule(b.Namespace)
	if ra.Known != rb.Known {
		if ra.Known {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(ra.Rank, rb.Rank), cmp.Compare(a.Namespace, b.Namespace))
}
