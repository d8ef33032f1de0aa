package chdb

import (
	"runtime"
	"unsafe"
)

// The engine ties what a statement holds to the thread that began it: a statement that takes several
// calls keeps its goroutine on one thread from the first to the last. Make all of them in one goroutine.

// Rows is a result that arrives chunk by chunk. Close it in every case.
type Rows struct {
	conn   *Conn
	handle unsafe.Pointer
	ended  bool
}

// Stream starts a SELECT whose result is fetched chunk by chunk. Other statements are refused by
// the library before they run. The call lasts until the first chunk is ready, and nothing in the
// interface can cancel it before.
func (c *Conn) Stream(sql, format string, params []Param) (*Rows, error) {
	args := newArguments(sql, format, params)
	defer args.release()
	runtime.LockOSThread()
	res := c.lib.api.streamQuery(c.raw(), args.sql, args.sqlLen, args.format, args.formatLen,
		args.names, args.nameLens, args.values, args.valueLens, args.count)
	if res == nil {
		runtime.UnlockOSThread()
		return nil, &Error{Message: "Code: 1001. DB::Exception: the engine returned no stream"}
	}
	if msg := c.lib.api.resultError(res); msg != "" {
		c.lib.api.destroy(res)
		runtime.UnlockOSThread()
		return nil, &Error{Message: msg}
	}
	return &Rows{conn: c, handle: res}, nil
}

// Next returns the next chunk, or no bytes at the end of the result.
func (r *Rows) Next() ([]byte, Stats, error) {
	if r.ended {
		return nil, Stats{}, nil
	}
	chunk, stats, err := r.conn.lib.take(r.conn.lib.api.fetch(r.conn.raw(), r.handle))
	if err != nil || len(chunk) == 0 {
		r.ended = true
	}
	return chunk, stats, err
}

// Close cancels what still runs and frees the stream.
func (r *Rows) Close() {
	if r.handle == nil {
		return
	}
	if !r.ended {
		r.conn.lib.api.cancelQuery(r.conn.raw(), r.handle)
	}
	r.conn.lib.api.destroy(r.handle)
	r.handle, r.ended = nil, true
	runtime.UnlockOSThread()
}

// Insert takes the data of one INSERT. Finish it with Done or Cancel.
type Insert struct {
	conn   *Conn
	handle unsafe.Pointer
}

// Insert starts an INSERT whose data, in the format, follows by Append. The statement carries
// neither FORMAT nor data. No other statement may run on the connection until Done or Cancel.
func (c *Conn) Insert(sql, format string, params []Param) (*Insert, error) {
	args := newArguments(sql, format, params)
	defer args.release()
	runtime.LockOSThread()
	h := c.lib.api.streamInsert(c.raw(), args.sql, args.sqlLen, args.format, args.formatLen,
		args.names, args.nameLens, args.values, args.valueLens, args.count)
	if h == nil {
		runtime.UnlockOSThread()
		return nil, &Error{Message: "Code: 1001. DB::Exception: the engine returned no insert stream"}
	}
	if msg := c.lib.api.insertError(h); msg != "" {
		c.lib.api.destroyInsert(h)
		runtime.UnlockOSThread()
		return nil, &Error{Message: msg}
	}
	return &Insert{conn: c, handle: h}, nil
}

// Append hands bytes over; the library copies them and may block until it has room. After a
// refusal the insert has failed and Done tells why.
func (i *Insert) Append(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	state := i.conn.lib.api.appendData(i.handle, unsafe.Pointer(&data[0]), uintptr(len(data)))
	runtime.KeepAlive(data)
	return state == 0
}

// Done ends the data, waits until the rows are written and frees the stream.
func (i *Insert) Done() (Stats, error) {
	_, stats, err := i.conn.lib.take(i.conn.lib.api.insertDone(i.handle))
	i.free()
	return stats, err
}

// Cancel abandons the insert and frees the stream. Blocks that the engine already wrote stay, as
// with any ClickHouse insert of more than one block.
func (i *Insert) Cancel() {
	if i.handle == nil {
		return
	}
	i.conn.lib.api.cancelInsert(i.handle)
	i.free()
}

func (i *Insert) free() {
	i.conn.lib.api.destroyInsert(i.handle)
	i.handle = nil
	runtime.UnlockOSThread()
}
