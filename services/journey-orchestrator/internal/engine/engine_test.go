package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	definitionv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/definition/v1"
	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	journeyv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/journey/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/engine"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/journey"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/person"
	"github.com/sillage-cdp/sillage/services/journey-orchestrator/internal/pressure"
)

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// store is a key's state in memory.
type store map[string][]byte

func (s store) Get(name string) ([]byte, bool) { v, ok := s[name]; return v, ok }
func (s store) Put(name string, value []byte)  { s[name] = bytes.Clone(value) }
func (s store) Delete(name string)             { delete(s, name) }

// cold remembers no graph; broken cannot thaw either.
type cold struct{ broken bool }

func (cold) Known(journey.Hash) *journey.Graph { return nil }
func (c cold) Thaw(_ journey.Hash, frozen []byte) (*journey.Graph, error) {
	if c.broken {
		return nil, errors.New("broken")
	}
	return journey.Thaw(frozen)
}

func wait(id, duration string) *definitionv1.Step {
	return &definitionv1.Step{Id: id, Wait: &definitionv1.Wait{For: duration}}
}

func mail(id string) *definitionv1.Step {
	return &definitionv1.Step{Id: id, Send: &definitionv1.SendStep{Channel: "email", Template: "hello"}}
}

func compile(t testing.TB, version int64, steps ...*definitionv1.Step) *journey.Graph {
	g, err := journey.Compile(&definitionv1.Definition{Tenant: "bank", Name: "tour", Version: version, Spec: &definitionv1.Definition_Journey{
		Journey: &definitionv1.Journey{Entry: &definitionv1.Entry{Event: &definitionv1.EventFilter{Event: "Start"}}, Reentry: "0s", Steps: steps},
	}})
	require.NoError(t, err)
	return g
}

func tenantWith(graphs ...*journey.Graph) *engine.Tenant {
	defined := map[string]bool{}
	for _, g := range graphs {
		defined[g.Name] = true
	}
	return &engine.Tenant{
		Journeys: journey.NewSet(graphs), Defined: defined, Known: true, Zone: "Europe/Paris",
		Caps:     []pressure.Cap{{Name: "month", Max: 8, Within: 30 * 24 * time.Hour}},
		Channels: map[string]engine.Reach{"email": engine.ReachEmail}, Templates: map[string]bool{"hello": true},
	}
}

// turn runs one input and saves.
func turn(t testing.TB, s store, tenant *engine.Tenant, graphs engine.Graphs, now time.Time, input func(*engine.Turn)) *engine.Turn {
	p := person.Open("bank", "ada", s)
	out := engine.NewTurn(tenant, graphs, p, now)
	input(out)
	require.NoError(t, p.Save())
	return out
}

func event(name string, properties string) func(*engine.Turn) {
	return func(turn *engine.Turn) {
		turn.Event(&profilev1.ResolvedEvent{Event: &eventv1.Event{
			MessageId: "m-" + name, Tenant: "bank", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: name,
			Properties: []byte(properties), Traits: []byte(`{"email":"ada@x.example"}`),
		}})
	}
}

func wake(started *engine.Turn) func(*engine.Turn) {
	return func(turn *engine.Turn) { turn.Wake("tour", started.Timers[0].Instance) }
}

// TestFlightStaysOnItsVersion: with nothing remembered in memory the version entered is thawed from the
// person's state; if it cannot be, the version in force takes over where its steps allow it.
func TestFlightStaysOnItsVersion(t *testing.T) {
	v1 := compile(t, 1, wait("pause", "1h"), mail("mail"))
	v2 := compile(t, 2, wait("pause", "5h"), &definitionv1.Step{Id: "bye", Exit: &definitionv1.ExitStep{Reason: "v2"}})
	other := compile(t, 3, mail("mail"))
	for _, c := range []struct {
		name    string
		inForce *journey.Graph
		graphs  cold
		sends   int
		reason  string
	}{
		{"thawed", v2, cold{}, 1, engine.ReasonCompleted},
		{"lost, the step exists", v2, cold{broken: true}, 0, "v2"},
		{"lost, the step is gone", other, cold{broken: true}, 0, engine.ReasonLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := store{}
			began := turn(t, s, tenantWith(v1), cold{}, start, event("Start", ""))
			require.Equal(t, start.Add(time.Hour), began.Timers[0].Due)
			ended := turn(t, s, tenantWith(c.inForce), c.graphs, start.Add(time.Hour), wake(began))
			require.Len(t, ended.Sends, c.sends)
			require.Equal(t, c.reason, ended.Steps[len(ended.Steps)-1].GetReason())
			require.Equal(t, int64(1), ended.Steps[0].GetVersion())
			for name := range s {
				require.NotContains(t, name, "d/", "no frozen definition is left behind")
			}
		})
	}
}

