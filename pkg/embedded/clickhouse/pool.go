package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
)

// conn is a connection of the engine with what its session now holds.
type conn struct {
	*chdb.Conn
	settings map[string]string
	database string
	// tainted says that a statement changed the session in a way that cannot be undone; such a
	// connection is closed instead of being lent again.
	tainted bool
}

// pool lends connections, one to a statement, and keeps those of named sessions.
type pool struct {
	lib      *chdb.Library
	args     []string
	baseline map[string]string
	wait     time.Duration
	version  string
	timezone string

	turns chan struct{} // one token for each statement that may run

	mu       sync.Mutex
	free     []*conn
	sessions map[string]*session
	closed   bool

	control   sync.Mutex // serialises the use of keeper
	keeper    *conn      // holds the engine open, kills statements, answers Ready
	statement atomic.Uint64
}

// session is a named session of ClickHouse's HTTP interface.
type session struct {
	conn *conn
	busy bool
	end  time.Time
}

// defaultDatabase is the one of a statement that names none.
const defaultDatabase = "default"

// maxSessions bounds the named sessions; each one holds a connection.
const maxSessions = 64

func newPool(lib *chdb.Library, cfg Config, args []string) (*pool, error) {
	p := &pool{
		lib: lib, args: args, baseline: baselineSettings(cfg), wait: cfg.QueueTimeout,
		turns: make(chan struct{}, cfg.MaxConcurrency), sessions: map[string]*session{},
	}
	keeper, err := p.connect()
	if err != nil {
		return nil, err
	}
	p.keeper = keeper
	out, _, err := keeper.Query("SELECT version(), timezone()", "TabSeparated", nil)
	if err != nil {
		keeper.Close()
		return nil, fmt.Errorf("asking the engine its version: %w", err)
	}
	p.version, p.timezone, _ = strings.Cut(strings.TrimSpace(string(out)), "\t")
	return p, nil
}

func (p *pool) connect() (*conn, error) {
	raw, err := p.lib.Connect(p.args...)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, settings: map[string]string{}, database: defaultDatabase}
	if err := c.apply(p.baseline); err != nil {
		c.Close()
		return nil, fmt.Errorf("setting a connection up: %w", err)
	}
	return c, nil
}

// apply brings the session's settings to those wanted, and what is not wanted any more back to
// its default. It costs nothing when they are the same.
func (c *conn) apply(wanted map[string]string) error {
	var changes []string
	for name, value := range wanted {
		if now, ok := c.settings[name]; !ok || now != value {
			changes = append(changes, name+" = "+quote(value))
		}
	}
	for name := range c.settings {
		if _, ok := wanted[name]; !ok {
			changes = append(changes, name+" = DEFAULT")
		}
	}
	if len(changes) == 0 {
		return nil
	}
	slices.Sort(changes)
	if _, _, err := c.Query("SET "+strings.Join(changes, ", "), "", nil); err != nil {
		c.tainted = true // some of them may be in force
		return err
	}
	c.settings = maps.Clone(wanted)
	return nil
}

// settle makes the library let go of a statement that failed or was left before its end: it holds
// the statement's memory and its entry in system.processes until the connection runs another one.
func (c *conn) settle() {
	if _, _, err := c.Query("SET log_queries = 0", "", nil); err != nil {
		c.tainted = true
	}
}

// use changes the current database.
func (c *conn) use(database string) error {
	if database == "" {
		database = defaultDatabase
	}
	if c.database == database {
		return nil
	}
	if _, _, err := c.Query("USE "+quoteIdentifier(database), "", nil); err != nil {
		return err
	}
	c.database = database
	return nil
}

// wanted is the baseline with a request's own settings over it.
func (p *pool) wanted(settings map[string]string) map[string]string {
	if len(settings) == 0 {
		return p.baseline
	}
	all := maps.Clone(p.baseline)
	maps.Copy(all, settings)
	return all
}

// acquire waits for a turn and lends a connection with these settings and this database. Give it
// back with release.
func (p *pool) acquire(ctx context.Context, req *request) (*conn, error) {
	if err := p.turn(ctx); err != nil {
		return nil, err
	}
	c, err := p.lend(req)
	if err != nil {
		<-p.turns
		return nil, err
	}
	// A session keeps the database that USE gave it.
	if req.session == "" || req.database != "" {
		if err := c.use(req.database); err != nil {
			p.release(req, c)
			return nil, err
		}
	}
	if err := c.apply(p.wanted(req.settings)); err != nil {
		p.release(req, c)
		return nil, err
	}
	return c, nil
}

func (p *pool) turn(ctx context.Context) error {
	select {
	case p.turns <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case p.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return exceptionf(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES",
			"Too many simultaneous queries: %d run and none ended within %s", cap(p.turns), p.wait)
	}
}

