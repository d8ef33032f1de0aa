// Package rows turns records of topics into rows of the analysts' tables. It is pure and a function of
// the records alone: the same range of a log gives the same rows, which is what makes writing it again
// after a crash harmless. A record that cannot be decoded becomes a row of `unreadable_records`.
package rows

import (
	"sort"
	"strings"
	"time"
)

// Record is a record as rows see it.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Value     []byte
}

// Table is rows for one table.
type Table struct {
	Name    string
	Columns []string
	Rows    [][]any
}

// Set gathers the rows of a range of one partition of one topic.
type Set struct {
	tables map[string]*Table
	ledger map[entry]uint64
}

// NewSet returns an empty set.
func NewSet() *Set {
	return &Set{tables: map[string]*Table{}, ledger: map[entry]uint64{}}
}

// Add adds the rows of a record.
func (s *Set) Add(rec Record) {
	decode, ok := decoders[rec.Topic]
	if !ok {
		s.unreadable(rec, "no table takes this topic")
		return
	}
	if err := decode(s, rec); err != nil {
		s.unreadable(rec, err.Error())
	}
}

// Tables are the rows by table, sorted by its name; the ledger's are summed by key.
func (s *Set) Tables() []Table {
	out := make([]Table, 0, len(s.tables)+1)
	for _, t := range s.tables {
		out = append(out, *t)
	}
	if len(s.ledger) > 0 {
		out = append(out, s.ledgerTable())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func (s *Set) add(name string, columns []string, row ...any) {
	t := s.tables[name]
	if t == nil {
		t = &Table{Name: name, Columns: columns}
		s.tables[name] = t
	}
	t.Rows = append(t.Rows, row)
}

var unreadableColumns = []string{"topic", "log_partition", "log_offset", "reason", "value"}

func (s *Set) unreadable(rec Record, reason string) {
	s.add("unreadable_records", unreadableColumns, rec.Topic, uint32(rec.Partition), uint64(rec.Offset), reason, string(rec.Value))
}

// entry is a key of the ledger.
type entry struct {
	tenant, source string
	hour           int64
	fate, reason   string
}

const hour = int64(time.Hour / time.Millisecond)

func (s *Set) count(tenant, source string, receivedAtMs int64, fate, reason string) {
	s.ledger[entry{tenant, source, receivedAtMs - receivedAtMs%hour, fate, reason}]++
}

var ledgerColumns = []string{"tenant", "source", "hour", "fate", "reason", "events"}

func (s *Set) ledgerTable() Table {
	keys := make([]entry, 0, len(s.ledger))
	for k := range s.ledger {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].less(keys[j]) })
	t := Table{Name: "ledger", Columns: ledgerColumns}
	for _, k := range keys {
		t.Rows = append(t.Rows, []any{k.tenant, k.source, at(k.hour), k.fate, k.reason, s.ledger[k]})
	}
	return t
}

func (e entry) less(o entry) bool {
	if e.hour != o.hour {
		return e.hour < o.hour
	}
	return strings.Join([]string{e.tenant, e.source, e.fate, e.reason}, "\x00") < strings.Join([]string{o.tenant, o.source, o.fate, o.reason}, "\x00")
}

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// word is the end of an enum's name in lower case: EVENT_TYPE_TRACK is `track`.
func word(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }
