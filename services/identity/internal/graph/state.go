package graph

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

// State is the keyed state of one tenant. Values returned are not changed and not kept.
type State interface {
	Get(name string) ([]byte, bool)
	Put(name string, value []byte)
	Delete(name string)
	Range(prefix string, fn func(name string, value []byte) bool)
}

func identifierName(id policy.Identifier) string { return "i/" + id.Namespace + ":" + id.Value }

func profileName(profile string) string { return "p/" + profile }

func memberPrefix(profile string) string { return "m/" + profile + "/" }

// appendOwner writes the entry of an identifier: its profile, and behind a zero byte the last question
// of it as an anchor that was answered, if it ever asked.
func appendOwner(b []byte, profile, asked string) []byte {
	b = append(b, profile...)
	if asked != "" {
		b = append(append(b, 0), asked...)
	}
	return b
}

// cutOwner is the inverse of appendOwner.
func cutOwner(b []byte) (profile, asked string) {
	owner, question, _ := bytes.Cut(b, []byte{0})
	return string(owner), string(question)
}

// profile is what is kept of a profile besides its members.
type profile struct {
	id        string
	createdMs int64
	// known is true if a member names a known person by the policy under which it came.
	known bool
	// into is the profile into which it was merged; empty while it lives.
	into string
	// counts are the members by namespace.
	counts []count
}

type count struct {
	namespace string
	n         int
}

func (p *profile) count(namespace string) int {
	for _, c := range p.counts {
		if c.namespace == namespace {
			return c.n
		}
	}
	return 0
}

// add changes a count; a namespace that falls to nothing goes.
func (p *profile) add(namespace string, n int) {
	for i := range p.counts {
		if p.counts[i].namespace != namespace {
			continue
		}
		if p.counts[i].n += n; p.counts[i].n <= 0 {
			p.counts = append(p.counts[:i], p.counts[i+1:]...)
		}
		return
	}
	if n > 0 {
		p.counts = append(p.counts, count{namespace: namespace, n: n})
	}
}

const profileVersion = 1

func (p *profile) append(b []byte) []byte {
	known := byte(0)
	if p.known {
		known = 1
	}
	b = binary.AppendVarint(append(b, profileVersion, known), p.createdMs)
	b = appendText(b, p.into)
	b = binary.AppendUvarint(b, uint64(len(p.counts)))
	for _, c := range p.counts {
		b = binary.AppendUvarint(appendText(b, c.namespace), uint64(c.n))
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// maxCount is far above any limit that a policy can state (an int32) times the few profiles of a merge.
const maxCount = 1 << 40

var (
	errTruncated = errors.New("truncated")
	errForm      = errors.New("not in the form that is written")
)

// parseProfile is the inverse of append. It refuses what append does not write.
func parseProfile(id string, b []byte) (*profile, error) {
	fail := func(err error) (*profile, error) {
		return nil, fmt.Errorf("decoding a profile of the graph: %w", err)
	}
	if len(b) < 2 {
		return fail(errTruncated)
	}
	if b[0] != profileVersion || b[1] > 1 {
		return fail(errForm)
	}
	p := &profile{id: id, known: b[1] == 1}
	created, n := binary.Varint(b[2:])
	if n <= 0 {
		return fail(errTruncated)
	}
	p.createdMs, b = created, b[2+n:]
	into, b, ok := cutText(b)
	if !ok {
		return fail(errTruncated)
	}
	p.into = into
	namespaces, n := binary.Uvarint(b)
	if n <= 0 || namespaces > uint64(len(b)) {
		return fail(errTruncated)
	}
	for b = b[n:]; namespaces > 0; namespaces-- {
		var c count
		if c.namespace, b, ok = cutText(b); !ok {
			return fail(errTruncated)
		}
		members, n := binary.Uvarint(b)
		if n <= 0 {
			return fail(errTruncated)
		}
		if members == 0 || members > maxCount || p.count(c.namespace) != 0 {
			return fail(errForm)
		}
		c.n, b = int(members), b[n:]
		p.counts = append(p.counts, c)
	}
	if len(b) > 0 {
		return fail(errForm)
	}
	return p, nil
}

// cutText takes a length-prefixed text off the front of b.
func cutText(b []byte) (text string, rest []byte, ok bool) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length > uint64(len(b)-n) {
		return "", nil, false
	}
	end := n + int(length)
	return string(b[n:end]), b[end:], true
}
