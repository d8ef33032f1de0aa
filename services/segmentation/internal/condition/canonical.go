package condition

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
)

// canonical writes parts so that different lists of parts never read the same.
func canonical(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString(strconv.Itoa(len(part)))
		b.WriteByte(':')
		b.WriteString(part)
	}
	return b.String()
}

// canonicalFilter is the canonical form of a filter; nil stands for any event of the person's own.
func canonicalFilter(def *definitionv1.EventFilter) string {
	if def == nil {
		return canonical("own")
	}
	kind := def.GetType()
	if kind == "" {
		kind = "track"
	}
	return canonical("filter", kind, def.GetEvent(), strings.TrimSpace(def.GetWhere()))
}

// canonicalSet is the canonical form of a node whose children have no order.
func canonicalSet(op string, children []string) string {
	children = slices.Clone(children)
	slices.Sort(children)
	return canonical(append([]string{op}, slices.Compact(children)...)...)
}

// digest is the first eight bytes of the SHA-256 of a canonical form.
func digest(form string) uint64 {
	sum := sha256.Sum256([]byte(form))
	return binary.BigEndian.Uint64(sum[:8])
}
