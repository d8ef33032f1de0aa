package clickhouse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
)

// client speaks plain HTTP to the test's database.
type client struct {
	t    testing.TB
	base string
	db   string
}

func newClient(t testing.TB) *client {
	s := clickhousetest.Start(t)
	return &client{t: t, base: "http://" + s.Addr + "/", db: s.Database}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a body with parameters given as name, value, name, value...
func (c *client) do(method string, header http.Header, body io.Reader, params ...string) answer {
	c.t.Helper()
	values := url.Values{"database": {c.db}}
	for i := 0; i < len(params); i += 2 {
		values.Set(params[i], params[i+1])
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+"?"+values.Encode(), body)
	require.NoError(c.t, err)
	for name := range header {
		req.Header.Set(name, header.Get(name))
	}
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, res.Body.Close()) }()
	out, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return answer{res.StatusCode, res.Header, string(out)}
}

func (c *client) post(body string, params ...string) answer {
	c.t.Helper()
	return c.do(http.MethodPost, nil, strings.NewReader(body), params...)
}

// send posts a statement with data and wants no answer.
func (c *client) send(statement string, data io.Reader) {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.base+"?query="+url.QueryEscape(statement), data)
	if err != nil {
		return
	}
	if res, err := http.DefaultClient.Do(req); err == nil {
		_ = res.Body.Close() // only read
	}
}

// must posts and requires success.
func (c *client) must(body string, params ...string) string {
	c.t.Helper()
	a := c.post(body, params...)
	require.Equal(c.t, http.StatusOK, a.status, a.body)
	return a.body
}

func TestStatementInURLOrBody(t *testing.T) {
	c := newClient(t)
	require.Equal(t, "1\n", c.must("SELECT 1"))
	require.Equal(t, "1\n", c.must("", "query", "SELECT 1"))
	require.Equal(t, "3\n", c.must("+ 2", "query", "SELECT 1"), "the body goes on where the URL ends")
	require.Equal(t, "1\n", c.do(http.MethodGet, nil, nil, "query", "SELECT 1").body)
	require.Equal(t, "{\"1\":1}\n", c.must("SELECT 1 FORMAT JSONEachRow"))
	require.Equal(t, "{\"1\":1}\n", c.must("SELECT 1", "default_format", "JSONEachRow"))
	require.Equal(t, "{\"1\":1}\n", c.do(http.MethodPost, http.Header{"X-Clickhouse-Format": {"JSONEachRow"}}, strings.NewReader("SELECT 1")).body)
	a := c.post("SELECT number FROM numbers(5)", "query_id", "my-id")
	require.Equal(t, "my-id", a.header.Get("X-Clickhouse-Query-Id"))
	require.Contains(t, a.header.Get("X-Clickhouse-Summary"), `"read_rows":"5"`)
	require.Contains(t, a.header.Get("X-Clickhouse-Summary"), `"result_rows":"5"`)
	require.Equal(t, c.db+"\n", c.must("SELECT currentDatabase()"))
	require.Equal(t, "system\n", c.must("SELECT currentDatabase()", "database", "system"))
}

func TestCredentialsOfAnyFormAreAccepted(t *testing.T) {
	c := newClient(t)
	require.Equal(t, "1\n", c.must("SELECT 1", "user", "anyone", "password", "secret"))
	header := http.Header{"X-Clickhouse-User": {"anyone"}, "X-Clickhouse-Key": {"secret"}, "Authorization": {"Basic YTpi"}}
	require.Equal(t, "1\n", c.do(http.MethodPost, header, strings.NewReader("SELECT 1")).body)
}

func TestGetOnlyReads(t *testing.T) {
	c := newClient(t)
	a := c.do(http.MethodGet, nil, nil, "query", "CREATE TABLE t (a Int8) ENGINE = Memory")
	require.Equal(t, "164", a.header.Get("X-Clickhouse-Exception-Code"), a.body)
	a = c.post("INSERT INTO t VALUES (1)", "readonly", "1")
	require.Equal(t, "164", a.header.Get("X-Clickhouse-Exception-Code"), a.body)
	require.Equal(t, "0\n", c.must("EXISTS TABLE t"))
}

