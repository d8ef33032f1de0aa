package chdb

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// Conn is one connection: a session of its own, with its settings and current database. One
// statement runs on it at a time; the caller serialises.
type Conn struct {
	lib    *Library
	handle unsafe.Pointer // chdb_connection *
}

// Param is the value of one query parameter {name:Type}, in ClickHouse's escaped text form.
type Param struct {
	Name  string
	Value string
}

// Stats counts what a statement did. Result rows and bytes are in ClickHouse's own layout.
type Stats struct {
	ReadRows, ReadBytes       uint64
	ResultRows, ResultBytes   uint64
	WrittenRows, WrittenBytes uint64
}

// Add sums two counts, for the chunks of a stream.
func (s *Stats) Add(o Stats) {
	s.ReadRows += o.ReadRows
	s.ReadBytes += o.ReadBytes
	s.ResultRows += o.ResultRows
	s.ResultBytes += o.ResultBytes
	s.WrittenRows += o.WrittenRows
	s.WrittenBytes += o.WrittenBytes
}

// Error is an error of the engine, in its own words ("Code: 62. DB::Exception: ...").
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

// Connect opens a connection. The first one of a process starts the engine with these arguments
// ("--path=DIR", "--config-file=FILE"); later ones must name the same path. The library states no
// reason for a refusal except on the standard error stream.
func (l *Library) Connect(args ...string) (*Conn, error) {
	argv := make([]*byte, 0, len(args)+2)
	for _, arg := range append([]string{"clickhouse"}, args...) {
		b := append([]byte(arg), 0)
		argv = append(argv, &b[0])
	}
	argv = append(argv, nil)
	var pins runtime.Pinner
	defer pins.Unpin()
	for _, p := range argv[:len(argv)-1] {
		pins.Pin(p)
	}
	var handle unsafe.Pointer
	err := keepSignalHandlers(func() {
		handle = l.api.connect(int32(len(argv)-1), unsafe.Pointer(&argv[0]))
	})
	runtime.KeepAlive(argv)
	if err != nil {
		return nil, fmt.Errorf("connecting to the engine: %w", err)
	}
	if handle == nil {
		return nil, errors.New("connecting to the engine: refused; it wrote the reason to standard error")
	}
	return &Conn{lib: l, handle: handle}, nil
}

// Close ends the session. The last close of a process stops the engine.
func (c *Conn) Close() {
	if c.handle == nil {
		return
	}
	c.lib.api.closeConn(c.handle)
	c.handle = nil
}

// raw is the chdb_connection that most entry points take, where connect returned a pointer to it.
func (c *Conn) raw() unsafe.Pointer { return *(*unsafe.Pointer)(c.handle) }

// Query runs a statement and returns its whole result in the format (unless the statement names
// one itself). The bytes are the caller's.
func (c *Conn) Query(sql, format string, params []Param) (out []byte, stats Stats, err error) {
	err = c.View(sql, format, params, func(result []byte, s Stats) error {
		out, stats = append([]byte(nil), result...), s
		return nil
	})
	return out, stats, err
}

// View runs a statement as Query does, and shows its result to a function without copying it. The
// bytes are the library's and gone when the function returns.
func (c *Conn) View(sql, format string, params []Param, show func([]byte, Stats) error) error {
	args := newArguments(sql, format, params)
	defer args.release()
	return c.lib.view(c.lib.api.query(c.raw(), args.sql, args.sqlLen, args.format, args.formatLen,
		args.names, args.nameLens, args.values, args.valueLens, args.count), show)
}

// take copies a result out of the library and destroys it.
func (l *Library) take(res unsafe.Pointer) (out []byte, stats Stats, err error) {
	err = l.view(res, func(result []byte, s Stats) error {
		out, stats = append([]byte(nil), result...), s
		return nil
	})
	return out, stats, err
}

// view shows a result to a function and destroys it.
func (l *Library) view(res unsafe.Pointer, show func([]byte, Stats) error) error {
	if res == nil {
		return &Error{Message: "Code: 1001. DB::Exception: the engine returned no result"}
	}
	defer l.api.destroy(res)
	if msg := l.api.resultError(res); msg != "" {
		return &Error{Message: msg}
	}
	var out []byte
	if n := l.api.length(res); n > 0 {
		out = unsafe.Slice((*byte)(l.api.buffer(res)), n)
	}
	return show(out, Stats{
		ReadRows: l.api.storageRowsRead(res), ReadBytes: l.api.storageBytesRead(res),
		ResultRows: l.api.resultRows(res), ResultBytes: l.api.resultBytes(res),
		WrittenRows: l.api.rowsWritten(res), WrittenBytes: l.api.bytesWritten(res),
	})
}

// Class says what a statement would do, as judged by the engine's own parser.
type Class uint32

// The classes of the library, ascending by how restricted a statement is.
const (
	ClassReadOnly Class = iota // leaves no trace
	ClassMutating              // changes a database
	ClassMutatingGlobal
	ClassControl // SET, USE, SYSTEM, KILL, BACKUP: the session's or the engine's own affairs
	ClassUnknown // did not parse
)

// Classify reports the class of a statement without running it.
func (c *Conn) Classify(sql string) (Class, error) {
	args := newArguments(sql, "", nil)
	defer args.release()
	analysis := &struct{ size, count, flags, class uint32 }{size: 16}
	if c.lib.api.classify(c.raw(), args.sql, args.sqlLen, nil, 0, unsafe.Pointer(analysis)) != 0 {
		return ClassUnknown, errors.New("classifying a statement: the connection is closed")
	}
	return Class(analysis.class), nil
}

// arguments are the statement, its format and parameters as the library reads them. They are
// pinned until release.
type arguments struct {
	pins                               runtime.Pinner
	sql, format                        unsafe.Pointer
	sqlLen, formatLen, count           uintptr
	names, nameLens, values, valueLens unsafe.Pointer
}

func newArguments(sql, format string, params []Param) *arguments {
	a := &arguments{}
	a.sql, a.sqlLen = a.text(sql)
	a.format, a.formatLen = a.text(format)
	n := len(params)
	if n == 0 {
		return a
	}
	names, values := make([]unsafe.Pointer, n), make([]unsafe.Pointer, n)
	nameLens, valueLens := make([]uintptr, n), make([]uintptr, n)
	for i, p := range params {
		names[i], nameLens[i] = a.text(p.Name)
		values[i], valueLens[i] = a.text(p.Value)
	}
	a.names, a.values = pin(&a.pins, names), pin(&a.pins, values)
	a.nameLens, a.valueLens = pin(&a.pins, nameLens), pin(&a.pins, valueLens)
	a.count = uintptr(n)
	return a
}

// text returns a pinned pointer to the bytes of s, never nil, because the library refuses nil.
func (a *arguments) text(s string) (unsafe.Pointer, uintptr) {
	if s == "" {
		empty := new(byte)
		a.pins.Pin(empty)
		return unsafe.Pointer(empty), 0
	}
	p := unsafe.StringData(s)
	a.pins.Pin(p)
	return unsafe.Pointer(p), uintptr(len(s))
}

func pin[T any](pins *runtime.Pinner, s []T) unsafe.Pointer {
	pins.Pin(&s[0])
	return unsafe.Pointer(&s[0])
}

func (a *arguments) release() { a.pins.Unpin() }
