package wire

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// arrivedAt is when every request of the tests comes in.
var arrivedAt = time.Date(2026, 11, 21, 10, 15, 31, 0, time.UTC)

func testSource() *Source {
	return &Source{Tenant: "acme", Name: "web", MaxEventBytes: 32 << 10, MaxImportEventBytes: 1 << 20, HistoryAfter: 24 * time.Hour, ServerSide: true}
}

// zeros is entropy that makes message ids predictable.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// decoded is what came of one body.
type decoded struct {
	Events []*eventv1.Event
	Outcome
	Problem *Problem
}

func decode(call Call, body string) decoded {
	return decodeFor(call, body, testSource(), Arrival{Now: arrivedAt, Entropy: zeros{}})
}

func decodeFor(call Call, body string, source *Source, arrival Arrival) (got decoded) {
	var d Decoder
	buffer := []byte(body)
	if got.Problem = d.Parse(call, buffer); got.Problem != nil {
		return got
	}
	got.Outcome = d.Decode(source, arrival, func(ev *eventv1.Event) {
		got.Events = append(got.Events, detach(ev))
	})
	clear(buffer) // what was handed out may not be needed any more
	return got
}

// detach copies an event and the text that it views.
func detach(ev *eventv1.Event) *eventv1.Event {
	data, err := ev.MarshalVT()
	if err != nil {
		panic(err) // a test helper: the event of a test cannot be encoded
	}
	out := new(eventv1.Event)
	if err := out.UnmarshalVT(data); err != nil {
		panic(err)
	}
	return out
}

// one decodes a single call that must be accepted.
func one(t *testing.T, call Call, body string) *eventv1.Event {
	t.Helper()
	got := decode(call, body)
	require.Nil(t, got.Problem)
	require.Empty(t, got.Rejections)
	require.Len(t, got.Events, 1)
	return got.Events[0]
}

func identifiersOf(ev *eventv1.Event) []string {
	var out []string
	for _, id := range ev.GetIdentifiers() {
		out = append(out, id.GetNamespace()+":"+id.GetValue())
	}
	return out
}

// The bodies that Segment's Go client sends, as its own tests state them.
func TestSegmentFixtures(t *testing.T) {
	type want struct {
		kind      eventv1.EventType
		name      string
		user      string
		messageID string
	}
	wants := map[string]want{
		"test-enqueue-alias.json":      {eventv1.EventType_EVENT_TYPE_ALIAS, "", "B", "I'm unique"},
		"test-enqueue-group.json":      {eventv1.EventType_EVENT_TYPE_GROUP, "", "B", "I'm unique"},
		"test-enqueue-identify.json":   {eventv1.EventType_EVENT_TYPE_IDENTIFY, "", "B", "I'm unique"},
		"test-enqueue-page.json":       {eventv1.EventType_EVENT_TYPE_PAGE, "A", "B", "I'm unique"},
		"test-enqueue-screen.json":     {eventv1.EventType_EVENT_TYPE_SCREEN, "A", "B", "I'm unique"},
		"test-enqueue-track.json":      {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "I'm unique"},
		"test-context-track.json":      {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "I'm unique"},
		"test-integrations-track.json": {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "I'm unique"},
		"test-interval-track.json":     {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "I'm unique"},
		"test-many-track.json":         {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "I'm unique"},
		"test-messageid-track.json":    {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "abc"},
		"test-timestamp-track.json":    {eventv1.EventType_EVENT_TYPE_TRACK, "Download", "123456", "I'm unique"},
	}
	files, err := filepath.Glob("testdata/segment/*.json")
	require.NoError(t, err)
	require.Len(t, files, len(wants))
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			require.NoError(t, err)
			got := decode(Batch, string(body))
			require.Nil(t, got.Problem)
			require.Empty(t, got.Rejections)
			want := wants[filepath.Base(file)]
			require.Len(t, got.Events, bytes.Count(body, []byte(`"type"`)))
			for _, ev := range got.Events {
				require.Equal(t, want.kind, ev.GetType())
				require.Equal(t, want.name, ev.GetName())
				require.Equal(t, want.user, ev.GetUserId())
				require.Equal(t, want.messageID, ev.GetMessageId())
				require.Contains(t, string(ev.GetContext()), "analytics-go")
				require.Equal(t, arrivedAt.UnixMilli(), ev.GetTimestampMs(), "a clock in 2009 is not believed")
				require.NotZero(t, ev.GetOriginalTimestampMs())
			}
		})
	}
}
