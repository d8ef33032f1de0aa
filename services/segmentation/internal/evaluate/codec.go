package evaluate

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/window"

	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// format is the first byte of every entry.
const format = 1

// Flags of the answers entry and of its leaves.
const (
	flagArmed = 1 << iota
	flagFacts
)
const (
	flagHolds = 1 << iota
	flagSince
	flagSecond
)

var (
	errTruncated = errors.New("the entry ends too early")
	errFormat    = errors.New("the entry has a format that this version does not know")
	errRange     = errors.New("a number is out of range")
	errOrder     = errors.New("entries are out of order")
)

// encodeAnswers writes the answers entry into buf:
// format, revision, asOf, first, flags, [armed], [due of facts], members as bits, then for each leaf that
// has anything to remember its ID, flags, [since] and instants, all times relative to asOf.
func (p *Person) encodeAnswers(buf []byte) []byte {
	buf = append(buf, format)
	buf = binary.BigEndian.AppendUint64(buf, p.program.Revision)
	buf = binary.AppendVarint(buf, p.asOf)
	buf = binary.AppendVarint(buf, p.first-p.asOf)
	var flags byte
	if p.armed != window.Forever {
		flags |= flagArmed
	}
	if p.facts.due != window.Forever {
		flags |= flagFacts
	}
	buf = append(buf, flags)
	if flags&flagArmed != 0 {
		buf = binary.AppendVarint(buf, p.armed-p.asOf)
	}
	if flags&flagFacts != 0 {
		buf = binary.AppendVarint(buf, p.facts.due-p.asOf)
	}
	buf = appendBits(buf, p.members)
	for i := range p.program.Leaves {
		if p.remembers(i) {
			buf = p.appendLeaf(buf, i)
		}
	}
	return buf
}

// remembers reports whether a leaf differs from that of a profile of which nothing is known.
func (p *Person) remembers(leaf int) bool {
	return p.answers[leaf].Holds != p.program.Leaves[leaf].Default || !p.work[leaf].data.Empty()
}

func (p *Person) appendLeaf(buf []byte, i int) []byte {
	answer, data := p.answers[i], &p.work[i].data
	buf = binary.BigEndian.AppendUint64(buf, p.program.Leaves[i].ID)
	var flags byte
	if answer.Holds {
		flags |= flagHolds
	}
	if answer.Since != window.Never {
		flags |= flagSince
	}
	if len(data.Second) > 0 {
		flags |= flagSecond
	}
	buf = append(buf, flags)
	if flags&flagSince != 0 {
		buf = binary.AppendVarint(buf, answer.Since-p.asOf)
	}
	buf = appendStamps(buf, data.First, p.asOf)
	if flags&flagSecond != 0 {
		buf = appendStamps(buf, data.Second, p.asOf)
	}
	return buf
}

func appendStamps(buf []byte, stamps window.Stamps, base int64) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(stamps)))
	for i, t := range stamps {
		if i == 0 {
			buf = binary.AppendVarint(buf, t-base)
			continue
		}
		buf = binary.AppendUvarint(buf, uint64(t-stamps[i-1])) // ascending
	}
	return buf
}

func appendBits(buf []byte, bits []bool) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(bits)))
	var b byte
	for i, set := range bits {
		if set {
			b |= 1 << (i % 8)
		}
		if i%8 == 7 || i == len(bits)-1 {
			buf = append(buf, b)
			b = 0
		}
	}
	return buf
}

// decodeAnswers reads the answers entry and returns the revision of the program that wrote it. Leaves
// that the program does not have are passed over; members count only if the revision is the program's.
func (p *Person) decodeAnswers(raw []byte) (uint64, error) {
	r := reader{rest: raw}
	r.format()
	revision := r.fixed64()
	p.asOf = r.instant(0)
	p.first = r.instant(p.asOf)
	flags := r.byte()
	if flags&flagArmed != 0 {
		p.armed = r.instant(p.asOf)
	}
	if flags&flagFacts != 0 {
		p.facts.due = r.instant(p.asOf)
	}
	r.bits(p.members, revision == p.program.Revision)
	at, last := 0, uint64(0)
	var scratch leafWork
	for first := true; len(r.rest) > 0 && r.err == nil; first = false {
		id := r.fixed64()
		if !first && id <= last {
			r.fail(errOrder)
		}
		last = id
		for at < len(p.program.Leaves) && p.program.Leaves[at].ID < id {
			at++
		}
		if at == len(p.program.Leaves) || p.program.Leaves[at].ID != id {
			r.leaf(&scratch, p.asOf)
			continue
		}
		if p.program.Leaves[at].Kind == condition.Where {
			p.answers[at] = r.leaf(&scratch, p.asOf)
			continue
		}
		work := &p.work[at]
		p.answers[at] = r.leaf(work, p.asOf)
		p.activate(int32(at)) // bounded by the size of definitions
	}
	return revision, r.err
}

