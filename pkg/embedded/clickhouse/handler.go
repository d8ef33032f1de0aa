package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/statement"
)

// handler is ClickHouse's HTTP interface over a pool of connections.
type handler struct {
	pool *pool
	cfg  Config
	log  *slog.Logger
}

func newHandler(p *pool, cfg Config) http.Handler {
	h := &handler{pool: p, cfg: cfg, log: cfg.Logger}
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", ok)
	mux.HandleFunc("/replicas_status", ok)
	mux.HandleFunc("/livez", ok)
	mux.HandleFunc("/readyz", h.readyz)
	mux.HandleFunc("/{$}", h.statement)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "There is no handle "+r.URL.Path+"\n\nUse / or /ping for health checks.", http.StatusNotFound)
	})
	return mux
}

func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	_, _ = io.WriteString(w, "Ok.\n") // the client is gone if it fails
}

func (h *handler) readyz(w http.ResponseWriter, r *http.Request) {
	if err := h.pool.ping(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	ok(w, r)
}

// statement carries one statement out.
func (h *handler) statement(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if r.Method != http.MethodPost && r.URL.RawQuery == "" {
		ok(w, r)
		return
	}
	req, err := parseRequest(r)
	if err != nil {
		newResponse(w, &request{}, h.pool, began).fail(err)
		return
	}
	res := newResponse(w, req, h.pool, began)
	if err := h.run(r, req, res); err != nil {
		res.fail(err)
		if asException(err, "").code == codeStandardException {
			h.log.WarnContext(r.Context(), "embedded ClickHouse failed a request", slog.String("query_id", req.queryID), slog.Any("error", err))
		}
		return
	}
	if err := res.close(); err != nil {
		h.log.DebugContext(r.Context(), "embedded ClickHouse could not end a response", slog.String("query_id", req.queryID), slog.Any("error", err))
	}
}

func (h *handler) run(r *http.Request, req *request, res *response) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return exceptionf(codeNotImplemented, "NOT_IMPLEMENTED", "The method %s is not supported; use GET or POST", r.Method)
	}
	body, err := req.body(r, h.cfg.MaxBodyBytes)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only read
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		if body, err = h.readForm(r, req); err != nil {
			return err
		}
	}
	st, data, err := h.readStatement(req, body)
	if err != nil {
		return err
	}
	if st.Foreign && !h.cfg.ExternalSources {
		return exceptionf(codeAccessDenied, "ACCESS_DENIED",
			"Not enough privileges: files and foreign dictionary sources are off in the embedded engine (setting external_sources)")
	}
	h.boundBuffered(req, st)
	c, err := h.pool.acquire(r.Context(), req)
	if err != nil {
		return err
	}
	defer h.pool.release(req, c)
	if err := permit(c, req, st); err != nil {
		return err
	}
	if st.KeepsSession {
		c.tainted, c.database = true, ""
	}
	if st.Kind == statement.Insert {
		return h.insert(r.Context(), c, req, st, data, res)
	}
	return h.query(r.Context(), c, req, st, res)
}

// boundBuffered bounds a result that the engine will hold whole, unless the request does.
func (h *handler) boundBuffered(req *request, st statement.Statement) {
	if st.Kind != statement.Select || req.streams(st) || req.settings["max_result_bytes"] != "" {
		return
	}
	req.settings["max_result_bytes"] = strconv.FormatInt(h.cfg.MaxBufferedBytes, 10)
	req.settings["result_overflow_mode"] = "throw"
}

// readForm takes the statement and its parameters out of a multipart form. External tables, which
// such a form may also hold, are refused.
func (h *handler) readForm(r *http.Request, req *request) (io.ReadCloser, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, exceptionf(codeIncorrectData, "INCORRECT_DATA", "Cannot read the multipart form: %s", err)
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return http.NoBody, nil
		}
		if err != nil {
			return nil, exceptionf(codeIncorrectData, "INCORRECT_DATA", "Cannot read the multipart form: %s", err)
		}
		name := part.FormName()
		param, isParam := strings.CutPrefix(name, "param_")
		if part.FileName() != "" || name != "query" && !isParam {
			return nil, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED", "External tables are not supported by the embedded engine (form part %q)", name)
		}
		value, err := io.ReadAll(io.LimitReader(part, h.cfg.MaxStatementBytes+1))
		if err != nil {
			return nil, fmt.Errorf("reading the form part %q: %w", name, err)
		}
		if int64(len(value)) > h.cfg.MaxStatementBytes {
			return nil, h.tooLong()
		}
		if isParam {
			req.params = append(req.params, chdb.Param{Name: param, Value: string(value)})
			continue
		}
		req.query = string(value)
	}
}