func TestInsertFormats(t *testing.T) {
	c := newClient(t)
	c.must("CREATE TABLE t (a UInt32, b String DEFAULT 'none') ENGINE = MergeTree ORDER BY a")
	for _, tt := range []struct{ query, body string }{
		{"", "INSERT INTO t VALUES (1, 'x;'), (2, 'y\\'');"},
		{"", "INSERT INTO t (a) FORMAT CSV\n3\n4\n"},
		{"INSERT INTO t FORMAT JSONEachRow", `{"a":5,"b":"json"}` + "\n" + `{"a":6}`},
		{"INSERT INTO t (a, b) FORMAT TabSeparated", "7\tt\\tab\n"},
		{"INSERT INTO t (a, b) SETTINGS max_insert_threads = 1 FORMAT CSVWithNames", "b,a\nz,8\n"},
		{"INSERT INTO t VALUES", "(9, 'q')"},
		{"INSERT INTO t FORMAT RowBinary", "\x0a\x00\x00\x00\x01r"},
	} {
		c.must(tt.body, "query", tt.query)
	}
	require.Equal(t, "1\tx;\n2\ty\\'\n3\tnone\n4\tnone\n5\tjson\n6\tnone\n7\tt\\tab\n8\tz\n9\tq\n10\tr\n",
		c.must("SELECT * FROM t ORDER BY a"))
	a := c.post(`{"a":11}`, "query", "INSERT INTO t FORMAT JSONEachRow")
	require.Contains(t, a.header.Get("X-Clickhouse-Summary"), `"written_rows":"1"`)
}

