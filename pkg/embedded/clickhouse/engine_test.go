package clickhouse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse"
	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
)

// childConfig is the environment variable that makes this test binary a server: the library allows
// one engine a process, and killing one has to kill a process.
const childConfig = "SILLAGE_TEST_CLICKHOUSE_CHILD"

func TestMain(m *testing.M) {
	if config := os.Getenv(childConfig); config != "" {
		os.Exit(serveChild(config))
	}
	os.Exit(clickhousetest.Run(m))
}

// serveChild runs an engine until SIGTERM, stops it, and then lives on until its input ends.
func serveChild(config string) int {
	var cfg clickhouse.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		say("error", err)
		return 1
	}
	engine, err := clickhouse.Open(cfg)
	if err == nil {
		err = engine.Start(context.Background())
	}
	if err != nil {
		say("error", err)
		return 1
	}
	terminated, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	say("up", engine.Addr())
	<-terminated.Done()
	ctx, stop := context.WithTimeout(context.Background(), 4*time.Second)
	defer stop()
	if err := engine.Stop(ctx); err != nil {
		say("error", err)
		return 1
	}
	say("stopped")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent lets go
	return 0
}

// say writes a line to the parent.
func say(words ...any) { fmt.Fprintln(os.Stdout, words...) }

// child is a server in a process of its own.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.Closer
	addr  string
}

// spawn starts a child and returns it with the first line that it says.
func spawn(t *testing.T, cfg clickhouse.Config) (*child, string) {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	config, err := json.Marshal(cfg)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childConfig+"="+string(config))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := &child{t: t, cmd: cmd, lines: bufio.NewScanner(stdout), stdin: stdin}
	t.Cleanup(c.kill)
	return c, c.line()
}

func start(t *testing.T, cfg clickhouse.Config) *child {
	t.Helper()
	c, said := spawn(t, cfg)
	addr, up := strings.CutPrefix(said, "up ")
	require.True(t, up, said)
	c.addr = addr
	return c
}

func (c *child) line() string {
	c.t.Helper()
	require.True(c.t, c.lines.Scan(), "the child said nothing more")
	return c.lines.Text()
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()         // killed is what it says
}

func (c *child) client() *client {
	return &client{t: c.t, base: "http://" + c.addr + "/", db: "default"}
}

func (c *child) conn() ch.Conn {
	c.t.Helper()
	conn, err := ch.Open(&ch.Options{Protocol: ch.HTTP, Addr: []string{c.addr}})
	require.NoError(c.t, err)
	return conn
}

// insertWithToken inserts rows as one block under a deduplication token.
func insertWithToken(t *testing.T, conn ch.Conn, token string, first, rows int) {
	t.Helper()
	ctx := ch.Context(t.Context(), ch.WithSettings(ch.Settings{"insert_deduplication_token": token, "insert_deduplicate": 1}))
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO t (a)")
	require.NoError(t, err)
	defer func() { require.NoError(t, batch.Close()) }()
	for i := range rows {
		require.NoError(t, batch.Append(uint64(first+i)))
	}
	require.NoError(t, batch.Send())
}

func TestAcknowledgedInsertsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	c := start(t, clickhouse.Config{DataDir: dir})
	conn := c.conn()
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100"))
	require.NoError(t, conn.Exec(t.Context(), "CREATE DATABASE other"))
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE other.u (a UInt64) ENGINE = ReplacingMergeTree ORDER BY a"))
	for round := range 4 {
		insertWithToken(t, conn, fmt.Sprint("batch-", round), round*1000, 1000)
		insertWithToken(t, conn, fmt.Sprint("batch-", round), round*1000, 1000)
		require.NoError(t, conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO other.u VALUES (%d)", round)))
		c.kill()
		require.NoError(t, conn.Close())
		c = start(t, clickhouse.Config{DataDir: dir})
		conn = c.conn()
		insertWithToken(t, conn, fmt.Sprint("batch-", round), round*1000, 1000)
		var n, distinct, other uint64
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(), uniqExact(a), (SELECT count() FROM other.u) FROM t").Scan(&n, &distinct, &other))
		require.Equal(t, uint64((round+1)*1000), n, "a token inserts once, also after a kill")
		require.Equal(t, n, distinct)
		require.Equal(t, uint64(round+1), other)
	}
	require.NoError(t, conn.Close())
}

func TestStopIsBoundedAndFreesTheDirectory(t *testing.T) {
	dir := t.TempDir()
	c := start(t, clickhouse.Config{DataDir: dir})
	c.client().must("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
	c.client().must("INSERT INTO t SELECT number FROM numbers(100000)")
	ended := make(chan answer, 1)
	go func() { ended <- c.client().post("SELECT max(sipHash64(number)) FROM numbers(1000000000000)") }()
	conn := c.conn()
	require.Eventually(t, func() bool { return running(t, conn, "sipHash64") == 1 }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, conn.Close())
	pr, pw := io.Pipe() // an upload that does not go on
	defer func() { require.NoError(t, pw.Close()) }()
	go c.client().send("INSERT INTO t FORMAT TSV", pr)
	_, err := io.WriteString(pw, strings.Repeat("7\n", 1<<20))
	require.NoError(t, err)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM), "the signal must reach Go and not the library")
	require.Equal(t, "stopped", c.line())
	require.Equal(t, "394", (<-ended).header.Get("X-Clickhouse-Exception-Code"), "the statement that ran was told")

	again := start(t, clickhouse.Config{DataDir: dir}) // while the first process still lives
	require.Equal(t, "100000\n", again.client().must("SELECT count() FROM t"))
	require.NoError(t, c.stdin.Close())
	require.NoError(t, c.cmd.Wait(), "the process ends cleanly")
}

func TestSecondProcessOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, clickhouse.Config{DataDir: dir})
	_, said := spawn(t, clickhouse.Config{DataDir: dir})
	require.Contains(t, said, "the data directory "+dir+" is open in another process; stop that one")
}

func TestBusyPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	_, said := spawn(t, clickhouse.Config{DataDir: t.TempDir(), Addr: taken.Addr().String()})
	require.Contains(t, said, "stop what listens on "+taken.Addr().String()+", or set another address")
}

func TestLimits(t *testing.T) {
	c := start(t, clickhouse.Config{
		DataDir: t.TempDir(), MaxConcurrency: 1, QueueTimeout: 100 * time.Millisecond,
		MaxStatementBytes: 100 << 10, MaxBodyBytes: 1 << 20, MaxBufferedBytes: 1 << 20,
	})
	cl := c.client()
	cl.must("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a")
	a := cl.post("SELECT '" + strings.Repeat("x", 200<<10) + "'")
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status, a.body)
	cl.must("INSERT INTO t FORMAT TSV\n" + strings.Repeat("x", 200<<10) + "\n")
	a = cl.post(strings.Repeat("yyyy\n", 300<<10), "query", "INSERT INTO t FORMAT TSV")
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status, a.body)
	require.Equal(t, "1\n", cl.must("SELECT count() FROM t"))

	a = cl.post("SELECT number FROM numbers(1000000000) FORMAT JSON")
	require.Equal(t, "396", a.header.Get("X-Clickhouse-Exception-Code"), "what is held whole is bounded: %s", a.body)

	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cl.base, strings.NewReader("SELECT number, sipHash64(number) FROM numbers(1000000000000)"))
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err, "an endless result begins to arrive")
	a = cl.post("SELECT 1")
	require.Equal(t, "202", a.header.Get("X-Clickhouse-Exception-Code"), a.body)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	cancel()
	require.NoError(t, res.Body.Close())
	require.Eventually(t, func() bool { return cl.post("SELECT 1").status == http.StatusOK }, 10*time.Second, 10*time.Millisecond)
}

func TestHalfAnInsertLeavesNothing(t *testing.T) {
	c := newClient(t)
	c.must("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"?database="+c.db+"&query=INSERT+INTO+t+FORMAT+TSV", pr)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close() // it is not expected
		}
	}()
	for i := range 10000 {
		_, err := fmt.Fprintln(pw, i)
		require.NoError(t, err)
	}
	cancel()
	require.NoError(t, pw.CloseWithError(context.Canceled))
	<-done
	conn := clickhousetest.Start(t).Conn(t)
	require.Eventually(t, func() bool { return running(t, conn, "INSERT INTO t") == 0 }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, "0\n", c.must("SELECT count() FROM t"))
}

func TestDeduplicationTokenThroughClickHouseGo(t *testing.T) {
	conn := clickhousetest.Start(t).Conn(t)
	require.NoError(t, conn.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100"))
	insertWithToken(t, conn, "one", 0, 10)
	insertWithToken(t, conn, "one", 500, 10)
	insertWithToken(t, conn, "two", 0, 10)
	var n, maximum uint64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(), max(a) FROM t").Scan(&n, &maximum))
	require.Equal(t, uint64(20), n)
	require.Equal(t, uint64(9), maximum, "the second insert under the token was dropped although its rows differ")
}

func TestEngineStartsOnceAProcess(t *testing.T) {
	clickhousetest.Start(t)
	engine, err := clickhouse.Open(clickhouse.Config{DataDir: t.TempDir(), Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	require.ErrorContains(t, engine.Start(t.Context()), "this process has started the engine before")
	require.ErrorContains(t, engine.Ready(t.Context()), "not started")
	require.NoError(t, engine.Stop(t.Context()))
}

func TestGoKeepsItsSignalHandlers(t *testing.T) {
	clickhousetest.Start(t)
	defer func() { require.NotNil(t, recover(), "a nil dereference is still a panic") }()
	var nothing *clickhouse.Config
	require.Empty(t, nothing.DataDir)
}

func TestConfigErrorsNameTheField(t *testing.T) {
	_, err := clickhouse.Open(clickhouse.Config{Addr: "nowhere", MaxMemory: -1, QueueTimeout: -time.Second})
	for _, field := range []string{"data_dir: ", "addr: ", "max_memory: ", "queue_timeout: "} {
		require.ErrorContains(t, err, field)
	}
}

func TestLocate(t *testing.T) {
	found, err := clickhouse.Locate("")
	require.NoError(t, err)

	t.Setenv(clickhouse.LibraryEnv, "")
	_, err = clickhouse.Locate("/no/such/libchdb.so")
	require.ErrorIs(t, err, clickhouse.ErrNoLibrary)
	require.ErrorContains(t, err, `the configuration names "/no/such/libchdb.so"`)

	t.Setenv(clickhouse.LibraryEnv, filepath.Dir(found))
	_, err = clickhouse.Locate("")
	require.ErrorContains(t, err, clickhouse.LibraryEnv+" names")
	require.ErrorContains(t, err, "not a regular file")

	got, err := clickhouse.Locate(found)
	require.NoError(t, err)
	require.Equal(t, found, got)

	t.Setenv(clickhouse.LibraryEnv, "")
	t.Chdir(t.TempDir())
	_, err = clickhouse.Locate("")
	require.ErrorIs(t, err, clickhouse.ErrNoLibrary)
	require.ErrorContains(t, err, "run `make engines`")
	require.ErrorContains(t, err, "set")
}