// leaf reads the data of one leaf into work and returns its answer.
func (r *reader) leaf(work *leafWork, base int64) condition.Answer {
	flags := r.byte()
	answer := condition.Answer{Holds: flags&flagHolds != 0, Since: window.Never}
	if flags&flagSince != 0 {
		answer.Since = r.instant(base)
	}
	work.data.First = r.stamps(work.data.First[:0], base)
	work.data.Second = work.data.Second[:0]
	if flags&flagSecond != 0 {
		work.data.Second = r.stamps(work.data.Second, base)
	}
	return answer
}

func (r *reader) stamps(into window.Stamps, base int64) window.Stamps {
	n := r.length()
	for i := range n {
		if i == 0 {
			into = append(into, r.instant(base))
			continue
		}
		delta := r.uvarint()
		if delta > uint64(2*maxInstant) {
			r.fail(errRange)
		}
		if r.err != nil {
			return into[:0]
		}
		into = append(into, r.check(into[len(into)-1]+int64(delta))) // checked above
	}
	return into
}

// bits reads members if they are meant for it, else passes over them.
func (r *reader) bits(members []bool, wanted bool) {
	n := r.uvarint()
	if n > uint64(len(r.rest))*8 {
		r.fail(errTruncated)
		return
	}
	raw := r.take(int(n+7) / 8) // bounded by the length of the entry
	if !wanted || r.err != nil {
		return
	}
	if int(n) != len(members) { // bounded by the length of the entry
		r.fail(errRange)
		return
	}
	for i := range members {
		members[i] = raw[i/8]&(1<<(i%8)) != 0
	}
}

func encodeMembers(buf []byte, entries []membership) []byte {
	buf = append(buf, format)
	for _, m := range entries {
		buf = binary.AppendUvarint(buf, uint64(len(m.segment)))
		buf = append(buf, m.segment...)
		var flags byte
		if m.in {
			flags = flagHolds
		}
		buf = append(buf, flags)
		buf = binary.AppendVarint(buf, m.version)
		buf = binary.AppendVarint(buf, m.at)
	}
	return buf
}

func decodeMembers(raw []byte) ([]membership, error) {
	r := reader{rest: raw}
	r.format()
	var entries []membership
	for len(r.rest) > 0 && r.err == nil {
		m := membership{segment: string(r.bytes())}
		m.in = r.byte()&flagHolds != 0
		m.version = r.varint()
		m.at = r.instant(0)
		if n := len(entries); n > 0 && entries[n-1].segment >= m.segment {
			r.fail(errOrder)
		}
		entries = append(entries, m)
	}
	if r.err != nil {
		return nil, fmt.Errorf("decoding memberships: %w", r.err)
	}
	return entries, nil
}

func (f *facts) encode() ([]byte, error) {
	buf := []byte{format}
	raw, err := f.profile.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encoding traits: %w", err)
	}
	buf = append(binary.AppendUvarint(buf, uint64(len(raw))), raw...)
	for _, ev := range f.pending {
		if raw, err = ev.MarshalVT(); err != nil {
			return nil, fmt.Errorf("encoding a statement: %w", err)
		}
		buf = append(binary.AppendUvarint(buf, uint64(len(raw))), raw...)
	}
	return buf, nil
}

func (f *facts) decode(raw []byte) error {
	r := reader{rest: raw}
	r.format()
	profile := &profilev1.Profile{}
	if body := r.bytes(); r.err == nil {
		r.err = profile.UnmarshalVT(body)
	}
	var pending []*profilev1.ResolvedEvent
	for len(r.rest) > 0 && r.err == nil {
		ev := &profilev1.ResolvedEvent{}
		if body := r.bytes(); r.err == nil {
			r.err = ev.UnmarshalVT(body)
		}
		r.check(ev.GetEvent().GetTimestampMs())
		pending = append(pending, ev)
	}
	if r.err != nil {
		return r.err
	}
	f.profile, f.pending = profile, pending
	f.schedule()
	return nil
}

func encodeMerge(m Merge) []byte {
	buf := binary.AppendVarint([]byte{format}, m.AtMs)
	return append(buf, m.ID...)
}

func decodeMerge(raw []byte) (Merge, error) {
	r := reader{rest: raw}
	r.format()
	m := Merge{AtMs: r.instant(0)}
	m.ID = string(r.rest)
	return m, r.err
}

// reader reads an entry; the first error stays and everything after it reads as zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = nil
}

func (r *reader) format() {
	if r.byte() != format {
		r.fail(errFormat)
	}
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.fail(errTruncated)
		return make([]byte, 8)[:min(n, 8)]
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) byte() byte      { return r.take(1)[0] }
func (r *reader) fixed64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// length reads the number of things that follow, each of at least a byte.
func (r *reader) length() int {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail(errTruncated)
		return 0
	}
	return int(n) // bounded by the length of the entry
}

func (r *reader) bytes() []byte { return r.take(r.length()) }

// instant reads a time relative to base.
func (r *reader) instant(base int64) int64 {
	v := r.varint()
	if v > 4*maxInstant || v < -4*maxInstant {
		r.fail(errRange)
		return 0
	}
	return r.check(base + v)
}

func (r *reader) check(t int64) int64 {
	if t > 2*maxInstant || t < -2*maxInstant {
		r.fail(errRange)
		return 0
	}
	return t
}
