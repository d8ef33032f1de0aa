package profile_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sillage-cdp/sillage/pkg/profile"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

// anyEvent draws from few names, values and times, so that ties and overwriting are common.
func anyEvent() *rapid.Generator[*profilev1.ResolvedEvent] {
	return rapid.Custom(func(t *rapid.T) *profilev1.ResolvedEvent {
		name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "trait")
		value := rapid.SampledFrom([]string{"null", "1", "2", `"x"`}).Draw(t, "value")
		ev := &eventv1.Event{
			Tenant: "demo", Type: eventv1.EventType_EVENT_TYPE_IDENTIFY,
			TimestampMs: rapid.Int64Range(1, 6).Draw(t, "at"),
			Traits:      fmt.Appendf(nil, `{"%s":%s}`, name, value),
			Consent:     &eventv1.Consent{Purposes: map[string]bool{rapid.SampledFrom([]string{"m", "n"}).Draw(t, "purpose"): rapid.Bool().Draw(t, "granted")}},
			Internal:    rapid.IntRange(0, 5).Draw(t, "internal") == 0,
		}
		id := &eventv1.Identifier{Namespace: "email", Value: rapid.StringMatching(`[a-c]`).Draw(t, "email")}
		return &profilev1.ResolvedEvent{Event: ev, NewIdentifiers: []*eventv1.Identifier{id}}
	})
}

func anyProfile(id string) *rapid.Generator[*profilev1.Profile] {
	return rapid.Custom(func(t *rapid.T) *profilev1.Profile {
		p := fold(rapid.SliceOfN(anyEvent(), 0, 8).Draw(t, "events of "+id)...)
		p.Tenant, p.ProfileId = "demo", id
		return p
	})
}

// merged is dst with src merged into it; neither is changed.
func merged(dst, src *profilev1.Profile) *profilev1.Profile {
	out := dst.CloneVT()
	profile.Merge(out, src.CloneVT())
	return out
}

// same compares what is known, apart from whose profile it is.
func same(t *rapid.T, a, b *profilev1.Profile) {
	a, b = a.CloneVT(), b.CloneVT()
	for _, p := range []*profilev1.Profile{a, b} {
		p.Absorbed = append(p.Absorbed, p.ProfileId)
		p.ProfileId = ""
	}
	require.ElementsMatch(t, a.Absorbed, b.Absorbed)
	a.Absorbed, b.Absorbed = nil, nil
	require.True(t, a.EqualVT(b), "%v\n%v", a, b)
}

func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyProfile("a").Draw(t, "a"), anyProfile("b").Draw(t, "b"), anyProfile("c").Draw(t, "c")
		same(t, merged(a, b), merged(b, a))
		same(t, merged(merged(a, b), c), merged(a, merged(b, c)))
		require.True(t, merged(merged(a, b), b).EqualVT(merged(a, b)), "merging again changes nothing")
		require.True(t, merged(a, a).EqualVT(a))
		require.True(t, merged(a, nil).EqualVT(a))
	})
}

func TestFoldingInAnyOrderAndOverAnyMergeGivesTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(anyEvent(), 0, 10).Draw(t, "events")
		whole := fold(events...)
		shuffled := fold(rapid.Permutation(events).Draw(t, "shuffled")...)
		require.True(t, whole.EqualVT(shuffled), "%v\n%v", whole, shuffled)

		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		left, right := fold(events[:cut]...), fold(events[cut:]...)
		left.ProfileId, right.ProfileId = "left", "right"
		whole.ProfileId, whole.Absorbed = "left", []string{"right"}
		if len(events) == 0 {
			return
		}
		joined := merged(left, right)
		require.True(t, whole.EqualVT(joined), "%v\n%v", whole, joined)
	})
}

// TestTraitsAgreeWithAnOracle keeps every value ever stated and looks for the winner.
func TestTraitsAgreeWithAnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(anyEvent(), 0, 20).Draw(t, "events")
		got := fold(events...)
		for _, name := range []string{"a", "b", "c"} {
			var at int64
			var value string
			stated := false
			for _, ev := range events {
				var this string
				if n, err := fmt.Sscanf(string(ev.GetEvent().GetTraits()), `{"`+name+`":%s`, &this); n != 1 || err != nil || ev.GetEvent().GetInternal() {
					continue
				}
				if this = this[:len(this)-1]; this == "null" {
					this = ""
				}
				when := ev.GetEvent().GetTimestampMs()
				if !stated || when > at || (when == at && this > value) {
					at, value, stated = when, this, true
				}
			}
			trait, have := got.GetTraits()[name]
			require.Equal(t, stated, have)
			require.Equal(t, value, string(trait.GetJson()))
			require.Equal(t, at, trait.GetAtMs())
		}
	})
}