// TestStaleTimers: a timer of another passage, of a wait that is over, or too early does nothing.
func TestStaleTimers(t *testing.T) {
	g := compile(t, 1, wait("pause", "1h"), mail("mail"))
	s := store{}
	began := turn(t, s, tenantWith(g), cold{}, start, event("Start", ""))
	for name, input := range map[string]func(*engine.Turn){
		"another journey": func(turn *engine.Turn) { turn.Wake("other", began.Timers[0].Instance) },
		"another passage": func(turn *engine.Turn) { turn.Wake("tour", "another") },
	} {
		require.Empty(t, turn(t, s, tenantWith(g), cold{}, start.Add(2*time.Hour), input).Steps, name)
	}
	require.Empty(t, turn(t, s, tenantWith(g), cold{}, start.Add(time.Minute), wake(began)).Steps, "too early")
	require.Len(t, turn(t, s, tenantWith(g), cold{}, start.Add(time.Hour), wake(began)).Sends, 1)
	require.Empty(t, turn(t, s, tenantWith(g), cold{}, start.Add(time.Hour), wake(began)).Steps, "it is over")
}

// TestUnknownTenantDeletesNothing: definitions that have not come yet do not let go of anybody.
func TestUnknownTenantDeletesNothing(t *testing.T) {
	g := compile(t, 1, wait("pause", "1h"), mail("mail"))
	s := store{}
	began := turn(t, s, tenantWith(g), cold{}, start, event("Start", ""))
	ended := turn(t, s, &engine.Tenant{}, cold{}, start.Add(time.Hour), wake(began))
	require.Equal(t, engine.ReasonNoChannel, ended.Sends[0].GetReason(), "the frozen definition is followed as far as it goes")
}

// TestIDs pins the ids (computed apart, by a program in another language): others would make a replay send everything again.
func TestIDs(t *testing.T) {
	g := compile(t, 1, mail("one"), wait("pause", "1h"), &definitionv1.Step{Id: "two", Next: "one", Send: mail("two").GetSend()})
	s := store{}
	began := turn(t, s, tenantWith(g), cold{}, start, event("Start", ""))
	again := turn(t, store{}, tenantWith(g), cold{}, start.Add(time.Hour), event("Start", ""))
	require.Equal(t, began.Sends[0].GetSendId(), again.Sends[0].GetSendId(), "ids come from the cause, not from the time")
	require.Equal(t, "b3a95f298e2dd7b13303046cb4c45e94", began.Steps[0].GetInstanceId())
	require.Equal(t, "d60b23a4cc0e6d29948254d1f9e0ce24", began.Sends[0].GetSendId())
	next := turn(t, s, tenantWith(g), cold{}, start.Add(time.Hour), wake(began))
	require.Len(t, next.Sends, 2)
	ids := map[string]bool{began.Sends[0].GetSendId(): true}
	for _, send := range next.Sends {
		require.False(t, ids[send.GetSendId()], "a second visit has an id of its own")
		ids[send.GetSendId()] = true
	}
}

