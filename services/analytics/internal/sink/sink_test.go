package sink_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/embedded/clickhouse/clickhousetest"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/topics"
	eventv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/event/v1"
	planv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/plan/v1"
	profilev1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/profile/v1"
	"github.com/sillage-cdp/sillage/services/analytics/internal/sink"
	"github.com/sillage-cdp/sillage/services/analytics/internal/sinktest"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Run(m)) }

type scene struct {
	sinktest.Scene
	t *testing.T
}

func newScene(t *testing.T) *scene {
	t.Helper()
	return &scene{Scene: sinktest.New(t), t: t}
}

func (s *scene) start(conn driver.Conn) *sink.Sink {
	s.t.Helper()
	return sinktest.Start(s.t, s.Kafka, conn)
}

// store writes n events to the profile log, from number first on.
func (s *scene) store(first, n int, properties string) {
	s.t.Helper()
	for i := first; i < first+n; i++ {
		raw, err := (&profilev1.ProfileRecord{Tenant: "demo", ProfileId: fmt.Sprint("p", i%7), Body: &profilev1.ProfileRecord_Event{
			Event: &profilev1.ResolvedEvent{Event: &eventv1.Event{
				Tenant: "demo", Source: "web", MessageId: fmt.Sprint("m", i), Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Seen",
				TimestampMs: 1_772_366_400_000 + int64(i)*86_400_000, ReceivedAtMs: 1_772_366_400_000, Properties: []byte(properties),
			}},
		}}).MarshalVT()
		require.NoError(s.t, err)
		s.Client.Produce(s.t.Context(), &kgo.Record{Topic: topics.ProfileLog, Key: topics.Key("demo", fmt.Sprint("p", i%7)), Value: raw}, nil)
	}
	require.NoError(s.t, s.Client.Flush(s.t.Context()))
}

func (s *scene) count(query string) (n uint64) {
	s.t.Helper()
	require.NoError(s.t, s.Conn.QueryRow(context.Background(), query).Scan(&n), query)
	return n
}

func (s *scene) eventually(want uint64, query string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.count(query) == want }, 30*time.Second, 20*time.Millisecond, "%s = %d, have %d", query, want, s.count(query))
}

func TestEventsAreStoredAndCounted(t *testing.T) {
	s := newScene(t)
	k := s.start(s.Conn)
	defer func() { require.NoError(t, k.Stop(context.Background())) }()
	s.store(0, 120, `{"product":"loan","n":3}`)
	s.eventually(120, "SELECT count() FROM events WHERE properties.product = 'loan' AND properties.n = 3")
	s.eventually(120, "SELECT sum(stored) FROM ledger_balance")
}

// What the door told of an event, and what was not as planned, stand in their columns and views.
func TestWhatTheDoorTells(t *testing.T) {
	s := newScene(t)
	k := s.start(s.Conn)
	defer func() { require.NoError(t, k.Stop(context.Background())) }()
	put := func(topic, person string, m interface{ MarshalVT() ([]byte, error) }) {
		require.NoError(t, s.Produce(topic, person, m))
	}
	put(topics.ProfileLog, "p", &profilev1.ProfileRecord{Tenant: "demo", ProfileId: "p", Body: &profilev1.ProfileRecord_Event{
		Event: &profilev1.ResolvedEvent{Event: &eventv1.Event{
			Tenant: "demo", Source: "web", MessageId: "m", Type: eventv1.EventType_EVENT_TYPE_PAGE, TimestampMs: 1_772_366_400_000, Channel: "paid_search", Bot: true,
			Campaign: &eventv1.Campaign{ClickId: "x", ClickIdType: "gclid"}, Geo: &eventv1.Geo{Country: "FR", Region: "IDF", City: "Paris"},
			Client: &eventv1.Client{Device: "mobile", Browser: "Safari", BrowserVersion: "18.1", Os: "iOS", OsVersion: "18"},
		}},
	}})
	s.eventually(1, `SELECT count() FROM events WHERE channel = 'paid_search' AND bot AND click_id = 'x' AND click_id_type = 'gclid' AND country = 'FR'
		AND region = 'IDF' AND city = 'Paris' AND device = 'mobile' AND browser = 'Safari' AND browser_version = '18.1' AND os = 'iOS' AND os_version = '18'`)

	issue := func(path, keyword string) *planv1.Issue {
		return &planv1.Issue{Path: path, Keyword: keyword, Expected: "number", Found: "string"}
	}
	for i, action := range []planv1.Action{planv1.Action_ACTION_OBSERVED, planv1.Action_ACTION_QUARANTINED} {
		put(topics.Violations, "web", &planv1.PlanViolation{
			Tenant: "demo", Source: "web", Plan: "web", PlanVersion: 2, Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Order", MessageId: fmt.Sprint("v", i),
			ReceivedAtMs: 1_772_366_400_000 + int64(i), Code: "plan_violation", Action: action, Sample: []byte(`{"price":"string"}`),
			Issues: []*planv1.Issue{issue("/price", "type"), issue(fmt.Sprint("/", i), "required")},
		})
	}
	put(topics.Violations, "web", &planv1.PlanViolation{
		Tenant: "demo", Source: "web", Plan: "web", Type: eventv1.EventType_EVENT_TYPE_TRACK, Name: "Made Up", ReceivedAtMs: 1_772_366_400_000,
		Code: "unplanned_event", Action: planv1.Action_ACTION_REJECTED,
	})
	s.eventually(3, "SELECT count() FROM plan_violations WHERE tenant = 'demo' AND type = 'track'")
	s.eventually(1, `SELECT count() FROM plan_issues WHERE path = '/price' AND keyword = 'type' AND planned = 'number' AND was = 'string' AND events = 2
		AND observed = 1 AND quarantined = 1 AND latest_message_id = 'v1' AND latest_sample = '{"price":"string"}'`)
	s.eventually(3, "SELECT count() FROM plan_issues")
	s.eventually(1, "SELECT count() FROM unplanned_events WHERE name = 'Made Up' AND events = 1")
}

