package evaluate

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/sillage-cdp/sillage/services/scoring/internal/heat"
	"github.com/sillage-cdp/sillage/services/scoring/internal/program"
	"github.com/sillage-cdp/sillage/services/scoring/internal/rfm"
)

// format is the first byte of every entry.
const format = 1

// Flags of the entry, of a score and of a deal.
const (
	flagArmed  = 1
	flagTold   = 1
	flagRefund = 1
	flagLast   = 2
)

var (
	errTruncated = errors.New("the entry ends too early")
	errFormat    = errors.New("the entry has a format that this version does not know")
	errRange     = errors.New("a number is out of range")
	errOrder     = errors.New("entries are out of order")
)

// encode writes the state: format, revision, asOf, flags, [armed], then each score with its name, ID,
// kind, flags, what was told and its own state, all times relative to asOf.
func (p *Person) encode(buf []byte) []byte {
	buf = append(buf, format)
	buf = binary.BigEndian.AppendUint64(buf, p.program.Revision)
	buf = binary.AppendVarint(buf, p.asOf)
	if p.armed == Forever {
		buf = append(buf, 0)
	} else {
		buf = binary.AppendVarint(append(buf, flagArmed), p.armed-p.asOf)
	}
	for i := range p.entries {
		buf = p.entries[i].encode(buf, p.asOf)
	}
	return buf
}

func (e *entry) encode(buf []byte, base int64) []byte {
	buf = appendText(buf, e.name)
	buf = binary.BigEndian.AppendUint64(buf, e.id)
	buf = append(buf, byte(e.kind))
	if e.told {
		buf = append(buf, flagTold)
		buf = binary.AppendVarint(buf, e.version)
		buf = appendFloat(buf, e.value)
		buf = appendText(buf, e.label)
	} else {
		buf = append(buf, 0)
	}
	if e.kind == program.Heat {
		return appendHeat(buf, &e.heat, base)
	}
	return appendRfm(buf, &e.rfm, base)
}

func appendHeat(buf []byte, s *heat.State, base int64) []byte {
	buf = appendFloat(buf, s.Value)
	buf = binary.AppendVarint(buf, s.At-base)
	buf = binary.AppendUvarint(buf, uint64(len(s.Future)))
	for _, p := range s.Future {
		buf = binary.AppendVarint(buf, p.At-base)
		buf = appendFloat(buf, p.Points)
	}
	return buf
}

func appendRfm(buf []byte, s *rfm.State, base int64) []byte {
	buf = binary.AppendVarint(buf, s.At-base)
	buf = binary.AppendVarint(buf, s.Count)
	buf = binary.AppendVarint(buf, s.Sum)
	if s.Last == rfm.Never {
		buf = append(buf, 0)
	} else {
		buf = binary.AppendVarint(append(buf, flagLast), s.Last-base)
	}
	buf = binary.AppendUvarint(buf, uint64(len(s.Deals)))
	for i, d := range s.Deals {
		if i > 0 {
			base = s.Deals[i-1].At
		}
		var flags byte
		if d.Refund {
			flags = flagRefund
		}
		buf = binary.AppendVarint(append(buf, flags), d.At-base)
		buf = binary.AppendVarint(buf, d.Micros)
	}
	return buf
}

func appendFloat(buf []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(buf, math.Float64bits(v))
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

// decode reads the state and returns the revision of the program that wrote it.
func (p *Person) decode(raw []byte) (uint64, error) {
	r := reader{rest: raw}
	r.format()
	revision := r.fixed64()
	p.asOf = r.instant(0)
	p.armed = Forever
	if r.byte()&flagArmed != 0 {
		p.armed = r.instant(p.asOf)
	}
	for len(r.rest) > 0 && r.err == nil {
		e := r.entry(p.asOf)
		if n := len(p.entries); n > 0 && p.entries[n-1].name >= e.name {
			r.fail(errOrder)
		}
		p.entries = append(p.entries, e)
	}
	return revision, r.err
}

func (r *reader) entry(base int64) entry {
	e := entry{name: r.text(), id: r.fixed64(), kind: program.Kind(r.byte())}
	if e.told = r.byte()&flagTold != 0; e.told {
		e.version, e.value, e.label = r.varint(), r.float(), r.text()
	}
	e.rfm = rfm.NewState(base)
	switch e.kind {
	case program.Heat:
		e.heat = r.heat(base)
	case program.Rfm:
		e.rfm = r.rfm(base)
	default:
		r.fail(errRange)
	}
	return e
}

func (r *reader) heat(base int64) heat.State {
	s := heat.State{Value: r.float(), At: r.instant(base)}
	last := s.At
	for range r.length() {
		p := heat.Point{At: r.instant(base), Points: r.float()}
		if p.At < last {
			r.fail(errOrder)
		}
		if r.err != nil {
			return heat.State{}
		}
		last = p.At
		s.Future = append(s.Future, p)
	}
	return s
}

func (r *reader) rfm(base int64) rfm.State {
	s := rfm.NewState(r.instant(base))
	s.Count, s.Sum = r.varint(), r.varint()
	if r.byte()&flagLast != 0 {
		s.Last = r.instant(base)
	}
	for i := range r.length() {
		refund := r.byte()&flagRefund != 0
		at := r.instant(base)
		if i > 0 && at < base {
			r.fail(errOrder)
		}
		deal := rfm.Deal{At: at, Micros: r.varint(), Refund: refund}
		if r.err != nil {
			return rfm.NewState(0)
		}
		base = at
		s.Deals = append(s.Deals, deal)
	}
	return s
}

func encodeMerge(m Merge) []byte {
	return append(binary.AppendVarint([]byte{format}, m.AtMs), m.ID...)
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
func (r *reader) text() string    { return string(r.take(r.length())) }

// float reads a finite number.
func (r *reader) float() float64 {
	v := math.Float64frombits(r.fixed64())
	if math.IsNaN(v) || math.IsInf(v, 0) {
		r.fail(errRange)
		return 0
	}
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail(errTruncated)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// length reads the number of things that follow, each of at least a byte.
func (r *reader) length() int {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > uint64(len(r.rest)-n) {
		r.fail(errTruncated)
		return 0
	}
	r.rest = r.rest[n:]
	return int(v) // bounded by the length of the entry
}

// instant reads a time relative to base.
func (r *reader) instant(base int64) int64 {
	v := r.varint()
	if v > 4*maxInstant || v < -4*maxInstant || base+v > 2*maxInstant || base+v < -2*maxInstant {
		r.fail(errRange)
		return 0
	}
	return base + v
}
