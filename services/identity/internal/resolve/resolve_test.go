package resolve_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	"github.com/sillage-cdp/sillage/services/identity/internal/envelope"
	"github.com/sillage-cdp/sillage/services/identity/internal/memstate"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
	"github.com/sillage-cdp/sillage/services/identity/internal/profileid"
	"github.com/sillage-cdp/sillage/services/identity/internal/resolve"
)

const (
	tenant = "acme"
	window = 7 * 24 * time.Hour
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type fixed struct{ pol *policy.Policy }

func (f *fixed) For(string) *policy.Policy { return f.pol }

// bench is one anchor with its resolver.
type bench struct {
	t        testing.TB
	core     *resolve.Resolver
	policies *fixed
	st       *memstate.State
	anchor   policy.Identifier
	now      time.Time
}

func newBench(t testing.TB, anchor string) *bench {
	policies := &fixed{pol: policy.Compile(nil)}
	cfg := resolve.Config{DedupWindow: window, MaxHeld: 3, MaxHeldBytes: 1000, AskAgain: 30 * time.Second}
	return &bench{t: t, core: resolve.New(cfg, policies), policies: policies, st: memstate.New(), anchor: parse(anchor), now: start}
}

func parse(short string) policy.Identifier {
	namespaces := map[byte]string{'u': "user_id", 'e': "email", 'a': "anonymous_id", 'd': "device", 'p': "profile_id", 'g': "group_id"}
	return policy.Identifier{Namespace: namespaces[short[0]], Value: short}
}

func (b *bench) key() []byte { return []byte(tenant + "/" + b.anchor.String()) }

// message builds an event of the anchor with further identifiers.
func (b *bench) message(id, others string) *eventv1.Event {
	event := &eventv1.Event{
		MessageId: id, Tenant: tenant, Source: "web", TimestampMs: b.now.UnixMilli(), ReceivedAtMs: b.now.UnixMilli(),
		Identifiers: []*eventv1.Identifier{{Namespace: b.anchor.Namespace, Value: b.anchor.Value}},
	}
	for other := range strings.FieldsSeq(others) {
		id := parse(other)
		event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: id.Namespace, Value: id.Value})
	}
	return event
}

func (b *bench) send(event *eventv1.Event) (resolve.Decision, error) {
	raw, err := event.MarshalVT()
	require.NoError(b.t, err)
	return b.core.Event(b.st, b.now, b.key(), raw)
}

func (b *bench) event(id, others string) resolve.Decision {
	d, err := b.send(b.message(id, others))
	require.NoError(b.t, err)
	return d
}

func (b *bench) answer(messageID, profile, eventProfile, linked string) resolve.Decision {
	answer := resolve.Answer{Tenant: tenant, Anchor: b.anchor, ProfileID: profile, EventProfileID: eventProfile, MessageID: messageID}
	for other := range strings.FieldsSeq(linked) {
		answer.Linked = append(answer.Linked, parse(other))
	}
	d, err := b.core.Answer(b.st, b.now, b.key(), answer)
	require.NoError(b.t, err)
	return d
}

// fire moves the clock to a timer and fires it.
func (b *bench) fire(id string) resolve.Decision {
	timer, ok := b.st.Timers[id]
	require.True(b.t, ok, "timer %q is not set", id)
	delete(b.st.Timers, id)
	if timer.Due.After(b.now) {
		b.now = timer.Due
	}
	d, err := b.core.Timer(b.st, b.now, id, timer.Payload)
	require.NoError(b.t, err)
	return d
}

// show writes a decision on one line: what was emitted, asked, noted.
func show(t testing.TB, d resolve.Decision) string {
	var parts []string
	for _, e := range d.Emits {
		var h envelope.Header
		require.NoError(t, envelope.Read(e.Event, &h))
		line := h.MessageID + ">" + e.ProfileID
		for _, id := range e.New {
			line += "+" + id.Value
		}
		parts = append(parts, line)
	}
	if d.Ask != nil {
		line := "ask " + d.Ask.MessageID + "/" + d.Ask.AnchorProfile
		for _, id := range d.Ask.Identifiers {
			line += " " + id.Value
		}
		parts = append(parts, line)
	}
	if d.Note.Fate != resolve.Passed {
		parts = append(parts, fmt.Sprintf("note %d %s", d.Note.Fate, d.Note.MessageID))
	}
	return strings.Join(parts, "; ")
}

