package audit

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

// tables are the tables whose rows say which record they are from.
var tables = map[string]string{
	topics.ProfileLog: "events", topics.Links: "identity_links", topics.Segments: "memberships", topics.Scores: "scores",
	topics.Steps: "journey_steps", topics.Sends: "sends", topics.Outcomes: "outcomes",
}

// doorTopics are where events come in.
var doorTopics = []string{topics.Events, topics.Ledger}

// booking reads Kafka into a log. until, if it is not 0, leaves out events that came in at or after it.
type booking struct {
	log   *log
	until int64
	first map[place]bool
	// replays is where dead letters are put back, and again are those that were, by partition: what they
	// become from then on accounts for them.
	replays string
	again   map[int32]*balance.Offsets
}

func newBooking(deadLetters string, until int64, keep []balance.Hour) *booking {
	return &booking{
		log:   &log{spans: make(map[place]span), book: balance.NewBook(keep...), rows: make(map[place]*balance.Offsets)},
		until: until, first: make(map[place]bool),
		replays: stream.Topology{Name: stageOf(deadLetters)}.ReplayTopic(), again: make(map[int32]*balance.Offsets),
	}
}

// stageOf is the stage whose dead letters a topic holds.
func stageOf(deadLetters string) string { return strings.TrimSuffix(deadLetters, ".dlq") }

// book reads what came in up to now, then which dead letters were put back, and then all that may account
// for it. It keeps the ids of the hours that are given.
func (c *Check) book(ctx context.Context, admin *kadm.Client, until int64, keep []balance.Hour) (*log, error) {
	b := newBooking(c.cfg.DeadLetters, until, keep)
	others := []string{c.cfg.DeadLetters}
	for topic := range tables {
		others = append(others, topic)
	}
	for _, names := range [][]string{doorTopics, {b.replays}, others} {
		spans, err := spansOf(ctx, admin, names...)
		if err != nil {
			return nil, err
		}
		maps.Copy(b.log.spans, spans)
		if err := c.read(ctx, spans, b.take); err != nil {
			return nil, err
		}
	}
	return b.log, nil
}

func (b *booking) take(r *kgo.Record) {
	var err error
	switch r.Topic {
	case topics.Events:
		var ev eventv1.Event
		if err = ev.UnmarshalVT(r.Value); err == nil {
			b.log.newest = max(b.log.newest, ev.GetReceivedAtMs())
			b.add(r, &ev, balance.Accepted)
		}
	case topics.Ledger:
		err = b.entry(r)
	case b.replays:
		b.putBack(r)
	case topics.ProfileLog:
		var p profilev1.ProfileRecord
		if err = p.UnmarshalVT(r.Value); err == nil && p.GetEvent() != nil {
			b.row(r)
			b.add(r, p.GetEvent().GetEvent(), balance.Stored)
		}
	default:
		if _, ok := tables[r.Topic]; ok {
			b.row(r)
			return
		}
		b.deadLetter(r)
	}
	if err != nil {
		b.log.unreadable++
		if _, ok := tables[r.Topic]; ok {
			b.row(r) // it stands among the unreadable records
		}
	}
}

// row notes that a record makes a row.
func (b *booking) row(r *kgo.Record) {
	p := place{r.Topic, r.Partition}
	if b.log.rows[p] == nil {
		b.log.rows[p] = balance.NewOffsets()
	}
	b.log.rows[p].Add(r.Offset)
}

func (b *booking) add(r *kgo.Record, ev *eventv1.Event, fate balance.Fate) {
	b.note(r, ev.GetTenant(), ev.GetSource(), ev.GetReceivedAtMs(), ev.GetMessageId(), fate)
}

func (b *booking) note(r *kgo.Record, tenant, source string, receivedAtMs int64, id string, fate balance.Fate) {
	if p := (place{r.Topic, r.Partition}); !b.first[p] {
		b.first[p] = true
		if b.log.spans[p].begin > 0 {
			b.log.floor = max(b.log.floor, receivedAtMs)
		}
	}
	if b.until == 0 || receivedAtMs < b.until {
		b.log.book.Add(balance.HourOf(tenant, source, receivedAtMs), fate, id)
	}
}

// entry books an event of the ledger's topic; one that was refused at the door came in there as well.
func (b *booking) entry(r *kgo.Record) error {
	var e ledgerv1.LedgerEntry
	if err := e.UnmarshalVT(r.Value); err != nil {
		return err //nolint:wrapcheck // counted, not shown
	}
	fate, ok := balance.FateOf(strings.ToLower(strings.TrimPrefix(e.GetFate().String(), "FATE_")))
	if !ok {
		b.log.unreadable++
		return nil
	}
	if !e.GetAfterDoor() {
		b.note(r, e.GetTenant(), e.GetSource(), e.GetReceivedAtMs(), e.GetMessageId(), balance.Accepted)
	}
	b.note(r, e.GetTenant(), e.GetSource(), e.GetReceivedAtMs(), e.GetMessageId(), fate)
	return nil
}

// putBack notes a dead letter that was put back.
func (b *booking) putBack(r *kgo.Record) {
	for _, h := range r.Headers {
		if h.Key != stream.HeaderReplayed {
			continue
		}
		var partition int32
		var offset int64
		if _, err := fmt.Sscanf(string(h.Value), "%d/%d", &partition, &offset); err != nil || offset < 0 {
			continue // not written by this runtime; its stage makes a dead letter of it
		}
		if b.again[partition] == nil {
			b.again[partition] = balance.NewOffsets()
		}
		b.again[partition].Add(offset)
	}
}

// deadLetter books an event that the first stage could not handle, unless it was put back since.
func (b *booking) deadLetter(r *kgo.Record) {
	if again := b.again[r.Partition]; again != nil && again.Has(r.Offset) {
		return
	}
	rec := stream.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, stream.Header{Key: h.Key, Value: h.Value})
	}
	letter, err := stream.ParseDeadLetter(stageOf(r.Topic), rec)
	var ev eventv1.Event
	switch {
	case err == nil && letter.Record.Topic != topics.Events:
	case err == nil && ev.UnmarshalVT(letter.Record.Value) == nil:
		b.add(r, &ev, balance.DeadLetter)
	default:
		b.log.unreadable++
	}
}
