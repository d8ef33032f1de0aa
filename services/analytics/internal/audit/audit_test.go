package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	ledgerv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ledger/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/analytics/internal/audit"
	"github.com/sillage-cdp/sillage/services/analytics/internal/balance"
	"github.com/sillage-cdp/sillage/services/analytics/internal/sinktest"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Run(m)) }

var quiet = slog.New(slog.DiscardHandler)

// scene is a broker, a database, and a sink between them.
type scene struct {
	sinktest.Scene
	t *testing.T
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{Scene: sinktest.New(t), t: t}
	k := sinktest.Start(t, s.Kafka, s.Conn)
	t.Cleanup(func() { require.NoError(t, k.Stop(context.Background())) })
	return s
}

const base = int64(1_772_366_400_000)

func event(i int) *eventv1.Event {
	return &eventv1.Event{
		Tenant: "demo", Source: "web", MessageId: fmt.Sprint("m", i), Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Seen",
		TimestampMs: base, ReceivedAtMs: base + int64(i)*100_000, // 36 an hour
	}
}

func person(i int) string { return fmt.Sprint("p", i%7) }

func (s *scene) send(topic string, i int, m interface{ MarshalVT() ([]byte, error) }) {
	s.t.Helper()
	require.NoError(s.t, s.Produce(topic, person(i), m))
}

func (s *scene) comesIn(i int) { s.t.Helper(); s.send(topics.Events, i, event(i)) }

func (s *scene) stored(i int) { s.t.Helper(); s.send(topics.ProfileLog, i, storedEvent(i)) }

func storedEvent(i int) *profilev1.ProfileRecord {
	return &profilev1.ProfileRecord{
		Tenant: "demo", ProfileId: "p", Body: &profilev1.ProfileRecord_Event{Event: &profilev1.ResolvedEvent{Event: event(i)}},
	}
}

func (s *scene) fate(i int, fate ledgerv1.Fate, afterDoor bool) {
	s.t.Helper()
	ev := event(i)
	s.send(topics.Ledger, i, &ledgerv1.LedgerEntry{
		Tenant: ev.Tenant, Source: ev.Source, MessageId: ev.MessageId, ReceivedAtMs: ev.ReceivedAtMs, Fate: fate, Reason: "why", AfterDoor: afterDoor,
	})
}

// check runs the check; wait is for what is under way.
func (s *scene) check(wait time.Duration) *audit.Report {
	s.t.Helper()
	c := audit.New(audit.Config{Kafka: s.Kafka, Logger: quiet, DeadLetters: "identity-resolver.dlq", Wait: wait, Progress: func(int) {}}, s.Conn)
	report, err := c.Run(s.t.Context())
	require.NoError(s.t, err)
	return report
}

func (s *scene) exec(query string) {
	s.t.Helper()
	require.NoError(s.t, s.Conn.Exec(s.t.Context(), query))
}

// TestAPlantedLossIsFound plants losses and doubles of every kind in a history that is in order.
func TestAPlantedLossIsFound(t *testing.T) {
	s := newScene(t)
	for i := range 90 { // three hours
		switch i % 10 {
		case 3:
			s.fate(i, ledgerv1.Fate_FATE_REJECTED, false)
		case 4:
			s.comesIn(i)
			s.comesIn(i)
			s.stored(i)
			s.fate(i, ledgerv1.Fate_FATE_DEDUPLICATED, true)
		default:
			s.comesIn(i)
			s.stored(i)
		}
	}
	report := s.check(30 * time.Second)
	require.True(t, report.Clean(), "%+v", report)
	require.Equal(t, 3, report.Hours)
	require.Equal(t, map[balance.Fate]int64{
		balance.Accepted: 99, balance.Stored: 81, balance.Deduplicated: 9, balance.Rejected: 9, balance.Suppressed: 0, balance.DeadLetter: 0,
	}, report.Events)
	require.EqualValues(t, 81, report.Rows)

	s.comesIn(200) // lost between door and profile log
	s.stored(7)    // doubled there
	report = s.check(0)
	require.Equal(t, 2, report.Unbalanced)
	require.Equal(t, []balance.Loose{
		{Hour: balance.HourOf("demo", "web", event(7).ReceivedAtMs), MessageID: "m7", Times: -1},
		{Hour: balance.HourOf("demo", "web", event(200).ReceivedAtMs), MessageID: "m200", Times: 1},
	}, report.Loose)
	s.comesIn(7)
	s.stored(200)
	require.True(t, s.check(30*time.Second).Clean())

	s.exec("INSERT INTO events SELECT * FROM events WHERE message_id = 'm11'")
	s.exec("DELETE FROM events WHERE message_id = 'm12'")
	s.exec("INSERT INTO ledger SELECT tenant, source, hour, fate, reason, 1 FROM ledger WHERE fate = 'rejected' LIMIT 1")
	report = s.check(0)
	require.Zero(t, report.Unbalanced, "Kafka is in order")
	var missing, doubled int64
	for _, g := range report.Gaps {
		require.Equal(t, "events", g.Table)
		require.Len(t, g.Offsets, int(g.Missing))
		missing += g.Missing
		doubled += g.Doubled
	}
	require.EqualValues(t, 1, missing)
	require.EqualValues(t, 1, doubled)
	require.Len(t, report.Miscounts, 1)
	require.Equal(t, balance.Rejected, report.Miscounts[0].Fate)
	require.Equal(t, report.Miscounts[0].Kafka+1, report.Miscounts[0].Table)
}

// TestWhatIsUnderWayIsWaitedFor: an event that comes in is not lost because its row is not there yet, and
// while events keep coming the newest are left out.
func TestWhatIsUnderWayIsWaitedFor(t *testing.T) {
	s := newScene(t)
	for i := range 40 {
		s.comesIn(i)
	}
	var later errgroup.Group
	later.Go(func() error {
		for i := range 40 {
			if err := s.Produce(topics.ProfileLog, person(i), storedEvent(i)); err != nil {
				return err
			}
		}
		return nil
	})
	report := s.check(time.Minute)
	require.NoError(t, later.Wait())
	require.True(t, report.Clean(), "%+v", report)
	require.EqualValues(t, 40, report.Events[balance.Stored])
}

// TestAnUnreadableRecordIsReported: it stands among the unreadable rows, and the check says so.
func TestAnUnreadableRecordIsReported(t *testing.T) {
	s := newScene(t)
	require.NoError(t, s.Client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.ProfileLog, Value: []byte{0xff}}).FirstErr())
	require.Eventually(t, func() bool {
		report := s.check(0)
		return report.Unreadable == 1 && len(report.Gaps) == 0 && !report.Clean()
	}, 30*time.Second, 100*time.Millisecond)
}