func TestEvents(t *testing.T) {
	pa1 := profileid.Derive(tenant, "anonymous_id", "a1")
	// Each step is an event `id: others` or an answer `= id profile[/event profile]: linked`, and what comes of it.
	cases := []struct {
		name, anchor string
		steps        [][2]string
	}{
		{"an anonymous visitor needs nobody", "a1", [][2]string{
			{"m1:", "m1>" + pa1 + "+a1"}, {"m2:", "m2>" + pa1}, {"m3: g1", "m3>" + pa1}, {"m4: p1", "m4>" + pa1},
		}},
		{"a login asks once", "a1", [][2]string{
			{"m1:", "m1>" + pa1 + "+a1"}, {"m2: u1", "ask m2/" + pa1 + " a1 u1"}, {"= m2 " + pa1 + ": u1", "m2>" + pa1 + "+u1"},
			{"m3: u1", "m3>" + pa1}, {"m4:", "m4>" + pa1},
		}},
		{"a login that merges", "a1", [][2]string{
			{"m1:", "m1>" + pa1 + "+a1"}, {"m2: u1", "ask m2/" + pa1 + " a1 u1"}, {"= m2 P: u1", "m2>P+a1+u1"}, {"m3:", "m3>P"},
		}},
		{"the first event is a login", "a1", [][2]string{
			{"m1: u1", "ask m1/ a1 u1"}, {"= m1 P: u1", "m1>P+a1+u1"}, {"m2:", "m2>P"},
		}},
		{"a user id asks once though it comes alone", "u1", [][2]string{
			{"m1:", "ask m1/ u1"}, {"= m1 P:", "m1>P+u1"}, {"m2:", "m2>P"},
		}},
		{"a device asks once though it comes alone", "d1", [][2]string{{"m1:", "ask m1/ d1"}, {"= m1 P:", "m1>P+d1"}}},
		{"a merge elsewhere moves the anchor", "a1", [][2]string{
			{"m1:", "m1>" + pa1 + "+a1"}, {"=  P:", ""}, {"m2:", "m2>P+a1"}, {"m3:", "m3>P"},
		}},
		{"an anchor that is told of its profile before its first event", "a1", [][2]string{{"=  P:", ""}, {"m1:", "m1>P+a1"}}},
		{"a shared device asks at each change of hands", "a1", [][2]string{
			{"m1: u1", "ask m1/ a1 u1"}, {"= m1 P: u1", "m1>P+a1+u1"},
			{"m2: u2", "ask m2/P a1 u2"}, {"= m2 Q: u2", "m2>Q+a1+u2"}, {"m3:", "m3>Q"}, {"m4: u2", "m4>Q"},
			{"m5: u1", "ask m5/Q a1 u1"}, {"= m5 P: u1", "m5>P+a1+u1"}, {"m6:", "m6>P"},
		}},
		{"a refused link is remembered for that set alone", "a1", [][2]string{
			{"m1: u1 e2", "ask m1/ a1 u1 e2"}, {"= m1 P: u1", "m1>P+a1+u1"}, {"m2: e2 u1", "m2>P"},
			{"m3: e2", "ask m3/P a1 e2"}, {"= m3 Q: e2", "m3>Q+a1+e2"},
		}},
		{"an anchor at its limit: the event is the person's, the anchor its own", "a1", [][2]string{
			{"m1: u1", "ask m1/ a1 u1"}, {"= m1 A/P: u1", "m1>P+u1"}, {"m2:", "m2>A+a1"}, {"m3: u1", "m3>P"}, {"m4:", "m4>A"},
		}},
		{"two identifiers linked one by one are linked together", "a1", [][2]string{
			{"m1: u1", "ask m1/ a1 u1"}, {"= m1 P: u1", "m1>P+a1+u1"}, {"m2: e1", "ask m2/P a1 e1"}, {"= m2 P: e1", "m2>P+e1"},
			{"m3: e1 u1", "m3>P"},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.anchor)
			for i, step := range c.steps {
				var d resolve.Decision
				head, others, _ := strings.Cut(step[0], ":")
				if answer, ok := strings.CutPrefix(head, "= "); ok {
					id, profiles, _ := strings.Cut(answer, " ")
					own, event, _ := strings.Cut(profiles, "/")
					d = b.answer(id, own, event, others)
				} else {
					d = b.event(head, others)
				}
				require.Equal(t, step[1], show(t, d), "step %d: %s", i, step[0])
			}
			require.NotContains(t, b.st.Timers, "ask")
			require.Zero(t, b.st.Count("h/"))
		})
	}
}

