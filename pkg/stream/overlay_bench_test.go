package stream

import (
	"fmt"
	"testing"
)

// BenchmarkWideKey changes 20,000 names of one key in a batch, in no order: an identity graph that stands
// under its tenant's key.
func BenchmarkWideKey(b *testing.B) {
	const names = 20_000
	keys := make([]string, names)
	for i := range keys {
		keys[i] = fmt.Sprintf("identifier/%08x", uint32(i)*2654435761)
	}
	value := []byte("2hQ7yVxZ0kD4sJ9mR1tB6nC3p00")
	o := newOverlay(newMemStore())
	b.ReportAllocs()
	for b.Loop() {
		k := o.bind([]byte("tenant"))
		for _, name := range keys {
			o.get(k, tableState, name)
			o.set(k, tableState, name, value)
			o.savepoint()
		}
		if got := len(o.changes(nil)); got != names {
			b.Fatalf("%d changes", got)
		}
		o.reset()
	}
}

// BenchmarkNarrowKeys changes three names of each of 5,000 keys in a batch: profiles.
func BenchmarkNarrowKeys(b *testing.B) {
	const profiles = 5000
	keys := make([][]byte, profiles)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "tenant/profile-%d", i)
	}
	value := []byte("2hQ7yVxZ0kD4sJ9mR1tB6nC3p00")
	o := newOverlay(newMemStore())
	b.ReportAllocs()
	for b.Loop() {
		for _, key := range keys {
			k := o.bind(key)
			for _, name := range [...]string{"p", "w/1", "a"} {
				o.get(k, tableState, name)
				o.set(k, tableState, name, value)
			}
			o.savepoint()
		}
		o.changes(nil)
		o.reset()
	}
}
