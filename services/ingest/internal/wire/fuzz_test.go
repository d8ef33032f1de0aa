package wire

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
)

// FuzzDecode holds the promises of the package on any body: never a panic; what is handed out has an
// anchor, a message id and a time, its documents are JSON objects without a repeated key, and every item
// is either handed out or refused.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/segment/*.json")
	require.NoError(f, err)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(uint8(Batch), body)
		f.Add(uint8(Import), body)
	}
	for _, body := range []string{
		sampleTrack, `{}`, `[]`, `{"batch":[1,{}]}`, `{"userId":"u","event":"E","properties":{"a":1,"a":{"b":2}},"context":{"direct":true}}`,
		`{"userId":1e3,"event":"\ud800","context":{"externalIds":[{"id":1,"type":"x"}],"device":{"type":"ios","id":"d"}}}`,
		`{"context":{"a":{"b":1}},"batch":[{"type":"page","anonymousId":"a","context":{"a":{"\u0062":2}},"timestamp":1}]}`,
	} {
		f.Add(uint8(Track), []byte(body))
		f.Add(uint8(Batch), []byte(body))
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		call := Call(kind % uint8(Import+1))
		source := testSource()
		source.ServerSide = kind&0x80 != 0
		got := decodeFor(call, string(body), source, Arrival{Now: arrivedAt, ClientIP: "192.0.2.7", Entropy: zeros{}})
		if got.Problem != nil {
			require.NotEmpty(t, got.Problem.Detail)
			return
		}
		require.True(t, json.Valid([]byte(validUTF8(body))), "taken as JSON, which it is not")
		for _, ev := range got.Events {
			checkEvent(t, ev)
		}
		if !call.Many() {
			require.Equal(t, 1, len(got.Events)+len(got.Rejections))
		}
	})
}

func validUTF8(body []byte) string {
	text, bad := validate(append([]byte(nil), body...))
	if bad != nil {
		return ""
	}
	return text
}

func checkEvent(t *testing.T, ev *eventv1.Event) {
	require.NotEmpty(t, ev.GetIdentifiers())
	require.NotEmpty(t, ev.GetMessageId())
	require.LessOrEqual(t, len([]rune(ev.GetMessageId())), 100)
	require.NotZero(t, ev.GetTimestampMs())
	require.NotEqual(t, eventv1.EventType_EVENT_TYPE_UNSPECIFIED, ev.GetType())
	for name, document := range map[string][]byte{"properties": ev.GetProperties(), "traits": ev.GetTraits(), "context": ev.GetContext(), "integrations": ev.GetIntegrations()} {
		if document == nil {
			continue
		}
		var object map[string]any
		require.NoError(t, json.Unmarshal(document, &object), name)
		require.False(t, repeatsKey(t, document), "%s: %s", name, document)
	}
}

// repeatsKey is the slow oracle for the tape: it walks the document with encoding/json's tokens.
func repeatsKey(t *testing.T, document []byte) bool {
	var raw map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(document, &raw))
	return countKeys(t, document) != countKeysOf(t, document)
}

// countKeys counts keys as written.
func countKeys(t *testing.T, document []byte) int {
	var tp tape
	require.True(t, tp.scan(string(document), 1<<20))
	return len(tp.members)
}

// countKeysOf counts keys that are left once maps have dropped the repeated ones.
func countKeysOf(t *testing.T, document []byte) int {
	var value any
	require.NoError(t, json.Unmarshal(document, &value))
	var count func(v any) int
	count = func(v any) int {
		n := 0
		switch v := v.(type) {
		case map[string]any:
			for _, child := range v {
				n += 1 + count(child)
			}
		case []any:
			for _, child := range v {
				n += count(child)
			}
		}
		return n
	}
	return count(value)
}

func mustJSON(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // a test helper: maps of strings and numbers always encode
	}
	return string(out)
}

func drawObject(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	for _, key := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d é", `q"`}), 0, 4).Draw(t, "keys") {
		switch kind := rapid.IntRange(0, 4).Draw(t, "kind"); {
		case kind == 0 && depth > 0, kind == 1 && depth > 0:
			out[key] = drawObject(t, depth-1)
		case kind == 2:
			out[key] = []any{rapid.String().Draw(t, "element")}
		case kind == 3:
			out[key] = nil
		default:
			out[key] = rapid.String().Draw(t, "text")
		}
	}
	return out
}

func mergeMaps(under, over map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, under)
	for k, v := range over {
		below, ok1 := out[k].(map[string]any)
		above, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			out[k] = mergeMaps(below, above)
			continue
		}
		out[k] = v
	}
	return out
}
