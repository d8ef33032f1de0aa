package clickhouse

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
)

// request is what an HTTP request asks of ClickHouse's interface.
type request struct {
	query         string // of the URL; the body may hold the rest or all of it
	queryID       string
	database      string
	defaultFormat string
	settings      map[string]string
	params        []chdb.Param

	revision   uint64 // client_protocol_version: the revision Native results are encoded at
	decompress bool   // the body is in ClickHouse's own compressed frames
	output     outputEncoding
	waitEnd    bool // buffer the result, so that an error always has its status
	readonly   bool

	session        string
	sessionCheck   bool
	sessionTimeout time.Duration
}

// outputEncoding says how the result is compressed.
type outputEncoding struct {
	frames  bool            // ClickHouse's own frames
	method  compress.Method // of the frames
	content string          // Content-Encoding, empty for none
}

// The content encodings of HTTP that bodies and results may have.
const (
	encodingBrotli  = "br"
	encodingGzip    = "gzip"
	encodingZstd    = "zstd"
	encodingDeflate = "deflate"
)

// ownParameters are the URL parameters that are not settings of the engine. Users and roles are
// accepted and have no effect, because the embedded engine has one user.
var ownParameters = map[string]func(*request, string) error{
	"query":                   func(r *request, v string) error { r.query = v; return nil },
	"query_id":                func(r *request, v string) error { r.queryID = v; return nil },
	"database":                func(r *request, v string) error { r.database = v; return nil },
	"default_format":          func(r *request, v string) error { r.defaultFormat = v; return nil },
	"compress":                func(r *request, v string) error { r.output.frames = truth(v); return nil },
	"decompress":              func(r *request, v string) error { r.decompress = truth(v); return nil },
	"wait_end_of_query":       func(r *request, v string) error { r.waitEnd = truth(v); return nil },
	"readonly":                func(r *request, v string) error { r.readonly = r.readonly || v == "1" || v == "2"; return nil },
	"client_protocol_version": func(r *request, v string) (err error) { r.revision, err = strconv.ParseUint(v, 10, 32); return err },
	"session_id":              func(r *request, v string) error { r.session = v; return nil },
	"session_check":           func(r *request, v string) error { r.sessionCheck = truth(v); return nil },
	"session_timeout": func(r *request, v string) error {
		seconds, err := strconv.ParseUint(v, 10, 32)
		r.sessionTimeout = min(time.Duration(seconds)*time.Second, time.Hour)
		return err
	},
	"network_compression_method": func(r *request, v string) error {
		if strings.EqualFold(v, "ZSTD") {
			r.output.method = compress.ZSTD
		}
		return nil
	},
	"user": ignored, "password": ignored, "quota_key": ignored, "role": ignored,
	"buffer_size": ignored, "stacktrace": ignored, "enable_http_compression": ignored,
	"async_insert": ignored, "wait_for_async_insert": ignored, "close_session": ignored,
}

func ignored(*request, string) error { return nil }

func truth(v string) bool { return v == "1" || strings.EqualFold(v, "true") }

// parseRequest reads the URL and the headers. Everything that is not a parameter of the HTTP
// interface is a setting of the engine.
func parseRequest(r *http.Request) (*request, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, exceptionf(codeBadRequestParameter, "BAD_ARGUMENTS", "Cannot parse the URL's parameters: %s", err)
	}
	req := &request{
		database:       r.Header.Get("X-Clickhouse-Database"),
		defaultFormat:  r.Header.Get("X-Clickhouse-Format"),
		settings:       map[string]string{},
		readonly:       r.Method == http.MethodGet || r.Method == http.MethodHead,
		sessionTimeout: time.Minute,
		output:         outputEncoding{method: compress.LZ4},
	}
	for name := range values {
		value := values.Get(name)
		if set, own := ownParameters[name]; own {
			if err := set(req, value); err != nil {
				return nil, exceptionf(codeBadRequestParameter, "BAD_ARGUMENTS", "Cannot parse the parameter %s: %s", name, err)
			}
			continue
		}
		if param, ok := strings.CutPrefix(name, "param_"); ok {
			req.params = append(req.params, chdb.Param{Name: param, Value: value})
			continue
		}
		if !settingName(name) {
			return nil, exceptionf(115, "UNKNOWN_SETTING", "Unknown setting '%s'", name)
		}
		req.settings[name] = value
	}
	if req.queryID == "" {
		req.queryID = uuid.NewString()
	}
	if req.database == "" && req.session == "" {
		req.database = defaultDatabase
	}
	if v := values.Get("enable_http_compression"); v == "" || truth(v) {
		req.output.content = acceptedEncoding(r.Header.Get("Accept-Encoding"))
	}
	return req, nil
}

