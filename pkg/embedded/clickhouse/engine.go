package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
)

// Config says how the engine runs. Only DataDir is required.
type Config struct {
	// Library is the path of libchdb.so; empty means whatever [Locate] finds.
	Library string
	// DataDir is the folder of the tables. One process at a time may have it open.
	DataDir string
	// Addr is the TCP address of the HTTP interface, 127.0.0.1:8123 if empty. Port 0 takes a free
	// one; see [Engine.Addr]. There are no users: whoever reaches the port may read and write.
	Addr string
	// Logger takes one line at start and stop and one for each failure of the engine itself.
	Logger *slog.Logger

	// MaxConcurrency is how many statements run at once; the others wait. Default 8.
	MaxConcurrency int
	// QueueTimeout is how long a statement waits for its turn before it is refused with
	// TOO_MANY_SIMULTANEOUS_QUERIES. Default 30 s.
	QueueTimeout time.Duration
	// MaxThreads is the default of a statement's max_threads. Default: the number of CPUs, at most 8.
	MaxThreads int
	// MaxMemory bounds the memory of all statements and merges together, in bytes. Default 4 GiB;
	// the engine lowers it to 80 % of the machine's memory.
	MaxMemory int64
	// MaxBufferedBytes bounds a result in a format that cannot be streamed (JSON, Parquet, Pretty
	// and others, see the package's README), in bytes of ClickHouse's own layout. It stands in for
	// max_result_bytes where a request sets none. Default: a sixteenth of MaxMemory.
	MaxBufferedBytes int64
	// MaxStatementBytes bounds a statement without its data. Default 1 MiB.
	MaxStatementBytes int64
	// MaxBodyBytes bounds a request's body after decompression. Default 4 GiB.
	MaxBodyBytes int64
	// ExternalSources lets statements read and write files of this machine, URLs, object stores
	// and other databases through table functions. Off by default, because the port asks for no
	// password.
	ExternalSources bool
}

// withDefaults fills in what is not set and reports everything that is wrong.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir: is empty; name the folder for the tables"))
	} else if abs, err := filepath.Abs(c.DataDir); err != nil {
		errs = append(errs, fmt.Errorf("data_dir: %w", err))
	} else {
		c.DataDir = abs
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:8123"
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("addr: %w", err))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	errs = append(errs,
		positive("max_concurrency", &c.MaxConcurrency, 8),
		positive("queue_timeout", &c.QueueTimeout, 30*time.Second),
		positive("max_threads", &c.MaxThreads, min(runtime.NumCPU(), 8)),
		positive("max_memory", &c.MaxMemory, 4<<30),
		positive("max_buffered_bytes", &c.MaxBufferedBytes, c.MaxMemory/16),
		positive("max_statement_bytes", &c.MaxStatementBytes, 1<<20),
		positive("max_body_bytes", &c.MaxBodyBytes, 4<<30),
	)
	return c, errors.Join(errs...)
}

func positive[T int | int64 | time.Duration](field string, value *T, byDefault T) error {
	if *value < 0 {
		return fmt.Errorf("%s: is %v; give a positive value, or none for %v", field, *value, byDefault)
	}
	if *value == 0 {
		*value = byDefault
	}
	return nil
}

// engineTaken is set by the first Start of the process. It is package state because what it stands
// for is: the library holds one engine for the life of a process and cannot be restarted in it.
var engineTaken atomic.Bool

// Engine is ClickHouse inside this process, behind its HTTP interface.
type Engine struct {
	cfg     Config
	library string

	lock     *flock.Flock
	pool     *pool
	server   *http.Server
	listener net.Listener
	cancel   context.CancelFunc // ends every request that still runs
	served   chan struct{}      // closed when the server has returned
	started  atomic.Bool
}

// Open checks the configuration and finds the library. It starts nothing.
func Open(cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	library, err := Locate(cfg.Library)
	if err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w", err)
	}
	return &Engine{cfg: cfg, library: library, served: make(chan struct{})}, nil
}