func TestHolding(t *testing.T) {
	b := newBench(t, "a1")
	pa1 := profileid.Derive(tenant, "anonymous_id", "a1")
	require.Equal(t, "ask m1/ a1 u1", show(t, b.event("m1", "u1")))
	require.Empty(t, show(t, b.event("m2", "")))
	require.Empty(t, show(t, b.event("m3", "e1")))
	require.Equal(t, "note 1 m2", show(t, b.event("m2", "")), "a duplicate of an event that waits")

	_, err := b.send(b.message("m4", ""))
	require.ErrorIs(t, err, resolve.ErrHeldFull)

	require.Empty(t, show(t, b.answer("", "X", "", "")), "a merge elsewhere does not let them go")
	require.Equal(t, "m1>P+a1+u1; m2>P; ask m3/P a1 e1", show(t, b.answer("m1", "P", "", "u1")))
	require.Empty(t, show(t, b.answer("m1", "P", "", "u1")), "an answer that comes twice")
	require.Equal(t, "m3>P+e1", show(t, b.answer("m3", "P", "", "e1")))
	require.Zero(t, b.st.Count("h/"))
	require.NotEqual(t, "P", pa1)
}

func TestHeldBytesAreBounded(t *testing.T) {
	b := newBench(t, "a1")
	b.event("m1", "u1")
	event := b.message("m2", "")
	event.Properties = make([]byte, 1000)
	_, err := b.send(event)
	require.ErrorIs(t, err, resolve.ErrHeldFull)
}

func TestQuestionIsRepeated(t *testing.T) {
	b := newBench(t, "u1")
	require.Equal(t, "ask m1/ u1 e1", show(t, b.event("m1", "e1")))
	for _, pause := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
		require.Equal(t, b.now.Add(pause), b.st.Timers["ask"].Due)
		require.Equal(t, "ask m1/ u1 e1", show(t, b.fire("ask")))
	}
	for range 20 {
		b.fire("ask")
	}
	require.Equal(t, b.now.Add(time.Hour), b.st.Timers["ask"].Due)
	require.Equal(t, "m1>P+u1+e1", show(t, b.answer("m1", "P", "", "e1")))
	require.NotContains(t, b.st.Timers, "ask")
}

func TestAlias(t *testing.T) {
	alias := func(b *bench, previous string, others string) resolve.Decision {
		event := b.message("m1", others)
		event.Type, event.PreviousId = eventv1.EventType_EVENT_TYPE_ALIAS, previous
		d, err := b.send(event)
		require.NoError(t, err)
		return d
	}
	require.Equal(t, "ask m1/ u1 a9", show(t, alias(newBench(t, "u1"), "a9", "")))
	b := newBench(t, "u1")
	require.Equal(t, policy.AnonymousID, alias(b, "old", "").Ask.Identifiers[1].Namespace)
	require.Equal(t, "ask m1/ u1 e1", show(t, alias(newBench(t, "u1"), "e1", "e1")), "the previous id stands among the identifiers")
	require.Equal(t, "ask m1/ u1", show(t, alias(newBench(t, "u1"), "u1", "")), "an alias of itself")
	require.Equal(t, "ask m1/ u1", show(t, alias(newBench(t, "u1"), "null", "")))
}

func TestAnonymousIDThatEchoesTheUserIDIsNoLink(t *testing.T) {
	b := newBench(t, "u1")
	event := b.message("m1", "")
	event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: "anonymous_id", Value: "u1"})
	d, err := b.send(event)
	require.NoError(t, err)
	require.Equal(t, "ask m1/ u1", show(t, d))
}

func TestInternalEventsGoStraightThrough(t *testing.T) {
	b := newBench(t, "p1")
	event := b.message("m1", "")
	event.Internal = true
	d, err := b.send(event)
	require.NoError(t, err)
	require.Equal(t, "m1>p1", show(t, d))
	d, err = b.send(event)
	require.NoError(t, err)
	require.Equal(t, "note 1 m1", show(t, d))

	require.Equal(t, "note 2 m2", show(t, b.event("m2", "")), "a producer may not address a profile")
}

func TestRefusedAnchor(t *testing.T) {
	b := newBench(t, "a1")
	b.policies.pol = policy.Compile(&definitionv1.IdentityPolicy{RefusedValues: []string{"A1"}})
	require.Equal(t, "note 2 m1", show(t, b.event("m1", "u1")))
	require.Zero(t, b.st.Len(), "a value that everybody sends leaves no state")
}

func TestPolicyChangeForgetsRefusals(t *testing.T) {
	b := newBench(t, "a1")
	b.event("m1", "u1 e2")
	b.answer("m1", "P", "", "u1")
	require.Equal(t, "m2>P", show(t, b.event("m2", "u1 e2")))
	b.policies.pol = policy.Compile(&definitionv1.IdentityPolicy{Namespaces: []*definitionv1.Namespace{{Name: "user_id", Limit: 2, Known: true}}})
	require.Equal(t, "ask m3/P a1 u1 e2", show(t, b.event("m3", "u1 e2")))
}

