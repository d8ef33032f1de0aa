package clickhouse

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/internal/chdb"
)

// response writes a result, or an exception, as ClickHouse's HTTP interface does. The headers go
// out with the first bytes; until then an exception still has its status.
type response struct {
	http    http.ResponseWriter
	req     *request
	version string
	began   time.Time
	tag     string // of an exception within the body
	sent    bool
	out     io.Writer
	closers []io.Closer
}

func newResponse(w http.ResponseWriter, req *request, p *pool, began time.Time) *response {
	h := w.Header()
	h.Set("X-Clickhouse-Server-Display-Name", "sillage")
	h.Set("X-Clickhouse-Query-Id", req.queryID)
	h.Set("X-Clickhouse-Timezone", p.timezone)
	return &response{http: w, req: req, version: p.version, began: began}
}

// start sets the headers of a result.
func (r *response) start(formatName string, stats chdb.Stats) {
	r.sent = true
	r.tag = exceptionTag()
	h := r.http.Header()
	h.Set("Content-Type", formatOf(formatName).contentType)
	h.Set("X-Clickhouse-Format", formatName)
	h.Set("X-Clickhouse-Exception-Tag", r.tag)
	h.Set("X-Clickhouse-Summary", summary(stats, time.Since(r.began)))
}

// open sets up the encodings of the body; a body without bytes has none.
func (r *response) open() error {
	r.out = r.http
	encoded, err := encoder(r.http, r.req.output.content)
	if err != nil {
		return fmt.Errorf("compressing the response: %w", err)
	}
	if encoded != nil {
		r.http.Header().Set("Content-Encoding", r.req.output.content)
		r.out, r.closers = encoded, append(r.closers, encoded)
	}
	if r.req.output.frames {
		r.out = &frameWriter{to: r.out, frames: compress.NewWriter(compress.LevelZero, r.req.output.method)}
	}
	return nil
}

// encoder wraps a writer in an HTTP content encoding; it is nil for none.
func encoder(w io.Writer, encoding string) (io.WriteCloser, error) {
	switch encoding {
	case encodingGzip:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case encodingDeflate:
		return zlib.NewWriterLevel(w, zlib.BestSpeed)
	case encodingBrotli:
		return brotli.NewWriterLevel(w, brotli.BestSpeed), nil
	case encodingZstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	return nil, nil
}

// write sends bytes of the result.
func (r *response) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if r.out == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if _, err := r.out.Write(p); err != nil {
		return fmt.Errorf("writing the response: %w", err)
	}
	return nil
}

// close ends the body's encodings.
func (r *response) close() error {
	for _, c := range r.closers {
		if err := c.Close(); err != nil {
			return fmt.Errorf("ending the response: %w", err)
		}
	}
	return nil
}

// fail answers with an exception: with its status if nothing has been sent, else as the block that
// ClickHouse appends to a result that broke off.
func (r *response) fail(err error) {
	ex := asException(err, r.version)
	if r.sent {
		block := fmt.Sprintf("\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n", r.tag, ex.message, len(ex.message), r.tag)
		_ = r.write([]byte(block)) // the client is told if it still listens
		_ = r.close()
		return
	}
	h := r.http.Header()
	h.Set("Content-Type", typePlain)
	h.Set("X-Clickhouse-Exception-Code", strconv.Itoa(ex.code))
	h.Set("X-Clickhouse-Summary", summary(chdb.Stats{}, time.Since(r.began)))
	var body bytes.Buffer
	text := []byte(ex.message + "\n")
	if encoded, err := encoder(&body, r.req.output.content); err == nil && encoded != nil {
		h.Set("Content-Encoding", r.req.output.content)
		_, _ = encoded.Write(text) // into memory
		_ = encoded.Close()
		text = body.Bytes()
	}
	r.http.WriteHeader(ex.status())
	_, _ = r.http.Write(text) //nolint:gosec // plain text, as the header says; the client is told if it still listens
}

func exceptionTag() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func summary(s chdb.Stats, elapsed time.Duration) string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d",`+
		`"total_rows_to_read":"0","result_rows":"%d","result_bytes":"%d","elapsed_ns":"%d"}`,
		s.ReadRows, s.ReadBytes, s.WrittenRows, s.WrittenBytes, s.ResultRows+s.WrittenRows, s.ResultBytes+s.WrittenBytes, elapsed.Nanoseconds())
}

// frameWriter writes ClickHouse's own compressed frames, each at most maxFrame before compression.
type frameWriter struct {
	to     io.Writer
	frames *compress.Writer
}

const maxFrame = 1 << 20

func (w *frameWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		piece := p[:min(len(p), maxFrame)]
		if err := w.frames.Compress(piece); err != nil {
			return written, fmt.Errorf("compressing a frame: %w", err)
		}
		if _, err := w.to.Write(w.frames.Data); err != nil {
			return written, err
		}
		written += len(piece)
		p = p[len(piece):]
	}
	return written, nil
}
