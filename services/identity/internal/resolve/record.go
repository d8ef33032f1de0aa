package resolve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// recordName is the state name of an anchor's record.
const recordName = "a"

// Bounds of what an anchor remembers; what is forgotten is asked again.
const (
	maxLinked = 64
	maxRoutes = 32
)

// record is what is remembered of an anchor besides its message ids and the events that wait.
type record struct {
	// profile is the anchor's; empty until it has one.
	profile string
	// sinceMs is the time of the first event.
	sinceMs int64
	// fresh is true until an event has told the profile of the anchor.
	fresh bool
	// sweeping is true while a timer is set to forget message ids.
	sweeping bool
	// pending is the message id of the open question, tries how often it was asked.
	pending string
	tries   uint64
	// Events head to tail-1 wait, heldBytes in all.
	head, tail uint64
	heldBytes  uint64
	// linked are identifiers (as `namespace:value`) of the same profile, oldest first.
	linked []string
	// routes are sets of identifiers that were decided under the policy of fingerprint, oldest first.
	fingerprint uint64
	routes      []route
}

// route is the decision on one set of identifiers that the policy did not link as a whole.
type route struct {
	set setHash
	// profile gets events with that set; empty: the anchor's own.
	profile string
}

// setHash names a set of identifiers; 128 bits of SHA-256.
type setHash [16]byte

const (
	recordVersion = 1
	flagFresh     = 1 << 0
	flagSweeping  = 1 << 1
	flagsAll      = flagFresh | flagSweeping
)

func (r *record) append(b []byte) []byte {
	flags := byte(0)
	if r.fresh {
		flags |= flagFresh
	}
	if r.sweeping {
		flags |= flagSweeping
	}
	b = append(b, recordVersion, flags)
	b = appendText(b, r.profile)
	b = binary.AppendVarint(b, r.sinceMs)
	b = appendText(b, r.pending)
	for _, n := range [4]uint64{r.tries, r.head, r.tail, r.heldBytes} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(r.linked)))
	for _, id := range r.linked {
		b = appendText(b, id)
	}
	b = binary.AppendUvarint(b, uint64(len(r.routes)))
	if len(r.routes) == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint64(b, r.fingerprint)
	for _, rt := range r.routes {
		b = appendText(append(b, rt.set[:]...), rt.profile)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Errors of parseRecord.
var (
	errTruncated = errors.New("truncated")
	errTrailing  = errors.New("bytes are left over")
	errFlags     = errors.New("unknown flags")
	errTooMany   = errors.New("more entries than an anchor may have")
	errHeldRange = errors.New("the waiting events end before they begin")
)

// parseRecord is the inverse of append. It refuses what append does not write.
func parseRecord(b []byte) (record, error) {
	var r record
	d := decoder{rest: b}
	if version := d.byte(); d.err == nil && version != recordVersion {
		return r, fmt.Errorf("decoding the anchor's record: version %d, want %d", version, recordVersion)
	}
	flags := d.byte()
	if flags&^flagsAll != 0 {
		d.fail(errFlags)
	}
	r.fresh, r.sweeping = flags&flagFresh != 0, flags&flagSweeping != 0
	r.profile = d.text()
	r.sinceMs = d.varint()
	r.pending = d.text()
	for _, n := range [4]*uint64{&r.tries, &r.head, &r.tail, &r.heldBytes} {
		*n = d.uvarint()
	}
	if r.tail < r.head {
		d.fail(errHeldRange)
	}
	for range d.count(maxLinked) {
		r.linked = append(r.linked, d.text())
	}
	if n := d.count(maxRoutes); n > 0 {
		r.fingerprint = binary.BigEndian.Uint64(d.bytes(8))
		for range n {
			r.routes = append(r.routes, route{set: setHash(d.bytes(16)), profile: d.text()})
		}
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail(errTrailing)
	}
	if d.err != nil {
		return record{}, fmt.Errorf("decoding the anchor's record: %w", d.err)
	}
	return r, nil
}

// decoder reads fields until the first error; after it every field is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

func (d *decoder) byte() byte { return d.bytes(1)[0] }

// bytes always returns n bytes, zeros after an error; n is small and fixed, or was checked against rest.
func (d *decoder) bytes(n int) []byte {
	if len(d.rest) < n {
		d.fail(errTruncated)
		return make([]byte, n)
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail(errTruncated)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail(errTruncated)
		return ""
	}
	return string(d.bytes(int(n)))
}

func (d *decoder) count(limit int) int {
	n := d.uvarint()
	if n > uint64(limit) {
		d.fail(errTooMany)
		return 0
	}
	return int(n)
}

func (r *record) held() uint64 { return r.tail - r.head }

func (r *record) isLinked(id string) bool { return slices.Contains(r.linked, id) }

func (r *record) link(id string) {
	if r.isLinked(id) {
		return
	}
	if len(r.linked) == maxLinked {
		r.linked = slices.Delete(r.linked, 0, 1)
	}
	r.linked = append(r.linked, id)
}

// routeOf returns the decision on a set, and whether there is one under the given policy.
func (r *record) routeOf(set setHash, fingerprint uint64) (profile string, ok bool) {
	if r.fingerprint != fingerprint {
		return "", false
	}
	for i := range r.routes {
		if r.routes[i].set == set {
			return r.routes[i].profile, true
		}
	}
	return "", false
}

func (r *record) addRoute(rt route, fingerprint uint64) {
	if r.fingerprint != fingerprint {
		r.fingerprint, r.routes = fingerprint, nil
	}
	r.routes = slices.DeleteFunc(r.routes, func(have route) bool { return have.set == rt.set })
	if len(r.routes) == maxRoutes {
		r.routes = slices.Delete(r.routes, 0, 1)
	}
	r.routes = append(r.routes, rt)
}

// moveTo gives the anchor another profile. What was known held under the former one.
func (r *record) moveTo(profile string) {
	if r.profile == profile {
		return
	}
	r.profile, r.fresh = profile, true
	r.linked, r.routes = nil, nil
}