// TestRefusals that no script shows: too many passages, and a trigger beyond its bound.
func TestRefusals(t *testing.T) {
	var graphs []*journey.Graph
	for i := range person.MaxRunning + 1 {
		g, err := journey.Compile(&definitionv1.Definition{Tenant: "bank", Name: fmt.Sprintf("tour%02d", i), Version: 1, Spec: &definitionv1.Definition_Journey{
			Journey: &definitionv1.Journey{Entry: &definitionv1.Entry{Event: &definitionv1.EventFilter{Event: "Start"}}, Steps: []*definitionv1.Step{wait("pause", "1h")}},
		}})
		require.NoError(t, err)
		graphs = append(graphs, g)
	}
	full := turn(t, store{}, tenantWith(graphs...), cold{}, start, event("Start", ""))
	last := full.Steps[len(full.Steps)-1]
	require.Equal(t, journeyv1.StepAction_STEP_ACTION_REFUSED, last.GetAction())
	require.Equal(t, engine.ReasonTooMany, last.GetReason())

	large := fmt.Sprintf(`{"x":%q}`, bytes.Repeat([]byte("x"), person.MaxTrigger))
	refused := turn(t, store{}, tenantWith(graphs[0]), cold{}, start, event("Start", large))
	require.Len(t, refused.Steps, 1)
	require.Equal(t, engine.ReasonTriggerTooLarge, refused.Steps[0].GetReason())
}

// TestProfileTooLarge: what cannot be written is held with its reason instead of stopping the journey.
func TestProfileTooLarge(t *testing.T) {
	s := store{}
	huge := &profilev1.Profile{Traits: map[string]*profilev1.Trait{"x": {Json: fmt.Appendf(nil, "%q", bytes.Repeat([]byte("x"), 800<<10))}, "email": {Json: []byte(`"a@x.example"`)}}}
	value, err := huge.MarshalVT()
	require.NoError(t, err)
	s.Put("p", value)
	out := turn(t, s, tenantWith(compile(t, 1, mail("mail"))), cold{}, start, event("Start", ""))
	require.Equal(t, engine.ReasonProfileTooLarge, out.Sends[0].GetReason())
	require.Empty(t, out.Sends[0].GetTraits())
}

// BenchmarkEventOfNoJourney is the common case: an event that starts nothing, of a person in no journey,
// that changes no trait.
func BenchmarkEventOfNoJourney(b *testing.B) {
	tenant := tenantWith(compile(b, 1, wait("pause", "1h"), mail("mail")))
	s := store{}
	turn(b, s, tenant, cold{}, start, event("Seen", ""))
	ev := &profilev1.ResolvedEvent{Event: &eventv1.Event{MessageId: "m", Tenant: "bank", Type: eventv1.EventType_EVENT_TYPE_PAGE, Name: "Home", Properties: []byte(`{"path":"/"}`), Context: []byte(`{"ip":"192.0.2.1"}`)}}
	b.ReportAllocs()
	for b.Loop() {
		p := person.Open("bank", "ada", s)
		engine.NewTurn(tenant, cold{}, p, start).Event(ev)
		if err := p.Save(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEventInFlight is an event of no interest of a person who waits in a journey.
func BenchmarkEventInFlight(b *testing.B) {
	tenant := tenantWith(compile(b, 1, wait("pause", "1h"), mail("mail")))
	s := store{}
	turn(b, s, tenant, cold{}, start, event("Start", `{"amount":12000}`))
	ev := &profilev1.ResolvedEvent{Event: &eventv1.Event{MessageId: "m", Tenant: "bank", Type: eventv1.EventType_EVENT_TYPE_PAGE, Name: "Home", Properties: []byte(`{"path":"/"}`)}}
	b.ReportAllocs()
	for b.Loop() {
		p := person.Open("bank", "ada", s)
		engine.NewTurn(tenant, cold{}, p, start).Event(ev)
		if err := p.Save(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEnterAndSend is an event that starts a journey which sends at once and ends, with traits to
// fold, a ledger of up to eight sends to count and all state to write.
func BenchmarkEnterAndSend(b *testing.B) {
	tenant := tenantWith(compile(b, 1, mail("mail")))
	tenant.Caps[0].Max = 9
	s := store{}
	input := event("Start", `{"amount":12000}`)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out := turn(b, s, tenant, cold{}, start.Add(time.Duration(i)*time.Millisecond), input)
		if len(out.Sends) != 1 || out.Sends[0].GetDecision() != deliveryv1.Decision_DECISION_SEND {
			b.Fatal("not sent")
		}
		if i%8 == 7 {
			delete(s, "l")
		}
	}
}
