package importer_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/services/sillage/internal/importer"
	"github.com/sillage-cdp/sillage/services/sillage/internal/mapping"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// answers is a client without a network: it hands each request to a function.
type answers func(body string) (status int, header http.Header, answer string)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	status, header, answer := a(string(body))
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: header, Request: r, Body: io.NopCloser(strings.NewReader(answer)),
	}, nil
}

func lines(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "{\"userId\":\"u%03d\"}\n", i)
	}
	return text.String()
}

// A request has no more bytes than it may, unless one event alone has; and rows that are refused before they
// are sent do not pile up.
func TestRequestsAreBounded(t *testing.T) {
	const limit = 200
	long := `{"userId":"` + strings.Repeat("x", limit) + `"}`
	sent := 0
	client := &http.Client{Transport: answers(func(body string) (int, http.Header, string) {
		if !strings.Contains(body, "xxx") {
			require.LessOrEqual(t, len(body), limit)
		} else {
			require.Equal(t, `{"batch":[`+long+`]}`, body)
		}
		n := strings.Count(body, "userId")
		sent += n
		return http.StatusOK, nil, fmt.Sprintf(`{"success":true,"accepted":%d}`, n)
	})}
	o := importer.Options{URL: "http://ingest", WriteKey: "good", BatchBytes: limit, Client: client, Parallel: 1}
	res, err := importer.Import(t.Context(), rows.NewJSONLines(strings.NewReader(lines(50)+long+"\n"+lines(50))), o)
	require.NoError(t, err)
	require.Equal(t, 101, res.Accepted)
	require.Equal(t, 101, sent)

	o.BatchEvents, o.Client = 10, nil // nothing is sent
	at := 0
	o.Checkpoint = func(p importer.Position, list []importer.Refusal) error {
		require.LessOrEqual(t, len(list), 10)
		require.Equal(t, at+len(list), p.Line)
		at = p.Line
		return nil
	}
	res, err = importer.Import(t.Context(), rows.NewJSONLines(strings.NewReader(strings.Repeat("bad\n", 1500))), o)
	require.NoError(t, err)
	require.Equal(t, importer.Position{Line: 1500, Refused: 1500}, res.Position)
	require.Len(t, res.Refusals, 1000, "no more are listed")
	require.Equal(t, 1000, res.Refusals[999].Line)
}

// What stands before the place where a file cannot be read on is sent, and an import goes on behind it.
func TestAFileThatCannotBeReadOn(t *testing.T) {
	broken := errors.New("the disk is gone")
	i := &ingest{}
	server := http.Client{Transport: overHandler(i)}
	o := importer.Options{URL: "http://ingest", WriteKey: "good", BatchEvents: 10, Client: &server}
	half := io.MultiReader(strings.NewReader(lines(25)), iotest.ErrReader(broken))
	res, err := importer.Import(t.Context(), rows.NewJSONLines(half), o)
	require.ErrorIs(t, err, broken)
	require.Equal(t, importer.Position{Line: 25, Accepted: 25}, res.Position)
	require.Len(t, i.items, 25)

	// A cut in gzip is no end, wherever it is, and a row that it cuts is not sent.
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err = io.WriteString(w, lines(100))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for _, csv := range []bool{false, true} {
		for cut := 20; cut < zipped.Len(); cut += 40 {
			i.items = nil
			text, err := gzip.NewReader(bytes.NewReader(zipped.Bytes()[:cut]))
			require.NoError(t, err)
			var file rows.Reader = rows.NewJSONLines(text)
			o.Mapping = nil
			if csv {
				file, err = rows.NewCSV(text, rows.CSVOptions{Columns: []string{"id"}, Delimiter: "|"})
				require.NoError(t, err)
				o.Mapping, err = mapping.Parse(strings.NewReader("event: {type: identify, timestamp: $file.time, userId: {column: id, as: json}}"))
				require.NoError(t, err)
			}
			res, err := importer.Import(t.Context(), file, o)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.Equal(t, res.Accepted+res.Refused, res.Line)
			require.Less(t, res.Line, 100)
		}
	}
}

