package importer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/importer"
)

// ingest stands for the import endpoint: it notes every item, refuses those without an id, and answers
// the first `busy` requests with 503.
type ingest struct {
	mu    sync.Mutex
	busy  int
	items []string
	sizes []int
}

func (i *ingest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if key, _, _ := r.BasicAuth(); key != "good" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if i.busy > 0 {
		i.busy--
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var body struct {
		Batch []map[string]string `json:"batch"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	i.sizes = append(i.sizes, len(body.Batch))
	accepted, rejected := 0, []map[string]any{}
	for n, item := range body.Batch {
		if item["userId"] == "" {
			rejected = append(rejected, map[string]any{"index": n, "code": "no_user_anon_id"})
			continue
		}
		accepted++
		i.items = append(i.items, item["userId"])
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "accepted": accepted, "rejected": rejected})
}

func run(t *testing.T, i *ingest, text string, change func(*importer.Options)) (importer.Result, error) {
	t.Helper()
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	o := importer.Options{URL: server.URL, WriteKey: "good", BatchEvents: 10}
	if change != nil {
		change(&o)
	}
	return importer.Import(t.Context(), strings.NewReader(text), o)
}

func TestSendsEveryLineOnce(t *testing.T) {
	var text strings.Builder
	want := []string{}
	for n := range 105 {
		fmt.Fprintf(&text, "{\"userId\":\"u%d\"}\n", n)
		want = append(want, fmt.Sprint("u", n))
	}
	i := &ingest{busy: 3}
	res, err := run(t, i, text.String(), nil)
	require.NoError(t, err)
	require.Equal(t, 105, res.Accepted)
	require.Zero(t, res.Refused)
	require.ElementsMatch(t, want, i.items)
	require.Len(t, i.sizes, 11)
}

func TestBadLinesAreNamedAndCostNothingElse(t *testing.T) {
	i := &ingest{}
	res, err := run(t, i, "{\"userId\":\"a\"}\nnot json\n\n{\"event\":\"x\"}\n[1]\n{\"userId\":\"b\"}", nil)
	require.NoError(t, err)
	require.Equal(t, 2, res.Accepted)
	require.Equal(t, []importer.Refusal{{Line: 2, Code: "bad_json"}, {Line: 4, Code: "no_user_anon_id"}, {Line: 5, Code: "bad_json"}}, res.Refusals)
	require.ElementsMatch(t, []string{"a", "b"}, i.items)
}

func TestALongLineIsRefusedAlone(t *testing.T) {
	long := `{"userId":"` + strings.Repeat("x", 9<<20) + `"}`
	res, err := run(t, &ingest{}, "{\"userId\":\"a\"}\n"+long+"\n{\"userId\":\"b\"}\n", nil)
	require.NoError(t, err)
	require.Equal(t, 2, res.Accepted)
	require.Equal(t, []importer.Refusal{{Line: 2, Code: "line_too_long"}}, res.Refusals)
}

func TestUnknownKeySaysWhatToDo(t *testing.T) {
	_, err := run(t, &ingest{}, "{\"userId\":\"a\"}\n", func(o *importer.Options) { o.WriteKey = "bad" })
	require.ErrorContains(t, err, "write key is not known")
}
