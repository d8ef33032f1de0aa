package clickhouse

import (
	"context"
	"errors"
	"strings"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/statement"
)

// query runs a statement that takes no data and sends its result.
func (h *handler) query(ctx context.Context, c *conn, req *request, st statement.Statement, res *response) (err error) {
	tag := h.pool.tag()
	finished := h.pool.killWhenDone(ctx, tag)
	defer finished()
	defer func() {
		if err != nil {
			c.settle()
			err = withoutTag(err, "\n"+tag)
		}
	}()
	q := &running{conn: c, req: req, st: st, format: req.resultFormat(st), sql: st.SQL + "\n" + tag, res: res}
	if req.streams(st) {
		done, err := q.stream(ctx)
		if done {
			return err
		}
	}
	return q.whole()
}

// resultFormat is the format that a statement's result is to have.
func (r *request) resultFormat(st statement.Statement) string {
	switch {
	case st.Format != "":
		return st.Format
	case r.defaultFormat != "":
		return r.defaultFormat
	}
	return "TabSeparated"
}

// streams tells whether a statement's result is sent chunk by chunk.
func (r *request) streams(st statement.Statement) bool {
	return st.Kind == statement.Select && !r.waitEnd && formatOf(r.resultFormat(st)).streamable()
}

// withoutTag keeps the tag out of the engine's quotations of the statement.
func withoutTag(err error, tag string) error {
	if engine, ok := errors.AsType[*chdb.Error](err); ok {
		return &chdb.Error{Message: strings.ReplaceAll(engine.Message, tag, "")}
	}
	return err
}

// running is a statement under way.
type running struct {
	conn   *conn
	req    *request
	st     statement.Statement
	format string
	sql    string
	res    *response
}

// whole runs the statement and sends the result when the engine has all of it.
func (q *running) whole() error {
	return q.conn.View(q.sql, q.format, q.req.params, func(out []byte, stats chdb.Stats) error {
		out, err := q.encode(out)
		if err != nil {
			return err
		}
		q.res.start(q.format, stats)
		return q.res.write(out)
	})
}

// stream sends the result as it comes. It reports false if the engine does not stream this
// statement; then nothing has been run.
//
// One chunk is held back until the next is there: a result of one chunk, which most are, then
// still has its true summary, and its error its status.
func (q *running) stream(ctx context.Context) (done bool, err error) {
	rows, err := q.conn.Stream(q.sql, q.format, q.req.params)
	if err != nil {
		return !notStreamable(err), err
	}
	defer rows.Close()
	chunk, total, err := rows.Next()
	if err != nil {
		return true, err
	}
	if len(chunk) == 0 {
		return true, q.empty(total)
	}
	header := formatOf(q.format).header
	for first := true; len(chunk) > 0; first = false {
		following, stats, err := rows.Next()
		if err != nil {
			return true, err
		}
		total.Add(stats)
		if err := ctx.Err(); err != nil {
			return true, err
		}
		if !first {
			chunk = chunk[header(chunk):]
		}
		if chunk, err = q.encode(chunk); err != nil {
			return true, err
		}
		if !q.res.sent {
			q.res.start(q.format, total)
		}
		if err := q.res.write(chunk); err != nil {
			return true, err
		}
		chunk = following
	}
	return true, nil
}

// notStreamable recognises the refusal of a statement that is no SELECT, such as WITH ... INSERT.
func notStreamable(err error) bool {
	var engine *chdb.Error
	return errors.As(err, &engine) && strings.Contains(engine.Message, "Streaming query is not supported")
}

func (q *running) encode(chunk []byte) ([]byte, error) {
	if !strings.EqualFold(q.format, "Native") {
		return chunk, nil
	}
	return transcodeNative(chunk, q.req.revision)
}

// empty answers a SELECT without rows. The library writes nothing at all then, where a server
// still sends the header of the format, from which clients learn the columns.
func (q *running) empty(stats chdb.Stats) error {
	out, err := q.emptyBody()
	if err != nil {
		out = nil // the result is empty all the same
	}
	q.res.start(q.format, stats)
	return q.res.write(out)
}

func (q *running) emptyBody() ([]byte, error) {
	if !strings.EqualFold(q.format, "Native") {
		return nil, nil
	}
	description, _, err := q.conn.Query("DESCRIBE TABLE ("+q.st.Bare+"\n)", "TabSeparated", q.req.params)
	if err != nil {
		return nil, err
	}
	return nativeHeader(parseDescription(description), q.req.revision)
}
