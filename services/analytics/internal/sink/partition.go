package sink

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/services/analytics/internal/rows"
)

// partition buffers one partition of one topic between what is written and what is read.
type partition struct {
	topic  string
	number int32
	// start is the offset that is or will be committed: all below is in ClickHouse. -1 until known.
	start int64
	// end, if set, fixes the end of the next batch: it was announced in the committed metadata and may
	// be half written.
	end     int64
	records []*kgo.Record
	bytes   int
	since   time.Time
}

func (p *partition) add(rec *kgo.Record, now time.Time) {
	if len(p.records) == 0 {
		p.since = now
		if p.start < 0 {
			p.start = rec.Offset
		}
	}
	p.records = append(p.records, rec)
	p.bytes += len(rec.Value)
}

// due tells whether a batch should be written now: it is large or old enough, the buffers are full, or an
// announced one is whole.
func (p *partition) due(now time.Time, limits Limits, full bool) bool {
	if len(p.records) == 0 {
		return false
	}
	if p.end > 0 {
		return p.last() >= p.end-1
	}
	return full || len(p.records) >= limits.Records || p.bytes >= limits.Bytes || now.Sub(p.since) >= limits.Age
}

func (p *partition) last() int64 { return p.records[len(p.records)-1].Offset }

// seal fixes the end of the batch.
func (p *partition) seal(limits Limits) {
	if p.end > 0 {
		return
	}
	n := min(len(p.records), limits.Records)
	p.end = p.records[n-1].Offset + 1
}

// batch is the rows of the sealed batch and how many records it holds.
func (p *partition) batch() (*rows.Set, int) {
	set, n := rows.NewSet(), 0
	for _, rec := range p.records {
		if rec.Offset >= p.end {
			break
		}
		set.Add(rows.Record{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Value: rec.Value})
		n++
	}
	return set, n
}

// written drops the first n records: they are in ClickHouse.
func (p *partition) written(n int, now time.Time) {
	for _, rec := range p.records[:n] {
		p.bytes -= len(rec.Value)
	}
	p.records = append([]*kgo.Record(nil), p.records[n:]...)
	p.start, p.end, p.since = p.end, 0, now
}

// token names the batch's rows in a table: the same range of the same log is the same batch.
func (p *partition) token(group, table string) string {
	return fmt.Sprintf("%s/%s/%d/%d-%d/%s", group, p.topic, p.number, p.start, p.end, table)
}

// The announcement of a batch in the metadata of a committed offset: where it ends.
const announcement = "end="

func (p *partition) metadata() string {
	if p.end == 0 {
		return ""
	}
	return announcement + strconv.FormatInt(p.end, 10)
}

// parseMetadata reads an announcement; 0 if there is none.
func parseMetadata(text string) (int64, error) {
	digits, ok := strings.CutPrefix(text, announcement)
	if !ok {
		return 0, nil
	}
	end, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || end < 0 {
		return 0, fmt.Errorf("reading the announcement %q of a batch: it is no offset", text)
	}
	return end, nil
}
