package rig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/chain"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/workload"
)

// Options say what a run is.
type Options struct {
	// Scenario and What stand in the table: "R3", "kill -9 in rotation".
	Scenario, What string
	Broker         Broker
	Seed           uint64
	Events         []workload.Event
	// Partitions of every topic; 0: 6.
	Partitions int32
	// MaxBatch bounds the records of a transaction of a stage process; 0: 500.
	MaxBatch int
	// Session is the session time-out of stage processes; 0: the shortest that the brokers here allow.
	Session time.Duration
	// Transaction is their transaction time-out; 0: two seconds.
	Transaction time.Duration
	// Stuck is how long nothing may come while something is missing; 0: a minute.
	Stuck time.Duration
}

// Run is one repetition of a scenario.
type Run struct {
	Options
	Names  chain.Names
	Prefix string
	Judge  *oracle.Judge
	Feeder *workload.Feeder
	Admin  *kadm.Client

	t     testing.TB
	tail  *tail
	begun time.Time
	mu    sync.Mutex // guards row
	row   report.Row
}

// New makes the topics of a run and begins to read what comes of it. When the test ends the row of the
// report is written, and on Apache Kafka the topics are deleted.
func New(t testing.TB, o Options) *Run {
	t.Helper()
	if o.Partitions == 0 {
		o.Partitions = 6
	}
	if o.MaxBatch == 0 {
		o.MaxBatch = 500
	}
	if o.Session == 0 {
		o.Session = sessionTimeout
	}
	if o.Transaction == 0 {
		o.Transaction = transactionTimeout
	}
	if o.Stuck == 0 {
		o.Stuck = time.Minute
	}
	r := &Run{Options: o, t: t, Prefix: fmt.Sprintf("f%d", o.Seed), begun: time.Now()}
	r.Names = chain.NamesOf(r.Prefix)
	r.row = report.Row{
		Scenario: o.Scenario, What: o.What, Broker: o.Broker.Kind, Seed: o.Seed, Events: len(o.Events),
		Injected: map[string]int{}, Measured: map[string]float64{},
	}
	t.Cleanup(r.write)
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Broker.Addrs...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	r.Admin = kadm.NewClient(client)
	r.Judge = oracle.NewJudge(r.Names, o.Events)
	// The dead letters are the runtime's to make, but they are read from the beginning.
	r.create(append(r.Names.Made(), r.Names.FirstDead, r.Names.SecondDead)...)
	r.tail, err = startTail(o.Broker.Addrs, r.Judge)
	require.NoError(t, err)
	t.Cleanup(r.tail.stop)
	r.Feeder, err = workload.NewFeeder(o.Broker.Addrs, r.Names)
	require.NoError(t, err)
	t.Cleanup(r.Feeder.Close)
	return r
}

func (r *Run) create(topics ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, topic := range topics {
		_, err := r.Admin.CreateTopic(ctx, r.Partitions, -1, nil, topic)
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			require.NoErrorf(r.t, err, "making topic %s", topic)
		}
	}
}

// T is the test of the run.
func (r *Run) T() testing.TB { return r.t }

// Inject counts faults in the row.
func (r *Run) Inject(kind string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Injected[kind] += n
}

// Measure notes a figure in the row; its name says the unit.
func (r *Run) Measure(name string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Measured[name] = value
}

// Feed feeds events and fails the test if that does not work.
func (r *Run) Feed(events []workload.Event, over time.Duration) {
	r.t.Helper()
	require.NoError(r.t, r.Feeder.Feed(context.Background(), events, over))
}

// Feeding is Feed beside what the test does; it says how it went.
func (r *Run) Feeding(events []workload.Event, over time.Duration) <-chan error {
	fed := make(chan error, 1)
	go func() { fed <- r.Feeder.Feed(context.Background(), events, over) }()
	return fed
}

// Settle waits until every record that must come has come at least once, and all timers with them. It
// fails the test, with what the oracle says, when nothing has come for Options.Stuck. It notes the longest
// time in which nothing came meanwhile.
func (r *Run) Settle() {
	r.t.Helper()
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	_, came := r.Judge.Missing()
	since, longest := time.Now(), time.Duration(0)
	for range looks.C {
		missing, now := r.Judge.Missing()
		if missing == 0 {
			break
		}
		if now != came {
			came, since = now, time.Now()
			continue
		}
		longest = max(longest, time.Since(since))
		if longest > r.Stuck {
			r.count(r.Judge.Verdict())
			verdict := r.Judge.Verdict()
			require.Failf(r.t, "stuck", "nothing has come for %s and %d records are missing:\n%s", r.Stuck, missing, verdict.String())
		}
	}
	r.Measure("longest silence at the end s", longest.Seconds())
}

