package httpapi

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	kgzip "github.com/klauspost/compress/gzip"

	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
	"github.com/sillage-cdp/sillage/services/ingest/internal/wire"
)

const (
	firstBuffer = 4 << 10
	// keepBuffer is the largest buffer that is kept for the next request.
	keepBuffer = 256 << 10
	// maxRatio is how much a gzip body may inflate. JSON of one shape repeated reaches 30 to 50.
	maxRatio = 100
	// ratioFrom is the inflated size from which the ratio counts: small bodies cannot hurt.
	ratioFrom = 64 << 10
)

// errBusy means that the bodies in flight take all the memory that they may.
var errBusy = errors.New("too many bytes in flight")

// reader reads bodies into memory that is used again.
type reader struct {
	budget  *intake.Budget
	buffers sync.Pool
	inflate sync.Pool
}

// body is one body in memory and what it holds of the budget.
type body struct {
	bytes []byte
	held  int64
}

// read takes in at most limit bytes, inflated. On any error the body is to be released, too.
func (rd *reader) read(r *http.Request, limit int, into *body) error {
	if r.ContentLength > int64(limit) {
		return intake.TooLarge(limit)
	}
	compressed := &counter{from: r.Body, left: int64(limit) + 1}
	switch encoding := r.Header.Get("Content-Encoding"); strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return rd.fill(compressed, nil, limit, into)
	case "gzip", "x-gzip":
	default:
		return &wire.Problem{Code: wire.BadEncoding, Detail: "Content-Encoding: only gzip and identity are understood"}
	}
	inflate, _ := rd.inflate.Get().(*kgzip.Reader)
	if inflate == nil {
		inflate = new(kgzip.Reader)
	}
	defer rd.inflate.Put(inflate)
	if err := inflate.Reset(compressed); err != nil {
		return gzipProblem(err)
	}
	return rd.fill(inflate, compressed, limit, into)
}

// fill reads from until its end, growing the buffer as bytes arrive, so that a sender who announces much
// and sends nothing takes nothing.
func (rd *reader) fill(from io.Reader, compressed *counter, limit int, into *body) error {
	buffer, _ := rd.buffers.Get().(*[]byte)
	if buffer == nil {
		fresh := make([]byte, 0, firstBuffer)
		buffer = &fresh
	}
	into.bytes = (*buffer)[:0]
	if !rd.hold(into, int64(cap(into.bytes))) {
		return errBusy
	}
	for {
		if len(into.bytes) == cap(into.bytes) {
			if len(into.bytes) > limit {
				return intake.TooLarge(limit)
			}
			if !rd.hold(into, int64(cap(into.bytes))) {
				return errBusy
			}
			grown := make([]byte, len(into.bytes), 2*cap(into.bytes))
			copy(grown, into.bytes)
			into.bytes = grown
		}
		n, err := from.Read(into.bytes[len(into.bytes):cap(into.bytes)])
		into.bytes = into.bytes[:len(into.bytes)+n]
		if len(into.bytes) > limit {
			return intake.TooLarge(limit)
		}
		if compressed != nil && len(into.bytes) > ratioFrom && int64(len(into.bytes)) > maxRatio*compressed.read {
			return &wire.Problem{Code: wire.BadEncoding, Detail: fmt.Sprintf("the gzip body inflates more than %d times", maxRatio)}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && compressed != nil {
			return gzipProblem(err)
		}
		if err != nil {
			return fmt.Errorf("reading the body: %w", err)
		}
	}
}

func (rd *reader) hold(b *body, n int64) bool {
	if !rd.budget.Take(n) {
		return false
	}
	b.held += n
	return true
}

// release gives a body's memory back; nothing may view it any more.
func (rd *reader) release(b *body) {
	rd.budget.Give(b.held)
	b.held = 0
	if c := cap(b.bytes); c > 0 && c <= keepBuffer {
		bytes := b.bytes[:0]
		rd.buffers.Put(&bytes)
	}
	b.bytes = nil
}

// gzipProblem tells a body that is no gzip from one that could not be read.
func gzipProblem(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("reading the body: %w", err)
	}
	detail := "the body is not the gzip that Content-Encoding says"
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		detail = "the gzip body is cut off"
	} else if !errors.Is(err, gzip.ErrHeader) && !errors.Is(err, kgzip.ErrHeader) {
		detail = "the gzip body is damaged"
	}
	return &wire.Problem{Code: wire.BadEncoding, Detail: detail}
}

// counter counts what is read and ends after left bytes.
type counter struct {
	from       io.Reader
	read, left int64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.from.Read(p)
	c.read += int64(n)
	c.left -= int64(n)
	return n, err
}
