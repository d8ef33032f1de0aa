package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/identity/internal/envelope"
	"github.com/sillage-cdp/sillage/services/identity/internal/policy"
)

func sample() *eventv1.Event {
	return &eventv1.Event{
		MessageId: "m1", Tenant: "acme", Source: "web", Type: eventv1.EventType_EVENT_TYPE_ALIAS, Name: "x",
		Identifiers: []*eventv1.Identifier{{Namespace: "anonymous_id", Value: "a1"}, {Namespace: "user_id", Value: "u1"}},
		AnonymousId: "a1", UserId: "u1", PreviousId: "old", TimestampMs: -5, ReceivedAtMs: 1_700_000_000_000,
		Properties: []byte(`{"a":1}`), Page: &eventv1.Page{Url: "https://example.org"},
		Consent: &eventv1.Consent{Purposes: map[string]bool{"ads": true}}, ValueMicros: 12, Internal: true,
	}
}

func TestRead(t *testing.T) {
	raw, err := sample().MarshalVT()
	require.NoError(t, err)
	var h envelope.Header
	require.NoError(t, envelope.Read(raw, &h))
	require.Equal(t, envelope.Header{
		MessageID: "m1", Tenant: "acme", Source: "web", Type: envelope.TypeAlias, PreviousID: "old",
		Identifiers: []policy.Identifier{{Namespace: "anonymous_id", Value: "a1"}, {Namespace: "user_id", Value: "u1"}},
		TimestampMs: -5, ReceivedMs: 1_700_000_000_000, Internal: true,
	}, h)
}

func TestReadForgetsTheEventBefore(t *testing.T) {
	raw, err := sample().MarshalVT()
	require.NoError(t, err)
	var h envelope.Header
	require.NoError(t, envelope.Read(raw, &h))
	require.NoError(t, envelope.Read(nil, &h))
	require.Empty(t, h.Tenant+h.Source+h.MessageID+h.PreviousID)
	require.Empty(t, h.Identifiers)
	require.False(t, h.Internal)
	other := sample()
	other.Tenant, other.Source, other.Identifiers = "acm", "w", []*eventv1.Identifier{{Namespace: "crm", Value: "c"}}
	raw, err = other.MarshalVT()
	require.NoError(t, err)
	require.NoError(t, envelope.Read(raw, &h))
	require.Equal(t, []string{"acm", "w", "crm"}, []string{h.Tenant, h.Source, h.Identifiers[0].Namespace})
}

func TestReadRefusesBrokenBytes(t *testing.T) {
	raw, err := sample().MarshalVT()
	require.NoError(t, err)
	var h envelope.Header
	require.Error(t, envelope.Read(raw[:len(raw)-1], &h))
	require.ErrorContains(t, envelope.Read([]byte{0x0a, 1, 0xff}, &h), "field 1")
	require.Error(t, envelope.Read([]byte{0x08, 1}, &h), "message id as a number")
}

func TestReadBoundsIdentifiers(t *testing.T) {
	event := sample()
	for len(event.Identifiers) < 100 {
		event.Identifiers = append(event.Identifiers, &eventv1.Identifier{Namespace: "crm", Value: "x"})
	}
	raw, err := event.MarshalVT()
	require.NoError(t, err)
	var h envelope.Header
	require.NoError(t, envelope.Read(raw, &h))
	require.Len(t, h.Identifiers, envelope.MaxIdentifiers)
}

func TestWrap(t *testing.T) {
	event := sample()
	raw, err := event.MarshalVT()
	require.NoError(t, err)
	wrapped := envelope.Wrap([]byte("kept"), envelope.Resolved{
		Tenant: "acme", ProfileID: "p1", Event: raw,
		New: []policy.Identifier{{Namespace: "anonymous_id", Value: "a1"}, {Namespace: "crm"}, {}},
	})
	require.Equal(t, "kept", string(wrapped[:4]))
	var rec profilev1.ProfileRecord
	require.NoError(t, rec.UnmarshalVT(wrapped[4:]))
	require.True(t, rec.EqualVT(&profilev1.ProfileRecord{
		Tenant: "acme", ProfileId: "p1",
		Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{
			Event:          event,
			NewIdentifiers: []*eventv1.Identifier{{Namespace: "anonymous_id", Value: "a1"}, {Namespace: "crm"}, {}},
		}},
	}))
}

// FuzzRead checks that whatever the generated code decodes, Read decodes to the same.
func FuzzRead(f *testing.F) {
	raw, err := sample().MarshalVT()
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte{})
	f.Add([]byte{0x0a, 1, 'x', 0x32, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var h envelope.Header
		readErr := envelope.Read(raw, &h)
		var event eventv1.Event
		if event.UnmarshalVT(raw) != nil || readErr != nil {
			// Generated code takes invalid UTF-8 and merges repeated sub-messages; both may refuse more than the other.
			return
		}
		require.Equal(t, event.MessageId, h.MessageID)
		require.Equal(t, event.Tenant, h.Tenant)
		require.Equal(t, event.Source, h.Source)
		require.Equal(t, int32(event.Type), h.Type)
		require.Equal(t, event.PreviousId, h.PreviousID)
		require.Equal(t, event.TimestampMs, h.TimestampMs)
		require.Equal(t, event.ReceivedAtMs, h.ReceivedMs)
		require.Equal(t, event.Internal, h.Internal)
		require.Len(t, h.Identifiers, min(len(event.Identifiers), envelope.MaxIdentifiers))
		for i, id := range h.Identifiers {
			require.Equal(t, event.Identifiers[i].Namespace, id.Namespace)
			require.Equal(t, event.Identifiers[i].Value, id.Value)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	raw, err := sample().MarshalVT()
	require.NoError(b, err)
	var h envelope.Header
	b.ReportAllocs()
	for b.Loop() {
		if err := envelope.Read(raw, &h); err != nil {
			b.Fatal(err)
		}
	}
}