func TestBrokenInsertLeavesNothing(t *testing.T) {
	c := newClient(t)
	c.must("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
	a := c.post("1\n2\nnot a number\n", "query", "INSERT INTO t FORMAT TabSeparated")
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Equal(t, "27", a.header.Get("X-Clickhouse-Exception-Code"), a.body)
	require.Equal(t, "0\n", c.must("SELECT count() FROM t"))
	require.Equal(t, http.StatusBadRequest, c.post("INSERT INTO t").status, "an INSERT without data is refused and does not wait for any")
	require.Equal(t, http.StatusNotFound, c.post("1\n", "query", "INSERT INTO nope FORMAT CSV").status)
}

func TestErrorsAreClickHousesOwn(t *testing.T) {
	c := newClient(t)
	for _, tt := range []struct {
		statement, code string
		status          int
	}{
		{"SELEC 1", "62", http.StatusBadRequest},
		{"", "62", http.StatusBadRequest},
		{"SELECT 1; SELECT 2", "62", http.StatusBadRequest},
		{"SELECT * FROM nope", "60", http.StatusNotFound},
		{"SELECT nope", "47", http.StatusNotFound},
		{"SELECT nope()", "46", http.StatusNotFound},
		{"SELECT 1 FORMAT Nope", "73", http.StatusNotFound},
		{"SELECT throwIf(1)", "395", http.StatusInternalServerError},
		{"CREATE USER u", "497", http.StatusInternalServerError},
		{"SYSTEM SHUTDOWN", "497", http.StatusInternalServerError},
		{"SELECT * FROM file('/etc/passwd')", "497", http.StatusInternalServerError},
		{"SELECT file('/etc/passwd')", "497", http.StatusInternalServerError},
		{"SELECT * FROM url('http://127.0.0.1/', 'CSV', 'a String')", "497", http.StatusInternalServerError},
		{"INSERT INTO FUNCTION null('a String') VALUES (file('/etc/passwd'))", "497", http.StatusInternalServerError},
		{"SELECT * FROM format(Values, 'a String', '(file(\\'/etc/passwd\\'))')", "497", http.StatusInternalServerError},
		{"SELECT 1 INTO OUTFILE '/tmp/x'", "371", http.StatusInternalServerError},
	} {
		a := c.post(tt.statement)
		require.Equal(t, tt.code, a.header.Get("X-Clickhouse-Exception-Code"), tt.statement+": "+a.body)
		require.Equal(t, tt.status, a.status, tt.statement)
		require.True(t, strings.HasPrefix(a.body, "Code: "+tt.code+". DB::Exception: "), a.body)
		require.NotContains(t, a.body, "/* request")
	}
	require.Equal(t, "115", c.post("SELECT 1", "no_such_setting", "1").header.Get("X-Clickhouse-Exception-Code"))
	require.Equal(t, "115", c.post("SELECT 1", "a = 1, b", "1").header.Get("X-Clickhouse-Exception-Code"))
	require.Equal(t, "81", c.post("SELECT 1", "database", "no`pe").header.Get("X-Clickhouse-Exception-Code"))

	conn := clickhousetest.Start(t).Conn(t)
	var exception *ch.Exception
	require.ErrorAs(t, conn.Exec(t.Context(), "SELECT * FROM nope"), &exception)
	require.Equal(t, int32(60), exception.Code)
}

func TestErrorInTheMiddleOfAResult(t *testing.T) {
	c := newClient(t)
	const query = "SELECT throwIf(number = 500000) FROM numbers(1000000) SETTINGS max_block_size = 10000, max_threads = 1"
	a := c.post(query)
	require.Equal(t, http.StatusOK, a.status, "the status had gone out")
	require.Contains(t, a.body, "\r\n__exception__\r\n"+a.header.Get("X-Clickhouse-Exception-Tag")+"\r\nCode: 395.")
	require.Equal(t, http.StatusInternalServerError, c.post(query, "wait_end_of_query", "1").status)

	s := clickhousetest.Start(t)
	for _, method := range []ch.CompressionMethod{ch.CompressionNone, ch.CompressionLZ4, ch.CompressionGZIP} {
		options := s.Options()
		options.Compression = &ch.Compression{Method: method, Level: 1}
		conn, err := ch.Open(options)
		require.NoError(t, err)
		rows, err := conn.Query(t.Context(), query)
		require.NoError(t, err)
		seen := 0
		for rows.Next() {
			seen++
		}
		var exception *ch.Exception
		require.ErrorAs(t, rows.Err(), &exception, "%s", method)
		require.Equal(t, int32(395), exception.Code)
		require.Less(t, seen, 1_000_000)
		require.NoError(t, conn.Close())
	}
}

func TestSettingsHoldForOneStatement(t *testing.T) {
	c := newClient(t)
	require.Equal(t, "1\n", c.must("SELECT getSetting('max_threads')", "max_threads", "1"))
	before := c.must("SELECT getSetting('max_threads'), getSetting('max_block_size')")
	c.must("SELECT 1", "max_threads", "1", "max_block_size", "777")
	c.must("SET max_threads = 1")
	c.must("USE system")
	for range 20 {
		require.Equal(t, before, c.must("SELECT getSetting('max_threads'), getSetting('max_block_size')"))
	}
	require.Equal(t, "it's \\\n", c.must("SELECT getSetting('log_comment') FORMAT TSVRaw", "log_comment", `it's \`))
	a := c.post("SELECT count() FROM numbers(100000000000)", "max_execution_time", "0.2")
	require.Equal(t, "159", a.header.Get("X-Clickhouse-Exception-Code"), a.body)
	require.Equal(t, http.StatusRequestTimeout, a.status)
}

func TestQueryParameters(t *testing.T) {
	c := newClient(t)
	require.Equal(t, "x\\'; DROP\n", c.must("SELECT {a:String}", "param_a", "x'; DROP"))
	require.Equal(t, "6\n", c.must("SELECT arraySum({a:Array(UInt8)})", "param_a", "[1,2,3]"))
	require.Equal(t, "456", c.post("SELECT {a:String}").header.Get("X-Clickhouse-Exception-Code"))
	conn := clickhousetest.Start(t).Conn(t)
	ctx := ch.Context(t.Context(), ch.WithParameters(ch.Parameters{"s": "it's", "n": "5"}))
	var s string
	var n uint64
	require.NoError(t, conn.QueryRow(ctx, "SELECT {s:String}, {n:UInt64}").Scan(&s, &n))
	require.Equal(t, "it's", s)
	require.Equal(t, uint64(5), n)
}

func TestSessions(t *testing.T) {
	c := newClient(t)
	c.must("CREATE TEMPORARY TABLE tmp (a Int8)", "session_id", "one")
	c.must("INSERT INTO tmp VALUES (1)", "session_id", "one")
	c.must("SET max_threads = 1", "session_id", "one")
	require.Equal(t, "1\t1\n", c.must("SELECT count(), getSetting('max_threads') FROM tmp", "session_id", "one"))
	require.Equal(t, "60", c.post("SELECT * FROM tmp", "session_id", "two").header.Get("X-Clickhouse-Exception-Code"))
	require.Equal(t, "60", c.post("SELECT * FROM tmp").header.Get("X-Clickhouse-Exception-Code"))
	require.Equal(t, "372", c.post("SELECT 1", "session_id", "three", "session_check", "1").header.Get("X-Clickhouse-Exception-Code"))
	c.must("SELECT 1", "session_id", "one", "session_timeout", "0")
	require.Equal(t, "60", c.post("SELECT * FROM tmp", "session_id", "one").header.Get("X-Clickhouse-Exception-Code"), "the session ran out")
}

func TestStreamedFormatsAreOneDocument(t *testing.T) {
	c := newClient(t)
	for _, format := range []string{
		"TabSeparated", "TSVWithNames", "TSVWithNamesAndTypes", "CSV", "CSVWithNames", "CSVWithNamesAndTypes", "JSONEachRow",
		"JSONCompactEachRow", "JSONCompactEachRowWithNamesAndTypes", "TSKV", "RowBinary", "RowBinaryWithNames", "RowBinaryWithNamesAndTypes",
		"JSON", "JSONCompact", "XML", "Values", "Markdown", "Vertical",
	} {
		const query = "SELECT number AS `a\n\"b`, toString(number) AS s FROM numbers(5000) SETTINGS max_block_size = 1000, max_threads = 1"
		require.Equal(t, withoutTimes(c.must(query, "default_format", format, "wait_end_of_query", "1")),
			withoutTimes(c.must(query, "default_format", format)), format)
	}
}

func withoutTimes(s string) string {
	var kept []string
	for line := range strings.SplitSeq(s, "\n") {
		if !strings.Contains(line, "elapsed") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func TestBodiesOfEveryEncoding(t *testing.T) {
	c := newClient(t)
	c.must("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
	var rows strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&rows, "%d\n", i)
	}
	encode := map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"br":      func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			zw, err := zstd.NewWriter(w)
			require.NoError(t, err)
			return zw
		},
	}
	decode := map[string]func(io.Reader) (io.Reader, error){
		"gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"deflate": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		"br":      func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		"zstd":    func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	for name, encoder := range encode {
		c.must("TRUNCATE TABLE t")
		var body bytes.Buffer
		w := encoder(&body)
		_, err := io.WriteString(w, rows.String())
		require.NoError(t, err)
		require.NoError(t, w.Close())
		a := c.do(http.MethodPost, http.Header{"Content-Encoding": {name}}, &body, "query", "INSERT INTO t FORMAT TSV")
		require.Equal(t, http.StatusOK, a.status, a.body)
		a = c.do(http.MethodPost, http.Header{"Accept-Encoding": {name}}, strings.NewReader("SELECT a FROM t ORDER BY a"))
		require.Equal(t, name, a.header.Get("Content-Encoding"))
		r, err := decode[name](strings.NewReader(a.body))
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, rows.String(), string(got), name)
	}
	a := c.do(http.MethodPost, http.Header{"Accept-Encoding": {"gzip"}}, strings.NewReader("SELECT 1"), "enable_http_compression", "0")
	require.Empty(t, a.header.Get("Content-Encoding"))
	a = c.do(http.MethodPost, http.Header{"Content-Encoding": {"gzip"}}, strings.NewReader("not gzip"), "query", "INSERT INTO t FORMAT TSV")
	require.Equal(t, "117", a.header.Get("X-Clickhouse-Exception-Code"), a.body)
}

