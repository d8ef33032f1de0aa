package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

func TestPixelBody(t *testing.T) {
	cases := map[string]struct{ query, want string }{
		"flat":                       {"event=E&userId=u", `{"event":"E","userId":"u"}`},
		"nested":                     {"properties.a.b=1&properties.c=2", `{"properties":{"a":{"b":"1"},"c":"2"}}`},
		"no key":                     {"writeKey=k&event=E", `{"event":"E"}`},
		"the first of two":           {"event=A&event=B", `{"event":"A"}`},
		"a value where others nest":  {"properties=x&properties.a=1", `{"properties":"x"}`},
		"quoted by old clients":      {"anonymousId=%22a%22", `{"anonymousId":"a"}`},
		"base64":                     {"data=eyJldmVudCI6IkUifQ", `{"event":"E"}`},
		"base64, padded":             {"data=eyJldmVudCI6IkUifQ==", `{"event":"E"}`},
		"base64, plus not escaped":   {"data=eyJlIjoiPj4 Pj4/In0=", `{"e":">>>>>?"}`},
		"base64, for addresses":      {"data=eyJlIjoiPj4-Pj4_In0", `{"e":">>>>>?"}`},
		"nothing":                    {"", `{}`},
		"a name of dots":             {"..=1", `{"":{"":{"":"1"}}}`},
		"what is there is not moved": {"context.userAgent=mine", `{"context":{"userAgent":"mine"}}`},
	}
	for name, c := range cases {
		query, err := url.ParseQuery(c.query)
		require.NoError(t, err)
		header := http.Header{}
		if strings.Contains(c.query, "userAgent") {
			header.Set("User-Agent", "the browser's")
		}
		got, err := pixelBody(query, header)
		require.NoError(t, err, name)
		require.JSONEq(t, c.want, string(got), name)
	}
	_, err := pixelBody(url.Values{strings.Repeat("a.", wire.MaxEventDepth+1): {"1"}}, nil)
	require.ErrorContains(t, err, string(wire.TooDeep))
}

// Whatever an address says, it is one JSON object without the key, or refused; never more than it is long.
func FuzzPixelBody(f *testing.F) {
	for _, seed := range []string{"event=E&properties.a.b=1", "data=eyJldmVudCI6IkUifQ", "a=1&a.b=2&.=3", "anonymousId=%22%22%22", "\xff=\xfe&writeKey=k"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, _ := url.ParseQuery(raw) // what can be read is, as by the server
		got, err := pixelBody(query, http.Header{"User-Agent": {"a"}})
		if err != nil {
			var problem *wire.Problem
			require.ErrorAs(t, err, &problem)
			return
		}
		if query.Get("data") != "" {
			return // the decoder's to judge
		}
		var event map[string]any
		require.NoError(t, json.Unmarshal(got, &event))
		require.NotContains(t, event, "writeKey")
		require.Less(t, len(got), 32*len(raw)+64)
	})
}
