package audit

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/kafka"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
)

const (
	stage  = "identity-resolver"
	hourMs = int64(3_600_000)
)

func cameIn(id string, at int64) *eventv1.Event {
	return &eventv1.Event{Tenant: "demo", Source: "web", MessageId: id, ReceivedAtMs: at}
}

func fate(id string, at int64, f ledgerv1.Fate, afterDoor bool) *ledgerv1.LedgerEntry {
	return &ledgerv1.LedgerEntry{Tenant: "demo", Source: "web", MessageId: id, ReceivedAtMs: at, Fate: f, AfterDoor: afterDoor}
}

func profileEvent(ev *eventv1.Event) *profilev1.ProfileRecord {
	return &profilev1.ProfileRecord{Tenant: "demo", Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{Event: ev}}}
}

// topicOf is a log in memory: record makes its next one.
type topicOf struct {
	t    *testing.T
	ends map[place]int64
}

func (l *topicOf) record(topic string, partition int32, m interface{ MarshalVT() ([]byte, error) }, headers ...kgo.RecordHeader) *kgo.Record {
	l.t.Helper()
	var raw []byte
	if m != nil {
		var err error
		raw, err = m.MarshalVT()
		require.NoError(l.t, err)
	} else {
		raw = []byte{0xff}
	}
	p := place{topic, partition}
	r := &kgo.Record{Topic: topic, Partition: partition, Offset: l.ends[p], Value: raw, Headers: headers}
	l.ends[p]++
	return r
}

// letter is a record that a stage gave up on, as it stands among the dead letters.
func letter(of string, extra ...kgo.RecordHeader) []kgo.RecordHeader {
	return append([]kgo.RecordHeader{
		{Key: stream.HeaderClass, Value: []byte("error")}, {Key: stream.HeaderTopic, Value: []byte(of)},
		{Key: stream.HeaderPartition, Value: []byte("0")}, {Key: stream.HeaderOffset, Value: []byte("7")}, {Key: stream.HeaderTimestamp, Value: []byte("1")},
	}, extra...)
}

// Each kind of record is booked as what it is, once.
func TestWhatEachRecordAccountsFor(t *testing.T) {
	l := &topicOf{t: t, ends: map[place]int64{}}
	b := newBooking(stage+".dlq", 0, []balance.Hour{balance.HourOf("demo", "web", 0)})
	for i := range 6 {
		b.take(l.record(topics.Events, int32(i%2), cameIn(fmt.Sprint("m", i), int64(i))))
	}
	b.take(l.record(topics.ProfileLog, 0, profileEvent(cameIn("m0", 0))))
	b.take(l.record(topics.Ledger, 0, fate("m1", 1, ledgerv1.Fate_FATE_DEDUPLICATED, true)))
	b.take(l.record(topics.Ledger, 1, fate("m2", 2, ledgerv1.Fate_FATE_SUPPRESSED, true)))
	b.take(l.record(topics.Ledger, 0, fate("m3", 3, ledgerv1.Fate_FATE_REJECTED, true)))
	b.take(l.record(topics.Ledger, 0, fate("door", 3, ledgerv1.Fate_FATE_REJECTED, false)))
	b.take(l.record(stage+".dlq", 0, cameIn("m4", 4), letter(topics.Events)...))
	b.take(l.record(stage+".dlq", 0, cameIn("not from the door", 4), letter("identity-resolver.handover")...))
	b.take(l.record(topics.ProfileLog, 0, &profilev1.ProfileRecord{Tenant: "demo"})) // no event
	require.Zero(t, b.log.unreadable)
	tally := b.log.book.Tally(balance.HourOf("demo", "web", 0))
	require.Equal(t, int64(1), tally.Difference(), "m5")
	require.Equal(t, []balance.Loose{{Hour: balance.HourOf("demo", "web", 0), MessageID: "m5", Times: 1}}, b.log.book.Loose())
	require.Equal(t, [...]int64{7, 1, 1, 2, 1, 1}, tally.Events)
	require.Equal(t, int64(1), b.log.rows[place{topics.ProfileLog, 0}].Len(), "what is no event has no row")
	require.Equal(t, int64(5), b.log.newest)

	for topic := range tables {
		if topic != topics.ProfileLog {
			b.take(l.record(topic, 2, nil))
			require.Equal(t, int64(1), b.log.rows[place{topic, 2}].Len(), "every record of %s has a row", topic)
		}
	}
	require.Zero(t, b.log.unreadable, "whose tables know what they could not read")
	require.Len(t, tables, 7)
	b.take(l.record(topics.ProfileLog, 1, nil))
	require.Equal(t, int64(1), b.log.rows[place{topics.ProfileLog, 1}].Len(), "it stands among the unreadable")
	b.take(l.record(topics.Events, 0, nil))
	b.take(l.record(topics.Ledger, 0, nil))
	b.take(l.record(topics.Ledger, 0, fate("m", 1, ledgerv1.Fate_FATE_UNSPECIFIED, true)))
	b.take(l.record(stage+".dlq", 0, nil, letter(topics.Events)...))
	b.take(l.record(stage+".dlq", 0, cameIn("m", 4), kgo.RecordHeader{Key: stream.HeaderOffset, Value: []byte("x")}))
	require.Equal(t, 6, b.log.unreadable)
}