// Start takes the data directory and the port, brings the engine up and serves. It returns when
// queries are answered. The engine can be started once in the life of a process, and never again
// after a Stop; that is a limit of the library.
func (e *Engine) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("starting embedded ClickHouse: %w", err)
		}
	}()
	if !engineTaken.CompareAndSwap(false, true) {
		return errors.New("this process has started the engine before, and the library allows it once;" +
			" share the one that runs, or start another process")
	}
	began := time.Now()
	undo := []func(){func() { engineTaken.Store(false) }}
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	if err := e.takeDataDir(); err != nil {
		return err
	}
	undo = append(undo, func() { _ = e.lock.Unlock() })
	if e.listener, err = listen(ctx, e.cfg.Addr); err != nil {
		return err
	}
	undo = append(undo, func() { _ = e.listener.Close() })
	args, err := writeEngineConfig(e.cfg)
	if err != nil {
		return err
	}
	lib, err := chdb.Load(e.library)
	if err != nil {
		return err
	}
	undo[0] = func() {} // from here on the process has its engine, whatever becomes of it
	if e.pool, err = newPool(lib, e.cfg, args); err != nil {
		return err
	}
	e.serve()
	e.started.Store(true)
	e.cfg.Logger.InfoContext(ctx, "embedded ClickHouse is up", slog.String("addr", e.Addr()), slog.String("version", e.pool.version),
		slog.String("data_dir", e.cfg.DataDir), slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	return nil
}

// takeDataDir makes the folder and locks it for this process.
func (e *Engine) takeDataDir() error {
	if err := os.MkdirAll(e.cfg.DataDir, 0o750); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	path := filepath.Join(e.cfg.DataDir, "sillage.lock")
	e.lock = flock.New(path)
	locked, err := e.lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	if !locked {
		return fmt.Errorf("the data directory %s is open in another process; stop that one, or give this one a directory of its own", e.cfg.DataDir)
	}
	return nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("taking the port for ClickHouse's HTTP interface: %w; stop what listens on %s, or set another address", err, addr)
	}
	return listener, nil
}

func (e *Engine) serve() {
	base, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.server = &http.Server{
		Handler:           newHandler(e.pool, e.cfg),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    2 << 20, // a statement may come in the URL
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(e.cfg.Logger.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(e.served)
		if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
			e.cfg.Logger.Error("embedded ClickHouse stopped serving", slog.Any("error", err))
		}
	}()
}

// Addr is the address that the HTTP interface listens on, with the port it was given; the
// configured one before Start.
func (e *Engine) Addr() string {
	if e.listener == nil {
		return e.cfg.Addr
	}
	return e.listener.Addr().String()
}

// Ready reports whether the engine answers a query now.
func (e *Engine) Ready(ctx context.Context) error {
	if !e.started.Load() {
		return errors.New("embedded ClickHouse is not started")
	}
	if err := e.pool.ping(ctx); err != nil {
		return fmt.Errorf("embedded ClickHouse does not answer: %w", err)
	}
	return nil
}

// stopReserve is kept of a Stop's time for killing what still runs and closing the engine.
const stopReserve = 5 * time.Second

// Stop takes no more requests, lets the running ones end until shortly before the context does,
// kills the rest, and shuts the engine down. Nothing that was acknowledged depends on it: a Stop
// that runs out of time returns an error and leaves the engine's threads to the process's end, and
// the next start finds every acknowledged row.
func (e *Engine) Stop(ctx context.Context) error {
	if !e.started.CompareAndSwap(true, false) {
		return nil
	}
	drain, done := drainContext(ctx)
	defer done()
	var errs []error
	if err := e.server.Shutdown(drain); err != nil {
		e.cancel() // kills the statements that run
		last, done := drainContext(ctx)
		defer done()
		if err := e.server.Shutdown(last); err != nil {
			errs = append(errs, e.server.Close()) // ends uploads that do not go on
		}
	}
	e.cancel()
	<-e.served
	if err := e.pool.close(ctx); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, e.lock.Unlock())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping embedded ClickHouse: %w; acknowledged rows are safe", err)
	}
	e.cfg.Logger.InfoContext(ctx, "embedded ClickHouse is down")
	return nil
}

// drainContext ends stopReserve before the context does, or at half of what is left if that is
// later; after ten seconds if the context has no end.
func drainContext(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, 2*stopReserve)
	}
	left := time.Until(deadline)
	return context.WithTimeout(ctx, max(left-stopReserve, left/2))
}