func (h *handler) tooLong() error {
	return exceptionf(codeQueryTooLarge, "QUERY_IS_TOO_LARGE", "The statement is longer than %d bytes", h.cfg.MaxStatementBytes)
}

// firstRead is how much of a body is read to find the statement in it.
const firstRead = 64 << 10

// readStatement makes out the statement, which is in the URL, in the body or begins in the one and
// ends in the other, and returns what follows it: the data of an INSERT.
func (h *handler) readStatement(req *request, body io.Reader) (statement.Statement, io.Reader, error) {
	text := req.query
	if text != "" {
		text += "\n"
		if st, err := statement.Parse(text, false); err == nil && st.Kind == statement.Insert {
			return st, io.MultiReader(strings.NewReader(text[st.Data:]), body), nil
		}
	}
	for _, size := range []int64{firstRead, h.cfg.MaxStatementBytes} {
		more, err := io.ReadAll(io.LimitReader(body, size-int64(len(text))+1))
		if err != nil {
			return statement.Statement{}, nil, err
		}
		text += string(more)
		complete := int64(len(text)) <= size
		st, err := statement.Parse(text, complete)
		if err == nil && st.Kind == statement.Insert {
			return st, io.MultiReader(strings.NewReader(text[st.Data:]), body), nil
		}
		if complete && st.Incomplete {
			return st, nil, exceptionf(codeSyntaxError, "SYNTAX_ERROR", "Syntax error: the INSERT has neither VALUES nor FORMAT nor SELECT")
		}
		if complete {
			return st, nil, err
		}
	}
	return statement.Statement{}, nil, h.tooLong()
}

// permit refuses whatever changes something when the request may only read. The engine's own
// parser judges.
func permit(c *conn, req *request, st statement.Statement) error {
	if !req.readonly || st.Keyword == "SET" || st.Keyword == "USE" {
		return nil
	}
	class, err := c.Classify(st.SQL)
	if err != nil {
		return fmt.Errorf("classifying the statement: %w", err)
	}
	if class == chdb.ClassReadOnly || class == chdb.ClassUnknown && st.Kind != statement.Insert {
		return nil // what does not parse is refused by the engine with a better message
	}
	return exceptionf(codeReadonly, "READONLY", "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries")
}

// insert hands the data to the engine as it arrives. The rows are on disk when it returns.
func (h *handler) insert(ctx context.Context, c *conn, req *request, st statement.Statement, data io.Reader, res *response) (err error) {
	defer func() {
		if err != nil {
			c.settle()
		}
	}()
	stream, err := c.Insert(st.SQL, st.Format, req.params)
	if err != nil {
		return err
	}
	var guard statement.ValuesGuard
	guarded := strings.EqualFold(st.Format, "Values") && !h.cfg.ExternalSources
	buffer := make([]byte, 256<<10)
	for {
		n, err := fill(data, buffer)
		if guarded {
			if refused := guard.Check(buffer[:n]); refused != nil {
				stream.Cancel()
				return refused
			}
		}
		if !stream.Append(buffer[:n]) {
			break // Done says why
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			stream.Cancel()
			return err
		}
	}
	stats, err := stream.Done()
	if err != nil {
		return err
	}
	res.start("TabSeparated", stats)
	return nil
}

// fill reads until the buffer is full or the data ends or breaks off. The data ends with io.EOF
// itself, whatever was read before; an error of the body is never taken for its end.
func fill(data io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = data.Read(buffer[n:])
		n += m
	}
	return n, err
}
