package importer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
)

// maxLine bounds one line in bytes; a longer one is refused.
const maxLine = 8 << 20

// batch is one request.
type batch struct {
	body []byte
	// lines are the numbers of the lines in it, in order.
	lines []int
}

// batches cuts r into requests and hands each to emit, which may block.
func batches(ctx context.Context, r io.Reader, o Options, tally *tally, emit func(batch)) error {
	reader := bufio.NewReaderSize(r, 1<<20)
	var b builder
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := readLine(reader)
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended && !errors.Is(err, errLongLine) {
			return fmt.Errorf("reading line %d: %w", number, err)
		}
		switch trimmed := bytes.TrimSpace(line); {
		case errors.Is(err, errLongLine):
			tally.refuse(number, "line_too_long")
			o.Progress(1)
		case len(trimmed) == 0:
		case !isObject(trimmed):
			tally.refuse(number, "bad_json")
			o.Progress(1)
		default:
			if !b.fits(trimmed, o) {
				emit(b.take())
			}
			b.add(number, trimmed)
		}
		if ended {
			if len(b.lines) > 0 {
				emit(b.take())
			}
			return nil
		}
	}
}

func isObject(line []byte) bool { return line[0] == '{' && json.Valid(line) }

var errLongLine = errors.New("line too long")

// readLine reads one line whole. Of a line over maxLine it keeps nothing and returns errLongLine.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if long && err == nil {
			return nil, errLongLine
		}
		return line, err
	}
}

// builder gathers the lines of the next request.
type builder struct {
	body  bytes.Buffer
	lines []int
}

func (b *builder) fits(line []byte, o Options) bool {
	return len(b.lines) == 0 || len(b.lines) < o.BatchEvents && b.body.Len()+len(line)+2 <= o.BatchBytes
}

func (b *builder) add(number int, line []byte) {
	if len(b.lines) == 0 {
		b.body.WriteString(`{"batch":[`)
	} else {
		b.body.WriteByte(',')
	}
	b.body.Write(line)
	b.lines = append(b.lines, number)
}

func (b *builder) take() batch {
	b.body.WriteString("]}")
	out := batch{body: bytes.Clone(b.body.Bytes()), lines: b.lines}
	b.body.Reset()
	b.lines = nil
	return out
}

// tally counts what became of the lines.
type tally struct {
	mu  sync.Mutex // guards res
	res Result
}

func newTally() *tally { return &tally{} }

func (t *tally) accept(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.Accepted += n
}

func (t *tally) refuse(line int, code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.res.Refused++
	if len(t.res.Refusals) < maxRefusals {
		t.res.Refusals = append(t.res.Refusals, Refusal{Line: line, Code: code})
	}
}

func (t *tally) result() Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	sort.Slice(t.res.Refusals, func(i, j int) bool { return t.res.Refusals[i].Line < t.res.Refusals[j].Line })
	return t.res
}