// A dead letter that was put back is what became of it then: stored, or a new dead letter.
func TestALetterThatWasPutBackIsNoLongerOne(t *testing.T) {
	l := &topicOf{t: t, ends: map[place]int64{}}
	b := newBooking(stage+".dlq", 0, nil)
	for _, id := range []string{"waits", "mended", "fails again"} {
		b.take(l.record(topics.Events, 0, cameIn(id, 1)))
	}
	back := func(of string) kgo.RecordHeader {
		return kgo.RecordHeader{Key: stream.HeaderReplayed, Value: []byte(of)}
	}
	// Which were put back is read first.
	for _, of := range []string{"1/1", "0/1"} {
		b.take(l.record(stage+".replay", 1, cameIn("any", 1), letter(topics.Events, back(of))...))
	}
	for _, strange := range []string{"", "x/1", "1/-5", "1"} {
		b.take(l.record(stage+".replay", 1, nil, back(strange)))
	}
	b.take(l.record(stage+".dlq", 1, cameIn("waits", 1), letter(topics.Events)...))
	b.take(l.record(stage+".dlq", 1, cameIn("mended", 1), letter(topics.Events)...))
	b.take(l.record(stage+".dlq", 0, &eventv1.Event{}, letter("another topic")...))
	b.take(l.record(stage+".dlq", 0, cameIn("fails again", 1), letter(topics.Events)...))
	b.take(l.record(stage+".dlq", 0, cameIn("fails again", 1), letter(topics.Events, back("0/1"))...))
	b.take(l.record(topics.ProfileLog, 0, profileEvent(cameIn("mended", 1))))
	require.Empty(t, b.log.book.Unbalanced())
	require.Equal(t, [...]int64{3, 1, 0, 0, 0, 2}, b.log.book.Tally(balance.HourOf("demo", "web", 1)).Events)
	require.Zero(t, b.log.unreadable)
}

// Of a topic whose beginning is gone, the hours that may have begun before are left out; if new events keep
// coming, those at the end are.
func TestHoursThatAreNotWhole(t *testing.T) {
	l := &topicOf{t: t, ends: map[place]int64{{topics.Events, 1}: 40, {topics.ProfileLog, 0}: 9}}
	b := newBooking(stage+".dlq", 5*hourMs+10, nil)
	b.log.spans = map[place]span{{topics.Events, 0}: {0, 9}, {topics.Events, 1}: {40, 49}, {topics.ProfileLog, 0}: {9, 19}}
	b.take(l.record(topics.Events, 0, cameIn("long ago", 1)))
	b.take(l.record(topics.Events, 1, cameIn("first that is left", 2*hourMs+5)))
	b.take(l.record(topics.Events, 1, cameIn("late", 3*hourMs)))
	b.take(l.record(topics.ProfileLog, 0, profileEvent(cameIn("first of the log", hourMs))))
	b.take(l.record(topics.Events, 0, cameIn("in time", 5*hourMs+9)))
	b.take(l.record(topics.Events, 0, cameIn("too new", 5*hourMs+10)))
	require.Equal(t, 2*hourMs+5, b.log.floor, "the latest of the beginnings, of partitions that have lost theirs")
	require.Equal(t, 5*hourMs+10, b.log.newest)
	at := func(start int64) balance.Hour { return balance.HourOf("demo", "web", start) }
	require.Equal(t, []balance.Hour{at(0), at(hourMs), at(2 * hourMs), at(3 * hourMs), at(5 * hourMs)}, b.log.book.Hours())
	require.Equal(t, int64(1), b.log.book.Tally(at(5 * hourMs)).Events[balance.Accepted])

	require.Equal(t, []balance.Hour{at(3 * hourMs), at(5 * hourMs)}, within(b.log.book.Hours(), b.until, b.log.floor))
	require.Equal(t, []balance.Hour{at(3 * hourMs)}, within(b.log.book.Hours(), 5*hourMs, b.log.floor))
	require.Equal(t, []balance.Hour{at(3 * hourMs), at(5 * hourMs)}, within(b.log.book.Hours(), 0, 2*hourMs), "an hour that begins where the rest begins may lack some")
	require.Len(t, within(b.log.book.Hours(), 0, -1), 5)
}

