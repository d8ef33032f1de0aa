package rows

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

func TestDoorAgreesWithTheGeneratedCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ev := &eventv1.Event{
			MessageId: rapid.String().Draw(t, "message id"), Tenant: rapid.String().Draw(t, "tenant"), Source: rapid.String().Draw(t, "source"),
			ReceivedAtMs: rapid.Int64().Draw(t, "received"), TimestampMs: rapid.Int64().Draw(t, "timestamp"),
			Properties: rapid.SliceOf(rapid.Byte()).Draw(t, "properties"), Page: &eventv1.Page{Url: rapid.String().Draw(t, "url")},
		}
		raw, err := ev.MarshalVT()
		require.NoError(t, err)
		tenant, source, receivedAtMs, err := door(raw)
		require.NoError(t, err)
		require.Equal(t, []any{ev.Tenant, ev.Source, ev.ReceivedAtMs}, []any{tenant, source, receivedAtMs})
	})
}

// FuzzDoor holds it against the reference decoder: what that can read, door reads alike.
func FuzzDoor(f *testing.F) {
	raw, err := (&eventv1.Event{Tenant: "demo", Source: "web", ReceivedAtMs: -1, Properties: []byte(`{}`)}).MarshalVT()
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte{0x12, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ev eventv1.Event
		if proto.Unmarshal(raw, &ev) != nil {
			_, _, _, _ = door(raw) // must not panic
			return
		}
		tenant, source, receivedAtMs, err := door(raw)
		require.NoError(t, err)
		require.Equal(t, []any{ev.Tenant, ev.Source, ev.ReceivedAtMs}, []any{tenant, source, receivedAtMs})
	})
}
