package outcome_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
	"github.com/sillage-cdp/sillage/services/channel-connector/internal/outcome"
)

var (
	now  = time.UnixMilli(1_772_366_400_000)
	send = &deliveryv1.Send{SendId: "s1", Tenant: "demo", ProfileId: "p1", Channel: "email", Journey: "loan", Step: "mail", Template: "t"}
)

func TestTheSameHappeningHasTheSameID(t *testing.T) {
	first := outcome.Of(send, deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED, now)
	again := outcome.Of(send, deliveryv1.OutcomeType_OUTCOME_TYPE_OPENED, now.Add(time.Hour))
	require.Equal(t, "s1:opened", first.GetOutcomeId())
	require.Equal(t, first.GetOutcomeId(), again.GetOutcomeId())

	a, b := first.CloneVT(), first.CloneVT()
	a.Url, b.Url = "https://a", "https://b"
	require.NotEqual(t, outcome.ID(a), outcome.ID(b))
	b.Url, b.Machine = "https://a", true
	require.NotEqual(t, outcome.ID(a), outcome.ID(b))
}

func TestAnOutcomeIsAnEventOfTheProfile(t *testing.T) {
	o := outcome.Of(send, deliveryv1.OutcomeType_OUTCOME_TYPE_CLICKED, now)
	o.Url = "https://bank.example"
	o.OutcomeId = outcome.ID(o)
	ev, err := outcome.Event(o)
	require.NoError(t, err)
	require.Equal(t, "Message Clicked", ev.GetName())
	require.Equal(t, o.GetOutcomeId(), ev.GetMessageId())
	require.Equal(t, "profile_id", ev.GetIdentifiers()[0].GetNamespace())
	require.True(t, ev.GetInternal())
	require.JSONEq(t, `{"send_id":"s1","channel":"email","journey":"loan","step":"mail","template":"t","url":"https://bank.example"}`, string(ev.GetProperties()))
}

func TestWhatAMachineDoesMovesNothing(t *testing.T) {
	o := outcome.Of(send, deliveryv1.OutcomeType_OUTCOME_TYPE_CLICKED, now)
	o.Machine = true
	ev, err := outcome.Event(o)
	require.NoError(t, err)
	require.Nil(t, ev)
}

func TestMachinesAreTold(t *testing.T) {
	const person = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
	require.False(t, outcome.Machine(outcome.Visit{Method: "GET", UserAgent: person}))
	require.False(t, outcome.Machine(outcome.Visit{Method: "GET", UserAgent: "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"}))
	for _, v := range []outcome.Visit{
		{Method: "HEAD", UserAgent: person}, {Method: "GET"}, {Method: "GET", UserAgent: person, Purpose: "prefetch;prerender"},
		{Method: "GET", UserAgent: "curl/8.0"}, {Method: "GET", UserAgent: "Mozilla/5.0 (compatible; Barracuda Sentinel)"},
	} {
		require.True(t, outcome.Machine(v), "%+v", v)
	}
}
