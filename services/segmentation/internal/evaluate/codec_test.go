package evaluate

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
)

func codecProgram(t testing.TB) *condition.Program {
	var defs []*definitionv1.Definition
	for i, name := range []string{"a", "b", "c", "d"} {
		defs = append(defs, segmentDefinition(name, 1, benchCondition(i)))
	}
	defs = append(defs, segmentDefinition("gold", 1, &definitionv1.Condition{Where: `traits.plan == "gold"`}))
	program := condition.Compile(defs)
	require.Empty(t, program.Broken)
	return program
}

// FuzzDecode feeds the decoders of all entries anything: they must refuse or read, and what they read
// must survive being evaluated, written and read again.
func FuzzDecode(f *testing.F) {
	program := codecProgram(f)
	b := newBench(f, program, "p", "q")
	b.now = 1_000_000
	for i, h := range []happening{
		newHappening("1", b.now, "view", ""), newHappening("2", b.now+5000, "view", ""), newHappening("3", b.now-7, "done", ""),
		newHappening("4", b.now, "", "gold"), newHappening("5", b.now+9000, "", "free"),
	} {
		b.send("p", h)
		if i == 4 {
			b.with("p", func(p *Person) error { return p.Leave(Merge{ID: "x", AtMs: b.now}) })
		}
		v := b.state["p"].values
		f.Add(v[entryAnswers], v[entryMembers], v[entryFacts], v[entryMerge])
	}
	f.Fuzz(func(t *testing.T, answers, members, facts, merge []byte) {
		fill := func() *entries {
			e := newEntries()
			for name, value := range map[string][]byte{entryAnswers: answers, entryMembers: members, entryFacts: facts, entryMerge: merge} {
				e.Put(name, value)
			}
			return e
		}
		store := fill()
		var p Person
		if p.Begin(program, store, 1_000_000) != nil {
			return
		}
		for _, h := range []happening{newHappening("6", 1_000_000, "view", ""), newHappening("7", 1_000_000, "", "gold")} {
			if p.Event(h.event) != nil {
				return
			}
			if _, err := p.Finish(); err != nil {
				return
			}
			require.NoError(t, p.Begin(program, store, 1_000_000), "what was written must be readable")
		}
		if p.Absorb(fill()) == nil {
			if _, err := p.Finish(); err == nil {
				require.NoError(t, p.Begin(program, store, 1_000_000))
			}
		}
	})
}

// TestUntouchedEventsWriteNothing asks that an event which no condition looks at costs no write.
func TestUntouchedEventsWriteNothing(t *testing.T) {
	b := newBench(t, codecProgram(t), "p")
	b.now = 1_000_000
	b.send("p", newHappening("1", b.now, "other", ""))
	require.Zero(t, b.state["p"].writes)
	b.send("p", newHappening("2", b.now, "view", ""))
	writes := b.state["p"].writes
	require.Equal(t, 1, writes, "one entry for windows and answers")
	b.now += 10
	b.send("p", newHappening("3", b.now, "other", ""))
	require.Equal(t, writes, b.state["p"].writes)
	b.send("p", newHappening("4", b.now, "view", ""))
	require.Equal(t, writes+1, b.state["p"].writes)
}

// TestFactsWaitForTheirTime states consent and a trait ahead of the clock, then an unsubscription.
func TestFactsWaitForTheirTime(t *testing.T) {
	program := condition.Compile([]*definitionv1.Definition{
		segmentDefinition("mailable", 1, &definitionv1.Condition{Where: `consents["channel:email"] && traits.plan == "gold"`}),
	})
	b := newBench(t, program, "p")
	b.now = 1_000_000
	stated := newHappening("1", b.now+5000, "", "gold")
	stated.event.Event.Consent = &eventv1.Consent{Purposes: map[string]bool{"channel:email": true}}
	require.Empty(t, b.send("p", stated))
	b.advance(b.now + 4999)
	require.Empty(t, b.told["p"])
	b.advance(b.now + 1)
	require.Len(t, b.told["p"], 1)
	require.Equal(t, int64(1_005_000), b.told["p"][0].AtMs)
	gone := &profilev1.ResolvedEvent{Event: &eventv1.Event{
		MessageId: "2", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Message Unsubscribed", Internal: true,
		Properties: []byte(`{"channel":"email"}`), TimestampMs: b.now,
	}}
	flips := b.with("p", func(p *Person) error { return p.Event(gone) })
	require.Len(t, flips, 1)
	require.False(t, flips[0].Entered)
	require.Equal(t, "2", flips[0].Cause.ID)
}

// TestLateEventsTellSince sends events long after they happened: the flip is told as of the moment it became true.
func TestLateEventsTellSince(t *testing.T) {
	started := &definitionv1.EventFilter{Event: "view"}
	program := condition.Compile([]*definitionv1.Definition{
		segmentDefinition("left", 1, &definitionv1.Condition{Abandoned: &definitionv1.Abandoned{
			Started: started, Finished: &definitionv1.EventFilter{Event: "done"}, Within: "45m",
		}}),
	})
	const minute = 60_000
	b := newBench(t, program, "p")
	b.now = 1000 * minute
	b.send("p", newHappening("1", b.now-400*minute, "done", ""))
	flips := b.send("p", newHappening("2", b.now-300*minute, "view", ""))
	require.Len(t, flips, 1)
	require.Equal(t, b.now-255*minute, flips[0].AtMs)
	require.Equal(t, "2", flips[0].Cause.ID)
}