// Check holds everything that was committed against the oracle: the records of all outputs, the state that
// the changelogs give, and the local stores under the data directories of each stage (none: no store is
// looked at). All stages have stopped in order before.
func (r *Run) Check(firstDirs, secondDirs []string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.Eventually(r.t, func() bool {
		there, err := r.tail.atEnd(ctx)
		if err != nil {
			r.t.Log(err)
		}
		return there
	}, time.Minute, 20*time.Millisecond, "the outputs cannot be read to their end: a transaction is open")
	outputs := r.Judge.Verdict()
	r.count(outputs)
	state, err := r.state(ctx, firstDirs, secondDirs)
	r.count(state)
	r.t.Logf("outputs: %s\nstate: %s", outputs.String(), state.String())
	require.NoError(r.t, err)
	require.True(r.t, outputs.Clean(), "outputs differ: %s", outputs.String())
	require.True(r.t, state.Clean(), "state differs: %s", state.String())
}

// state compares the replay of both changelogs with the oracle, and the stores with the changelogs.
func (r *Run) state(ctx context.Context, firstDirs, secondDirs []string) (oracle.Verdict, error) {
	var all oracle.Verdict
	first, second := oracle.ExpectState(r.Events)
	for _, s := range []struct {
		topology, changelog string
		expected            oracle.Expected
		dirs                []string
	}{
		{r.Names.First, r.Names.FirstLog, first, firstDirs}, {r.Names.Second, r.Names.SecondLog, second, secondDirs},
	} {
		log, err := oracle.ReadChangelog(ctx, r.Broker.Addrs, s.changelog)
		if err != nil {
			return all, err
		}
		replay, err := log.Replay()
		if err != nil {
			return all, err
		}
		all.Add(s.expected.Compare(s.topology, replay))
		if len(s.dirs) == 0 {
			continue
		}
		stores, err := log.Stores(s.topology, s.dirs)
		if err != nil {
			return all, err
		}
		all.Add(stores)
	}
	return all, nil
}

// StateSettled waits until the changelogs give the state that the oracle expects: merges have come to
// their end. Check tells of what does not come.
func (r *Run) StateSettled() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), r.Stuck)
	defer cancel()
	for ctx.Err() == nil {
		verdict, err := r.state(ctx, nil, nil)
		if err == nil && verdict.Clean() {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// OpenTransactions are the transactional ids of the run whose transaction has not ended.
func (r *Run) OpenTransactions() []string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	listed, err := r.Admin.ListTransactions(ctx, nil, nil)
	require.NoError(r.t, err)
	var open []string
	for _, tx := range listed.Sorted() {
		switch tx.State {
		case "Ongoing", "PrepareCommit", "PrepareAbort":
			open = append(open, tx.TxnID)
		}
	}
	return open
}

// Open says whether the transaction of an instance has not ended.
func (r *Run) Open(i *Instance) bool {
	return slices.Contains(r.OpenTransactions(), i.TransactionalID())
}

// Member says whether the group of an instance's stage counts the instance as a member.
func (r *Run) Member(i *Instance) bool {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	group := "sillage." + i.Topology()
	described, err := r.Admin.DescribeGroups(ctx, group)
	require.NoError(r.t, err)
	return slices.ContainsFunc(described[group].Members, func(m kadm.DescribedGroupMember) bool {
		return m.InstanceID != nil && *m.InstanceID == i.Name
	})
}

func (r *Run) count(v oracle.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Checked += v.Checked
	r.row.Lost += v.Lost
	r.row.Doubled += v.Doubled
	r.row.Swapped += v.Swapped
	r.row.Wrong += v.Wrong
}

func (r *Run) write() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Seconds = time.Since(r.begun).Seconds()
	r.row.Failed = r.t.Failed()
	r.t.Logf("injected %v, measured %v", r.row.Injected, r.row.Measured)
	require.NoError(r.t, report.Write(r.row))
}