func TestABadRowOrRecordCostsNothingElse(t *testing.T) {
	s := newScene(t)
	k := s.start(s.Conn)
	defer func() { require.NoError(t, k.Stop(context.Background())) }()
	s.store(0, 30, `{"a":1}`)
	s.store(30, 1, `{"a":`)
	require.NoError(t, s.Client.ProduceSync(t.Context(), &kgo.Record{Topic: topics.Sends, Key: []byte("demo/p"), Value: []byte{0xff}}).FirstErr())
	s.store(31, 30, `{"a":2}`)
	s.eventually(60, "SELECT count() FROM events")
	s.eventually(1, "SELECT count() FROM unreadable_records WHERE topic = 'sends.v1' AND value = '\\xff'")
	s.eventually(1, "SELECT count() FROM unreadable_records WHERE topic = 'profile.log.v1'")
}

// TestADeadInstanceIsMissedSoon: the group waits for an instance that died as long as it asked for when it
// joined, and no row is written meanwhile.
func TestADeadInstanceIsMissedSoon(t *testing.T) {
	cluster := kafkatest.StartCluster(t)
	asked := make(chan int32, 1)
	cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		join, ok := req.(*kmsg.JoinGroupRequest)
		if ok {
			select {
			case asked <- join.SessionTimeoutMillis:
			default:
			}
		}
		return nil, nil, false
	})
	k := sinktest.Start(t, sinktest.Kafka(t, cluster.ListenAddrs()), nil)
	defer func() { require.NoError(t, k.Stop(context.Background())) }()
	require.LessOrEqual(t, <-asked, int32(10_000))
}

// faulty fails inserts before they are sent, after they were taken, or cuts the sink off right there.
type faulty struct {
	driver.Conn
	mu   sync.Mutex
	rand *rand.Rand
	cut  chan struct{}
}

func (f *faulty) PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error) {
	batch, err := f.Conn.PrepareBatch(ctx, query, opts...) //nolint:clickhouselint // the caller closes it
	return &faultyBatch{Batch: batch, faults: f}, err
}

func (f *faulty) draw() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rand.IntN(6)
}

type faultyBatch struct {
	driver.Batch
	faults *faulty
}

var errInjected = errors.New("injected")

func (b *faultyBatch) Send() error {
	switch b.faults.draw() {
	case 0:
		return errors.Join(errInjected, b.Abort())
	case 1:
		return errors.Join(b.Batch.Send(), errInjected)
	case 2:
		err := b.Batch.Send()
		select {
		case b.faults.cut <- struct{}{}:
		default:
		}
		return errors.Join(err, errInjected)
	default:
		return b.Batch.Send()
	}
}

// TestKilledSink fails inserts before and after they take effect and drops the sink in the midst of a
// batch, again and again: every event must be there exactly once. The seed is printed.
func TestKilledSink(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := newScene(t)
	const events = 600
	for first := 0; first < events; first += 100 {
		s.store(first, 100, `{}`)
	}
	conn := &faulty{Conn: s.Conn, rand: rand.New(rand.NewPCG(seed, 1)), cut: make(chan struct{}, 1)}
	for range 6 {
		k := s.start(conn)
		select {
		case <-conn.cut:
		case <-time.After(3 * time.Second):
		}
		require.NoError(t, k.Stop(context.Background()))
	}
	k := s.start(s.Conn)
	defer func() { require.NoError(t, k.Stop(context.Background())) }()
	s.eventually(events, "SELECT uniqExact(message_id) FROM events")
	s.eventually(events, "SELECT sum(events) FROM ledger WHERE fate = 'stored'")
	require.EqualValues(t, events, s.count("SELECT count() FROM events"), "none is doubled")
}