// Each kind of finding, and nothing else, makes a report unclean.
func TestClean(t *testing.T) {
	require.True(t, (&Report{Hours: 1, Rows: 1}).Clean())
	for _, r := range []Report{{Unbalanced: 1}, {Gaps: []Gap{{Missing: 1}}}, {Miscounts: []Miscount{{}}}, {Unreadable: 1}} {
		require.False(t, r.Clean(), "%+v", r)
	}
}

// A topic that is not there holds nothing. A partition that cannot be looked up ends the check: left out, it
// would pass as lost, or as never sent.
func TestNoPartitionIsLeftOut(t *testing.T) {
	cluster := kafkatest.StartCluster(t, kfake.SeedTopics(3, topics.Events, topics.Ledger))
	client, err := kgo.NewClient(kafka.Config{Brokers: cluster.ListenAddrs()}.Options(slog.New(slog.DiscardHandler))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	for i := range 9 {
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.Events, Partition: int32(i % 3), Key: []byte(fmt.Sprint(i))}).FirstErr())
	}
	admin := kadm.NewClient(client)
	spans, err := spansOf(t.Context(), admin, topics.Events, "no.such.topic")
	require.NoError(t, err)
	require.Len(t, spans, 3)
	held := int64(0)
	for _, s := range spans {
		held += s.end - s.begin
	}
	require.Equal(t, int64(9), held)

	before := &log{spans: spans}
	live, err := moved(t.Context(), admin, before)
	require.NoError(t, err)
	require.False(t, live)
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.Ledger, Value: []byte("a refusal")}).FirstErr())
	live, err = moved(t.Context(), admin, before)
	require.NoError(t, err)
	require.True(t, live, "refusals come in, too")

	cluster.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range req.(*kmsg.ListOffsetsRequest).Topics {
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = topic.Topic
			for _, p := range topic.Partitions {
				part := kmsg.NewListOffsetsResponseTopicPartition()
				if part.Partition = p.Partition; p.Partition == 2 {
					part.ErrorCode = kerr.UnknownServerError.Code
				}
				out.Partitions = append(out.Partitions, part)
			}
			res.Topics = append(res.Topics, out)
		}
		return res, nil, true
	})
	_, err = spansOf(t.Context(), admin, topics.Events)
	require.ErrorContains(t, err, "partition 2 of "+topics.Events)
}

// What a transaction wrote that was given up never happened; the last record of each partition did.
func TestWhatWasGivenUpIsNotRead(t *testing.T) {
	cluster := kafkatest.StartCluster(t, kfake.SeedTopics(2, topics.ProfileLog))
	quiet := slog.New(slog.DiscardHandler)
	cfg := kafka.Config{Brokers: cluster.ListenAddrs()}
	client, err := kgo.NewClient(append(cfg.Options(quiet), kgo.TransactionalID("a stage"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	write := func(value string, end kgo.TransactionEndTry) {
		require.NoError(t, client.BeginTransaction())
		for partition := range int32(2) {
			require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.ProfileLog, Partition: partition, Value: []byte(value)}).FirstErr())
		}
		require.NoError(t, client.EndTransaction(t.Context(), end))
	}
	write("kept", kgo.TryCommit)
	write("given up", kgo.TryAbort)
	write("kept", kgo.TryCommit)
	write("given up", kgo.TryAbort)
	spans, err := spansOf(t.Context(), kadm.NewClient(client), topics.ProfileLog)
	require.NoError(t, err)
	got := map[string]int{}
	check := New(Config{Kafka: cfg, Logger: quiet, Progress: func(int) {}}, nil)
	require.NoError(t, check.read(t.Context(), spans, func(r *kgo.Record) { got[string(r.Value)]++ }))
	require.Equal(t, map[string]int{"kept": 4}, got)
}