// lend takes the session's connection, or the free one that needs the fewest changes.
func (p *pool) lend(req *request) (*conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errors.New("the engine is shutting down")
	}
	expired := p.expireSessions(time.Now())
	defer closeAll(expired)
	if req.session != "" {
		defer p.mu.Unlock()
		return p.lendSession(req)
	}
	if c := p.takeFree(req); c != nil {
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return p.connect()
}

func (p *pool) takeFree(req *request) *conn {
	if len(p.free) == 0 {
		return nil
	}
	wanted := p.wanted(req.settings)
	best := len(p.free) - 1
	for i, c := range slices.Backward(p.free) {
		if c.database == req.database && maps.Equal(c.settings, wanted) {
			best = i
			break
		}
	}
	c := p.free[best]
	p.free = slices.Delete(p.free, best, best+1)
	return c
}

func (p *pool) lendSession(req *request) (*conn, error) {
	s, ok := p.sessions[req.session]
	switch {
	case ok && s.busy:
		return nil, exceptionf(codeSessionLocked, "SESSION_IS_LOCKED", "Session %s is locked by a concurrent client", req.session)
	case !ok && req.sessionCheck:
		return nil, exceptionf(codeSessionNotFound, "SESSION_NOT_FOUND", "Session %s not found", req.session)
	case !ok && len(p.sessions) >= maxSessions:
		return nil, exceptionf(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many sessions: %d are open", maxSessions)
	case !ok:
		c, err := p.connect()
		if err != nil {
			return nil, err
		}
		s = &session{conn: c}
		p.sessions[req.session] = s
	}
	s.busy = true
	return s.conn, nil
}

func (p *pool) expireSessions(now time.Time) []*conn {
	var expired []*conn
	for name, s := range p.sessions {
		if !s.busy && now.After(s.end) {
			expired = append(expired, s.conn)
			delete(p.sessions, name)
		}
	}
	return expired
}

// release ends the loan of a connection and the statement's turn.
func (p *pool) release(req *request, c *conn) {
	defer func() { <-p.turns }()
	p.mu.Lock()
	if req.session != "" {
		if s, ok := p.sessions[req.session]; ok && s.conn == c {
			s.busy, s.end = false, time.Now().Add(req.sessionTimeout)
			c.tainted = false
		}
		p.mu.Unlock()
		return
	}
	if !c.tainted && !p.closed {
		p.free = append(p.free, c)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	c.Close()
}

// tag returns a comment that marks one running statement, so that it can be found and killed.
func (p *pool) tag() string {
	return "/* request " + strconv.FormatUint(p.statement.Add(1), 10) + " */"
}

// kill ends the statement with this tag. The library has no other way to end a statement that has
// not yet returned its first rows.
func (p *pool) kill(tag string) error {
	p.control.Lock()
	defer p.control.Unlock()
	_, _, err := p.keeper.Query("KILL QUERY WHERE position(query, "+quote(tag)+") > 0 AND NOT startsWith(query, 'KILL') ASYNC", "Null", nil)
	return err
}

// killWhenDone kills the statement once the context ends, again and again until the returned
// function is called, because the statement may not have been registered yet at the first try.
func (p *pool) killWhenDone(ctx context.Context, tag string) (finished func()) {
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		retry := time.NewTicker(50 * time.Millisecond)
		defer retry.Stop()
		for {
			_ = p.kill(tag) // the next try comes at once
			select {
			case <-ended:
				return
			case <-retry.C:
			}
		}
	}()
	return func() { close(ended); <-stopped }
}

func (p *pool) ping(ctx context.Context) error {
	answer := make(chan error, 1)
	go func() {
		p.control.Lock()
		defer p.control.Unlock()
		_, _, err := p.keeper.Query("SELECT 1", "Null", nil)
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes every connection and stops the engine, within the context. What does not end in
// time is left behind; it cannot be interrupted from outside the library.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for range cap(p.turns) { // wait until every loan is over
		select {
		case p.turns <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("waiting for running statements: %w", ctx.Err())
		}
	}
	p.mu.Lock()
	conns := p.free
	p.free = nil
	for _, s := range p.sessions {
		conns = append(conns, s.conn)
	}
	p.sessions = map[string]*session{}
	p.mu.Unlock()
	down := make(chan error, 1)
	go func() {
		closeAll(conns)
		p.control.Lock()
		defer p.control.Unlock()
		p.keeper.Close()
		down <- nil
	}()
	select {
	case err := <-down:
		return err
	case <-ctx.Done():
		return fmt.Errorf("closing the engine: %w", ctx.Err())
	}
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		c.Close()
	}
}

var literalEscaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// quote makes a string literal.
func quote(s string) string { return "'" + literalEscaper.Replace(s) + "'" }

// quoteIdentifier makes a quoted identifier.
func quoteIdentifier(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}