// settingName tells whether a name can stand in a SET statement.
func settingName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && c != '_' && c != '.' && (c < '0' || c > '9' || i == 0) {
			return false
		}
	}
	return name != ""
}

// acceptedEncoding picks the first encoding in ClickHouse's order that the client accepts.
func acceptedEncoding(header string) string {
	for _, encoding := range []string{encodingBrotli, encodingGzip, encodingZstd, encodingDeflate} {
		for offer := range strings.SplitSeq(header, ",") {
			name, quality, _ := strings.Cut(strings.TrimSpace(offer), ";")
			if strings.EqualFold(strings.TrimSpace(name), encoding) && strings.ReplaceAll(quality, " ", "") != "q=0" {
				return encoding
			}
		}
	}
	return ""
}

// body undoes the compression of a request's body and bounds it. Close it in every case.
func (r *request) body(in *http.Request, limit int64) (io.ReadCloser, error) {
	var decoded io.Reader = in.Body
	closing := in.Body.Close
	switch encoding := in.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case encodingGzip:
		zr, err := gzip.NewReader(in.Body)
		if err != nil {
			return nil, exceptionf(codeIncorrectData, "INCORRECT_DATA", "Cannot decompress the body: %s", err)
		}
		decoded = zr
	case encodingDeflate:
		zr, err := zlib.NewReader(in.Body)
		if err != nil {
			return nil, exceptionf(codeIncorrectData, "INCORRECT_DATA", "Cannot decompress the body: %s", err)
		}
		decoded = zr
	case encodingBrotli:
		decoded = brotli.NewReader(in.Body)
	case encodingZstd:
		zr, err := zstd.NewReader(in.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, exceptionf(codeIncorrectData, "INCORRECT_DATA", "Cannot decompress the body: %s", err)
		}
		decoded = zr
		closing = func() error { zr.Close(); return in.Body.Close() }
	default:
		return nil, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED", "Unknown Content-Encoding %q; use gzip, deflate, br or zstd", encoding)
	}
	if r.decompress {
		source := &countingReader{from: decoded}
		decoded = &frameReader{frames: compress.NewReader(source), source: source}
	}
	return &boundedBody{Reader: decoded, left: limit, limit: limit, close: closing}, nil
}

// frameReader reads ClickHouse's own compressed frames, and tells their end from their breaking off.
type frameReader struct {
	frames *compress.Reader
	source *countingReader
}

func (r *frameReader) Read(p []byte) (int, error) {
	r.source.n = 0
	n, err := r.frames.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && r.source.n == 0:
		return n, io.EOF
	}
	return n, exceptionf(codeIncorrectData, "INCORRECT_DATA", "Cannot decompress the body: %s", err)
}

// countingReader counts the bytes read since n was last set to zero.
type countingReader struct {
	from io.Reader
	n    int
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.n += n
	return n, err
}

// boundedBody refuses to go on beyond its limit, and states what the client did wrong.
type boundedBody struct {
	io.Reader
	left, limit int64
	close       func() error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return 0, exceptionf(codeQueryTooLarge, "QUERY_IS_TOO_LARGE", "The body is larger than %d bytes; send it in smaller inserts", b.limit)
	}
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("reading the body: %w", err)
	}
	return n, err
}

func (b *boundedBody) Close() error { return b.close() }
