package importer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/sillage-cdp/sillage/services/sillage/internal/mapping"
	"github.com/sillage-cdp/sillage/services/sillage/internal/rows"
)

// Codes of rows that make no event.
const (
	// GroupTooLong is an event of more than maxGroup rows.
	GroupTooLong = "group_too_long"
	// GroupSplit is a row whose group has ended before: the rows of the group are not together.
	GroupSplit = "group_split"
)

// maxGroup bounds the rows of one event.
const maxGroup = 20_000

// maxGroups bounds the groups that are remembered to notice one that comes twice.
const maxGroups = 4 << 20

// event is what one row, or one group of rows, became.
type event struct {
	line, last int // of its first and last row
	text       []byte
	bad        *rows.Bad
}

// events makes the events of a file, in the order of its rows.
type events struct {
	from    rows.Reader
	mapping *mapping.Mapping
	file    mapping.File
	after   int // rows up to this line are passed over

	ahead     *row // read, and of the next group
	seed      maphash.Seed
	seen      map[uint64]struct{}
	exhausted bool
}

// row is a row that is kept; its values are taken out of the reader's hands.
type row struct {
	rows.Row
	line int
	bad  *rows.Bad
}

func newEvents(from rows.Reader, o Options, after int) *events {
	return &events{from: from, mapping: o.Mapping, file: o.File, after: after, seed: maphash.MakeSeed(), seen: make(map[uint64]struct{})}
}

// next returns the next event, or io.EOF.
func (e *events) next() (event, error) {
	for {
		var ev event
		var err error
		if e.mapping.GroupBy() == "" {
			ev, err = e.single()
		} else {
			ev, err = e.group()
		}
		if err != nil || ev.last > e.after {
			return ev, err
		}
	}
}

func (e *events) single() (event, error) {
	row, line, err := e.from.Next()
	ev := event{line: line, last: line}
	if err = asBad(err, &ev.bad); err == nil && ev.bad == nil && line > e.after {
		return e.mapped(ev, []rows.Row{row})
	}
	return ev, err
}

// asBad takes an error that is about one row apart from one that ends the file.
func asBad(err error, bad **rows.Bad) error {
	if errors.As(err, bad) {
		return nil
	}
	return err
}

func (e *events) mapped(ev event, group []rows.Row) (event, error) {
	text, err := e.mapping.Event(e.file, ev.line, group)
	ev.text = text
	return ev, asBad(err, &ev.bad)
}

// group gathers the rows that follow one another with the same value. A row that cannot be read, or whose
// group has no value, is an event of its own.
func (e *events) group() (event, error) {
	first, err := e.take()
	if err != nil {
		return event{}, err
	}
	ev := event{line: first.line, last: first.line, bad: first.bad}
	if ev.bad != nil {
		return ev, nil //nolint:nilerr // the event carries it
	}
	key, ok := first.Value(e.mapping.GroupBy())
	if !ok || key.Text == "" {
		return e.mapped(ev, []rows.Row{first})
	}
	if !e.begins(key.Text) {
		ev.bad = &rows.Bad{Code: GroupSplit, Detail: fmt.Sprintf("the rows with this value of %q are not together: sort the file by it", e.mapping.GroupBy())}
	}
	group := []rows.Row{first}
	for {
		row, err := e.take()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return ev, err
		}
		if row.bad != nil || !sameGroup(row, e.mapping.GroupBy(), key.Text) {
			e.ahead = row
			break
		}
		ev.last = row.line
		if len(group) < maxGroup {
			group = append(group, row)
		} else if ev.bad == nil {
			ev.bad = &rows.Bad{Code: GroupTooLong, Detail: fmt.Sprintf("more than %d rows in one event", maxGroup)}
		}
	}
	if ev.bad != nil || ev.last <= e.after {
		return ev, nil //nolint:nilerr // the event carries it
	}
	return e.mapped(ev, group)
}

func sameGroup(r *row, column, key string) bool {
	v, ok := r.Value(column)
	return ok && v.Text == key
}

// begins says whether a group is new.
func (e *events) begins(key string) bool {
	hash := maphash.String(e.seed, key)
	if _, known := e.seen[hash]; known {
		return false
	}
	if len(e.seen) < maxGroups {
		e.seen[hash] = struct{}{}
	}
	return true
}

// take returns the next row for keeping.
func (e *events) take() (*row, error) {
	if r := e.ahead; r != nil {
		e.ahead = nil
		return r, nil
	}
	if e.exhausted {
		return nil, io.EOF
	}
	next, line, err := e.from.Next()
	r := &row{line: line}
	if err = asBad(err, &r.bad); err != nil {
		e.exhausted = errors.Is(err, io.EOF)
		return nil, err
	}
	if r.bad == nil {
		r.Row = next.Clone()
	}
	return r, nil
}

// batch is one request and the rows before its end that made no event.
type batch struct {
	body []byte
	// lines are where its events begin, in order.
	lines []int
	// last is the last line that it accounts for.
	last int
	// refusals are of rows that were not sent.
	refusals []Refusal
}

// batches cuts the events into requests and hands each to emit, which may block.
func batches(ctx context.Context, from *events, o Options, emit func(batch)) error {
	var b batch
	flush := func() {
		if b.last == 0 {
			return
		}
		if len(b.lines) > 0 {
			b.body = append(b.body, "]}"...)
		}
		emit(b)
		b = batch{}
	}
	for {
		if err := ctx.Err(); err != nil {
			return err //nolint:wrapcheck // the caller knows its context
		}
		ev, err := from.next()
		if err != nil {
			flush()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if !b.fits(ev.text, o) {
			flush()
		}
		b.add(ev)
	}
}

func (b *batch) fits(text []byte, o Options) bool {
	if len(b.refusals) >= o.BatchEvents {
		return false
	}
	return len(b.lines) == 0 || len(b.lines) < o.BatchEvents && len(b.body)+len(text)+2 <= o.BatchBytes
}

func (b *batch) add(ev event) {
	b.last = ev.last
	if ev.bad != nil {
		b.refusals = append(b.refusals, Refusal{Line: ev.line, Code: ev.bad.Code, Detail: ev.bad.Detail})
		return
	}
	if len(b.lines) == 0 {
		b.body = append(b.body, `{"batch":[`...)
	} else {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, ev.text...)
	b.lines = append(b.lines, ev.line)
}