func TestClickHousesOwnCompression(t *testing.T) {
	c := newClient(t)
	c.must("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a")
	for _, method := range []compress.Method{compress.LZ4, compress.ZSTD, compress.None} {
		c.must("TRUNCATE TABLE t")
		w := compress.NewWriter(compress.LevelZero, method)
		var body []byte
		for _, frame := range []string{"1\n2\n", "3\n"} {
			require.NoError(t, w.Compress([]byte(frame)))
			body = append(body, w.Data...)
		}
		insert := "INSERT INTO t FORMAT TSV"
		require.Equal(t, http.StatusOK, c.do(http.MethodPost, nil, bytes.NewReader(body), "query", insert, "decompress", "1").status)
		a := c.post("SELECT a FROM t ORDER BY a", "compress", "1", "network_compression_method", method.String())
		got, err := io.ReadAll(&frames{compress.NewReader(strings.NewReader(a.body))})
		require.NoError(t, err)
		require.Equal(t, "1\n2\n3\n", string(got))
		a = c.do(http.MethodPost, nil, bytes.NewReader(body[:len(body)-1]), "query", insert, "decompress", "1")
		require.Equal(t, "117", a.header.Get("X-Clickhouse-Exception-Code"), "a body that breaks off is refused: %s", a.body)
		body[20] ^= 1
		a = c.do(http.MethodPost, nil, bytes.NewReader(body), "query", insert, "decompress", "1")
		require.Equal(t, "117", a.header.Get("X-Clickhouse-Exception-Code"), "a wrong checksum is refused: %s", a.body)
		require.Equal(t, "3\n", c.must("SELECT count() FROM t"))
	}
}

