package importer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/importer"
	"github.com/sillage-cdp/sillage/services/sillage/internal/mapping"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
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
		Batch []map[string]any `json:"batch"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	i.sizes = append(i.sizes, len(body.Batch))
	accepted, rejected := 0, []map[string]any{}
	for n, item := range body.Batch {
		userID, _ := item["userId"].(string)
		if userID == "" {
			rejected = append(rejected, map[string]any{"index": n, "code": "no_user_anon_id"})
			continue
		}
		accepted++
		i.items = append(i.items, userID)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "accepted": accepted, "rejected": rejected})
}

func refused(list []importer.Refusal) (short []string) {
	for _, r := range list {
		short = append(short, fmt.Sprint(r.Line, " ", r.Code))
	}
	return short
}

func run(t *testing.T, i *ingest, text string, change func(*importer.Options)) (importer.Result, error) {
	t.Helper()
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	o := importer.Options{URL: server.URL, WriteKey: "good", BatchEvents: 10}
	if change != nil {
		change(&o)
	}
	return importer.Import(t.Context(), rows.NewJSONLines(strings.NewReader(text)), o)
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
	require.Equal(t, []string{"2 bad_json", "4 no_user_anon_id", "5 bad_json"}, refused(res.Refusals))
	require.ElementsMatch(t, []string{"a", "b"}, i.items)
}

func TestALongLineIsRefusedAlone(t *testing.T) {
	long := `{"userId":"` + strings.Repeat("x", 9<<20) + `"}`
	res, err := run(t, &ingest{}, "{\"userId\":\"a\"}\n"+long+"\n{\"userId\":\"b\"}\n", nil)
	require.NoError(t, err)
	require.Equal(t, 2, res.Accepted)
	require.Equal(t, []string{"2 line_too_long"}, refused(res.Refusals))
}

func TestUnknownKeySaysWhatToDo(t *testing.T) {
	_, err := run(t, &ingest{}, "{\"userId\":\"a\"}\n", func(o *importer.Options) { o.WriteKey = "bad" })
	require.ErrorContains(t, err, "write key is not known")
}

// An import that is broken off at any request goes on where it stood: every row arrives, rows that were
// answered are not sent again, and refusals come once each, in the order of the file.
func TestBrokenOffGoesOn(t *testing.T) {
	var text strings.Builder
	want := []string{}
	refusals := []string{}
	for n := range 200 {
		if n%7 == 3 {
			text.WriteString("bad\n")
			refusals = append(refusals, fmt.Sprint(n+1, " bad_json"))
			continue
		}
		fmt.Fprintf(&text, "{\"userId\":\"u%d\"}\n", n)
		want = append(want, fmt.Sprint("u", n))
	}
	for breakAt := range 15 {
		i := &ingest{}
		var at importer.Position
		var seen []importer.Refusal
		stop := errors.New("told to stop")
		calls := 0
		note := func(p importer.Position, list []importer.Refusal) error {
			if calls++; calls > breakAt {
				return stop
			}
			require.GreaterOrEqual(t, p.Line, at.Line)
			at, seen = p, append(seen, list...)
			return nil
		}
		_, err := run(t, i, text.String(), func(o *importer.Options) { o.Checkpoint = note })
		require.ErrorIs(t, err, stop)
		calls = -1000
		res, err := run(t, i, text.String(), func(o *importer.Options) { o.Checkpoint, o.From = note, at })
		require.NoError(t, err)
		require.Equal(t, importer.Position{Line: 200, Accepted: len(want), Refused: len(refusals)}, res.Position)
		require.Equal(t, res.Position, at)
		require.Equal(t, refusals, refused(seen))
		slices.Sort(i.items)
		require.ElementsMatch(t, want, slices.Compact(i.items), "every row arrived; those in flight at the break may come twice")
	}
}

const orders = "group_by: order\nevent: {type: track, event: Order Completed, userId: $order, timestamp: $file.time, properties: {n: {each: {sku: {column: sku, as: integer}}}}}"

// Rows that follow one another with the same value are one event, also where an import goes on.
func TestGroupsOfRows(t *testing.T) {
	how, err := mapping.Parse(strings.NewReader(orders))
	require.NoError(t, err)
	text := "order,sku\na,1\na,2\n,3\n,4\nb,5\nb\nc,x\nc,6\na,7\nd,8\n"
	for from := range 12 {
		i := &ingest{}
		server := httptest.NewServer(i)
		file, err := rows.NewCSV(strings.NewReader(text), rows.CSVOptions{})
		require.NoError(t, err)
		res, err := importer.Import(t.Context(), file, importer.Options{URL: server.URL, WriteKey: "good", Mapping: how, From: importer.Position{Line: from}})
		require.NoError(t, err)
		server.Close()
		if from < 2 {
			require.Equal(t, []string{"a", "b", "d"}, i.items)
			require.Equal(t, []string{"4 no_user_anon_id", "5 no_user_anon_id", "7 bad_row", "8 bad_value", "10 group_split"}, refused(res.Refusals))
		}
		if from == 3 { // after the first group
			require.Equal(t, []string{"b", "d"}, i.items)
			require.Equal(t, "10 group_split", refused(res.Refusals)[4])
		}
		require.Equal(t, 11, res.Line)
	}
}