func TestDuplicates(t *testing.T) {
	t.Run("the window is exact and begins with the first arrival", func(t *testing.T) {
		b := newBench(t, "a1")
		require.Len(t, b.event("m1", "").Emits, 1)
		b.now = start.Add(window - time.Millisecond)
		require.Equal(t, "note 1 m1", show(t, b.event("m1", "")))
		b.now = start.Add(window)
		require.Len(t, b.event("m1", "").Emits, 1, "after the window it is a new event")
		b.now = b.now.Add(window - time.Millisecond)
		require.Equal(t, "note 1 m1", show(t, b.event("m1", "")))
	})
	t.Run("a clock that goes back makes nothing new", func(t *testing.T) {
		b := newBench(t, "a1")
		b.event("m1", "")
		b.now = start.Add(-time.Hour)
		require.Equal(t, "note 1 m1", show(t, b.event("m1", "")))
	})
	t.Run("ids are forgotten after the window and not before", func(t *testing.T) {
		b := newBench(t, "a1")
		for i := range 200 {
			b.now = start.Add(time.Duration(i) * time.Hour)
			b.event(fmt.Sprintf("m%d", i), "")
		}
		fired := 0
		for ; len(b.st.Timers) > 0; fired++ {
			b.fire("d")
			live := 0
			for i := range 200 {
				if start.Add(time.Duration(i)*time.Hour + window).After(b.now) {
					live++
				}
			}
			require.Equal(t, live, b.st.Count("d/"))
		}
		require.Zero(t, b.st.Count("d/"))
		require.Less(t, fired, 20, "once a day at most")
		b.event("again", "")
		require.Contains(t, b.st.Timers, "d")
	})
}

func TestLargeAnchorsAreSweptInBoundedSteps(t *testing.T) {
	b := newBench(t, "a1")
	const ids = 9_000
	for i := range ids {
		b.now = start.Add(time.Duration(i/3_000) * 72 * time.Hour)
		b.event(fmt.Sprintf("m%d", i), "")
	}
	for before := ids; b.st.Count("d/") > 0; {
		due := b.st.Timers["d"].Due
		b.fire("d")
		after := b.st.Count("d/")
		require.LessOrEqual(t, before-after, 4096+200, "one step at %s", due)
		before = after
	}
	require.NotContains(t, b.st.Timers, "d")
}

func TestBadRecords(t *testing.T) {
	b := newBench(t, "a1")
	_, err := b.core.Event(b.st, b.now, b.key(), []byte{0xff})
	require.Error(t, err)

	event := b.message("", "")
	_, err = b.send(event)
	require.ErrorContains(t, err, "message_id")
	_, err = b.send(b.message(strings.Repeat("x", envelope.MaxMessageID+1), ""))
	require.ErrorContains(t, err, "message_id")

	for _, key := range []string{"", "acme", "acme/", "acme/anonymous_id:a2", "acme/anonymous_id:a11", "other/anonymous_id:a1", "acme/user_id:a1"} {
		raw, err := b.message("m1", "").MarshalVT()
		require.NoError(t, err)
		_, err = b.core.Event(b.st, b.now, []byte(key), raw)
		require.ErrorIs(t, err, resolve.ErrKey, "key %q", key)
	}
	event = b.message("m1", "")
	event.Identifiers = nil
	_, err = b.send(event)
	require.ErrorContains(t, err, "identifiers")

	_, err = b.core.Answer(b.st, b.now, b.key(), resolve.Answer{Tenant: tenant, Anchor: b.anchor})
	require.ErrorContains(t, err, "profile_id")
	_, err = b.core.Answer(b.st, b.now, b.key(), resolve.Answer{Tenant: tenant, Anchor: parse("a2"), ProfileID: "P"})
	require.ErrorIs(t, err, resolve.ErrKey)
	require.Zero(t, b.st.Len())
}

func TestCorruptStateIsAnError(t *testing.T) {
	b := newBench(t, "a1")
	b.event("m1", "")
	b.st.Put("a", []byte{1})
	_, err := b.send(b.message("m2", ""))
	require.ErrorContains(t, err, "decoding the anchor's record")
}

func BenchmarkKnownAnchor(b *testing.B) {
	s := newBench(b, "a1")
	s.event("m1", "u1")
	s.answer("m1", "P", "", "u1")
	event := s.message("0000000000", "u1")
	event.Properties = []byte(`{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","price":18.99}`)
	event.Context = []byte(`{"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","locale":"fr-FR"}`)
	raw, err := event.MarshalVT()
	require.NoError(b, err)
	key := s.key()
	var out []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		copy(raw[2:12], fmt.Sprintf("%010d", i)) // a new message id in place: the first field
		d, err := s.core.Event(s.st, s.now, key, raw)
		if err != nil {
			b.Fatal(err)
		}
		if len(d.Emits) != 1 {
			b.Fatal("the event did not pass")
		}
		for _, e := range d.Emits {
			out = envelope.Wrap(out[:0], e)
		}
	}
}
