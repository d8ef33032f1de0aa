// Package clickhousetest gives tests a real ClickHouse: the embedded engine, one to a test process,
// on a free port and in a temporary folder, with a database of its own for each test.
//
// The engine needs its library; a test that cannot find it fails with the words of
// [clickhouse.Locate]. The engine runs until the process ends, or until [Run] stops it. Folders
// that earlier processes left behind are swept at the next start.
package clickhousetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gofrs/flock"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse"
)

const folderPrefix = "sillage-clickhouse-test-"

// process is the one engine of this test process, as the library allows one.
var process struct {
	once   sync.Once
	engine *clickhouse.Engine
	dir    string
	err    error
}

// Server is a database of the test process's engine.
type Server struct {
	// Engine is shared by all tests of the process; do not stop it.
	Engine *clickhouse.Engine
	// Addr is the host and port of ClickHouse's HTTP interface.
	Addr string
	// Database is the test's own; it is dropped when the test ends.
	Database string
}

// Start gives the test an empty database.
func Start(t testing.TB) *Server {
	t.Helper()
	process.once.Do(startEngine)
	require.NoError(t, process.err)
	s := &Server{
		Engine:   process.engine,
		Addr:     process.engine.Addr(),
		Database: "test_" + strings.ReplaceAll(uuid.NewString(), "-", ""),
	}
	admin := s.open(t, "default")
	require.NoError(t, admin.Exec(context.Background(), "CREATE DATABASE "+s.Database))
	t.Cleanup(func() {
		require.NoError(t, admin.Exec(context.Background(), "DROP DATABASE "+s.Database+" SYNC"))
	})
	return s
}

// Options are clickhouse-go's options for the test's database.
func (s *Server) Options() *ch.Options {
	return &ch.Options{
		Protocol: ch.HTTP,
		Addr:     []string{s.Addr},
		Auth:     ch.Auth{Database: s.Database},
	}
}

// Conn opens a clickhouse-go connection to the test's database and closes it when the test ends.
func (s *Server) Conn(t testing.TB) driver.Conn {
	t.Helper()
	return s.open(t, s.Database)
}

func (s *Server) open(t testing.TB, database string) driver.Conn {
	t.Helper()
	options := s.Options()
	options.Auth.Database = database
	conn, err := ch.Open(options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// Run is for a TestMain: it runs the tests, stops the engine if one was started, and removes its
// folder. It returns the exit code.
func Run(m *testing.M) int {
	code := m.Run()
	if process.engine == nil {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := errors.Join(process.engine.Stop(ctx), os.RemoveAll(process.dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

func startEngine() {
	sweep()
	if process.dir, process.err = os.MkdirTemp("", folderPrefix); process.err != nil {
		return
	}
	engine, err := clickhouse.Open(clickhouse.Config{DataDir: process.dir, Addr: "127.0.0.1:0"})
	if err != nil {
		process.err = err
		return
	}
	if process.err = engine.Start(context.Background()); process.err == nil {
		process.engine = engine
	}
}

// sweep removes the folders of test processes that have ended. Whatever it cannot remove stays for
// the next sweep.
func sweep() {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range folders {
		path := filepath.Join(dir, "sillage.lock")
		if _, err := os.Stat(path); err != nil {
			continue // being set up right now
		}
		lock := flock.New(path)
		if locked, err := lock.TryLock(); err == nil && locked {
			_ = os.RemoveAll(dir)
			_ = lock.Unlock()
		}
	}
}