// overHandler answers by a handler, without a network.
func overHandler(h *ingest) answers {
	return func(body string) (int, http.Header, string) {
		r, err := http.NewRequest(http.MethodPost, "/v1/import", strings.NewReader(body))
		if err != nil {
			return http.StatusBadRequest, nil, err.Error()
		}
		r.SetBasicAuth("good", "")
		w := &recorder{header: http.Header{}, status: http.StatusOK}
		h.ServeHTTP(w, r)
		return w.status, w.header, w.body.String()
	}
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
func (r *recorder) WriteHeader(status int)      { r.status = status }

// A group that is too long is refused whole, and only that; one that is as long as may be is one event.
func TestALongGroupIsRefusedWhole(t *testing.T) {
	how, err := mapping.Parse(strings.NewReader(orders))
	require.NoError(t, err)
	for size, want := range map[int]string{20_000: "", 20_001: "2 group_too_long"} {
		text := "order,sku\n" + strings.Repeat("long,1\n", size) + "next,2\n"
		i := &ingest{}
		file, err := rows.NewCSV(strings.NewReader(text), rows.CSVOptions{})
		require.NoError(t, err)
		res, err := importer.Import(t.Context(), file, importer.Options{
			URL: "http://ingest", WriteKey: "good", Mapping: how, Client: &http.Client{Transport: overHandler(i)},
		})
		require.NoError(t, err)
		require.Equal(t, size+2, res.Line)
		if want == "" {
			require.Equal(t, []string{"long", "next"}, i.items)
			require.Empty(t, res.Refusals)
		} else {
			require.Equal(t, []string{"next"}, i.items)
			require.Equal(t, []string{want}, refused(res.Refusals))
		}
	}
}

// An import of groups that is broken off goes on behind a whole group, never within one.
func TestGroupsBrokenOffGoOn(t *testing.T) {
	how, err := mapping.Parse(strings.NewReader(orders))
	require.NoError(t, err)
	text := "order,sku\na,1\na,2\na,3\nb,4\nc,5\nc,6\n,7\nd,8\nd,9\n"
	for breakAt := range 6 {
		i := &ingest{}
		var at importer.Position
		calls := 0
		stop := errors.New("told to stop")
		imported := func() (importer.Result, error) {
			file, err := rows.NewCSV(strings.NewReader(text), rows.CSVOptions{})
			require.NoError(t, err)
			return importer.Import(t.Context(), file, importer.Options{
				URL: "http://ingest", WriteKey: "good", Mapping: how, Client: &http.Client{Transport: overHandler(i)}, Parallel: 1, BatchEvents: 1, From: at,
				Checkpoint: func(p importer.Position, _ []importer.Refusal) error {
					if calls++; calls > breakAt {
						return stop
					}
					at = p
					return nil
				},
			})
		}
		res, err := imported()
		if breakAt < 5 {
			require.ErrorIs(t, err, stop)
		}
		require.Equal(t, at, res.Position, "what the checkpoint did not take is not done")
		calls = -1000
		first := i.items
		i.items = nil
		res, err = imported()
		require.NoError(t, err)
		require.Equal(t, importer.Position{Line: 10, Accepted: 4, Refused: 1}, res.Position)
		for _, id := range i.items[min(1, len(i.items)):] {
			require.NotContains(t, first, id, "only the request at which it broke off is sent again")
		}
	}
}

// What cannot be sent is not done, and the error says which lines.
func TestWhatIsNotAnsweredIsNotDone(t *testing.T) {
	for status, says := range map[int]string{http.StatusBadRequest: "lines 21 to 30: ingest answers Bad Request: too odd", http.StatusUnauthorized: "write key is not known", http.StatusOK: "reading the answer"} {
		calls := 0
		var at importer.Position
		res, err := importer.Import(t.Context(), rows.NewJSONLines(strings.NewReader(lines(50))), importer.Options{
			URL: "http://ingest", WriteKey: "good", BatchEvents: 10, Parallel: 1,
			Client: &http.Client{Transport: answers(func(string) (int, http.Header, string) {
				if calls++; calls < 3 {
					return http.StatusOK, nil, `{"success":true,"accepted":10}`
				}
				text := `{"success":false,"message":"too odd"}`
				if status == http.StatusOK {
					text = "<html>a proxy's page"
				}
				return status, nil, text
			})},
			Checkpoint: func(p importer.Position, _ []importer.Refusal) error { at = p; return nil },
		})
		require.ErrorContains(t, err, says)
		require.Equal(t, 3, calls, "trying again would mend nothing")
		require.Equal(t, importer.Position{Line: 20, Accepted: 20}, at)
		require.Equal(t, at, res.Position)
	}
}

// An answer that asks to wait is obeyed, for as long as it says; one that does not ask is tried again sooner.
func TestWaitsAsLongAsItIsTold(t *testing.T) {
	for status, wait := range map[int]string{http.StatusTooManyRequests: "40", http.StatusServiceUnavailable: "7", http.StatusBadGateway: ""} {
		synctest.Test(t, func(t *testing.T) {
			begun, calls := time.Now(), 0
			res, err := importer.Import(context.Background(), rows.NewJSONLines(strings.NewReader(lines(1))), importer.Options{
				URL: "http://ingest", WriteKey: "good", Parallel: 1,
				Client: &http.Client{Transport: answers(func(string) (int, http.Header, string) {
					if calls++; calls < 3 {
						return status, http.Header{"Retry-After": {wait}}, "busy"
					}
					return http.StatusOK, nil, `{"success":true,"accepted":1}`
				})},
			})
			require.NoError(t, err)
			require.Equal(t, 1, res.Accepted)
			told, _ := time.ParseDuration("0" + wait + "s")
			require.GreaterOrEqual(t, time.Since(begun), 2*told)
			require.Less(t, time.Since(begun), 2*told+5*time.Second)
		})
	}
}

// A preview shows as many events as it is asked for, what is wrong with rows in their place, and sends nothing.
func TestPreview(t *testing.T) {
	for n, want := range map[int]string{
		0: "", 2: "{\"userId\":\"u000\"}\nline 2: bad_json: the line is no JSON object\n",
		9: "{\"userId\":\"u000\"}\nline 2: bad_json: the line is no JSON object\n{\"userId\":\"u000\"}\n",
	} {
		var out strings.Builder
		client := &http.Client{Transport: answers(func(string) (int, http.Header, string) { panic("something was sent") })}
		err := importer.Preview(rows.NewJSONLines(strings.NewReader(lines(1)+"bad\n"+lines(1))), importer.Options{Client: client}, n, &out)
		require.NoError(t, err)
		require.Equal(t, want, out.String())
	}
}