// frames ends where ch-go's reader reports the end of its source.
type frames struct{ *compress.Reader }

func (f *frames) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && strings.HasSuffix(err.Error(), "EOF") {
		err = io.EOF
	}
	return n, err
}

func TestMultipartForm(t *testing.T) {
	c := newClient(t)
	form := "--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {a:UInt8} + 1\r\n" +
		"--x\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\n41\r\n--x--\r\n"
	a := c.do(http.MethodPost, http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, strings.NewReader(form))
	require.Equal(t, "42\n", a.body)
}

func TestLeavingClientEndsItsStatement(t *testing.T) {
	c := newClient(t)
	s := clickhousetest.Start(t)
	conn := s.Conn(t)
	for _, query := range []string{
		"SELECT max(sipHash64(number)) FROM numbers(1000000000000)",                          // no first row before its end
		"SELECT number, sipHash64(number) FROM numbers(1000000000000)",                       // streams for ever
		"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1 FORMAT JSON", // held whole
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base, strings.NewReader(query))
			if err != nil {
				return
			}
			if res, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body) // until the context ends
				_ = res.Body.Close()
			}
		}()
		require.Eventually(t, func() bool { return running(t, conn, "sipHash64") == 1 }, 10*time.Second, 10*time.Millisecond, query)
		cancel()
		<-done
		require.Eventually(t, func() bool { return running(t, conn, "sipHash64") == 0 }, 10*time.Second, 10*time.Millisecond, query)
	}
}

func running(t *testing.T, conn ch.Conn, part string) uint64 {
	t.Helper()
	var n uint64
	require.NoError(t, conn.QueryRow(context.Background(),
		"SELECT count() FROM system.processes WHERE query LIKE concat('%', ?, '%') AND query NOT LIKE '%system.processes%'", part).Scan(&n))
	return n
}

func TestShortStatementsPassALongOne(t *testing.T) {
	s := clickhousetest.Start(t)
	conn := s.Conn(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- conn.Exec(ctx, "SELECT max(sipHash64(number)) FROM numbers(1000000000000)") }()
	require.Eventually(t, func() bool { return running(t, conn, "sipHash64") == 1 }, 10*time.Second, 10*time.Millisecond)
	var one uint8
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT 1").Scan(&one))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestConcurrentClients(t *testing.T) {
	s := clickhousetest.Start(t)
	options := s.Options()
	options.MaxOpenConns, options.MaxIdleConns = 16, 16
	conn, err := ch.Open(options)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (client UInt32, n UInt32) ENGINE = MergeTree ORDER BY (client, n)"))
	const clients, batches = 12, 5
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for id := range clients {
		wg.Go(func() { errs <- insertBatches(t.Context(), conn, uint32(id), batches) })
	}
	wg.Wait()
	for range clients {
		require.NoError(t, <-errs)
	}
	var n, distinct uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(), uniqExact(client, n) FROM t").Scan(&n, &distinct))
	require.Equal(t, uint64(clients*batches*100), n)
	require.Equal(t, n, distinct)
}

func insertBatches(ctx context.Context, conn ch.Conn, id uint32, batches int) error {
	for b := range batches {
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
		if err != nil {
			return err
		}
		defer func() { _ = batch.Close() }() // sent, or failed already
		for i := range 100 {
			if err := batch.Append(id, uint32(b*100+i)); err != nil {
				return err
			}
		}
		if err := batch.Send(); err != nil {
			return err
		}
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT count() FROM t WHERE client = ?", id).Scan(&n); err != nil {
			return err
		}
		if n != uint64((b+1)*100) {
			return fmt.Errorf("client %d sees %d rows after batch %d", id, n, b)
		}
	}
	return nil
}

func TestHealthPaths(t *testing.T) {
	s := clickhousetest.Start(t)
	for path, status := range map[string]int{"/": 200, "/ping": 200, "/replicas_status": 200, "/livez": 200, "/readyz": 200, "/nope": 404} {
		res, err := http.Get("http://" + s.Addr + path)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, status, res.StatusCode, path)
		if status == 200 {
			require.Equal(t, "Ok.\n", string(body))
		}
	}
	require.NoError(t, s.Engine.Ready(t.Context()))
}
