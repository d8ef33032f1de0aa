package evaluate

import (
	"testing"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

func TestABotEarnsNothing(t *testing.T) {
	b := newBench(t, testProgram(t))
	buy := func(id string, bot bool) *eventv1.Event {
		return &eventv1.Event{MessageId: id, Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "buy", TimestampMs: b.now, ValueMicros: 7, Bot: bot}
	}
	require.Empty(t, b.send("p", buy("a", true)))
	require.NotEmpty(t, b.send("p", buy("b", false)))
	require.Empty(t, b.send("p", buy("c", true)))
}
