package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/stream"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/network"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/oracle"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/report"
	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
)

// persons keeps what a person did and the sends that wait: "e<n>" is an event, noted under its name; "s<n>
// <milliseconds>" is a send, noted as pending until its timer hands it out. What comes twice, and a timer
// without its note, is an error.
type persons struct{ sent string }

func (persons) Process(ctx *stream.Context, rec stream.Record) error {
	name, delay, later := strings.Cut(string(rec.Value), " ")
	if strings.Contains(name, ":") {
		return nil // a merge
	}
	if _, ok := ctx.Get(name); ok {
		return fmt.Errorf("%s came twice", name)
	}
	ctx.Put(name, []byte{1})
	if !later {
		return nil
	}
	ms, err := strconv.Atoi(delay)
	if err != nil {
		return err
	}
	ctx.Put("pending "+name, []byte{1})
	ctx.SetTimer(name, ctx.Now().Add(time.Duration(ms)*time.Millisecond), []byte(name))
	return nil
}

func (p persons) Timer(ctx *stream.Context, timer stream.Timer) error {
	if _, ok := ctx.Get("pending " + timer.ID); !ok {
		return fmt.Errorf("the timer of %s fired without what it is for", timer.ID)
	}
	ctx.Delete("pending " + timer.ID)
	ctx.Emit(p.sent, ctx.Key(), timer.Payload)
	return nil
}

func (persons) Merge(dst *stream.Context, src *stream.Source) error {
	var err error
	src.Range("", func(name string, value []byte) bool {
		if _, ok := dst.Get(name); ok {
			err = errors.Join(err, fmt.Errorf("%s came twice", name))
		}
		dst.Put(name, value)
		return true
	})
	src.Timers(func(id string, due time.Time, payload []byte) bool {
		dst.SetTimer(id, due, payload)
		return true
	})
	return err
}

func personMerges(rec stream.Record) stream.Merge {
	parts := strings.Split(string(rec.Value), ":")
	if len(parts) != 3 {
		return stream.Merge{}
	}
	m := stream.Merge{Other: []byte(parts[1]), ID: parts[2], Kind: stream.MergeInto}
	if parts[0] == "announce" {
		m.Kind = stream.MergeAnnounced
	}
	return m
}

// mergeStory is what is sent, and who is who in the end.
type mergeStory struct {
	records []*kgo.Record
	same    map[string]string // union-find
	event   map[string]string // → the key that it was sent under
	sends   map[string]bool
	merges  int
}

const (
	mergeTopic      = "persons.in"
	mergeSent       = "persons.sent"
	mergePartitions = 4
	// mergeGroup keys may become one person.
	mergeGroup = 8
)

func (s *mergeStory) find(key string) string {
	for s.same[key] != "" {
		key = s.same[key]
	}
	return key
}

func (s *mergeStory) send(key, value string) {
	s.records = append(s.records, &kgo.Record{Topic: mergeTopic, Key: []byte(key), Value: []byte(value)})
}

// tellMerges makes a story of so many events: one in twelve steps is a merge of two keys of a group, in
// any direction and as often as it comes, announced before, after or not at all.
func tellMerges(rng *rand.Rand, events int) *mergeStory {
	s := &mergeStory{same: make(map[string]string), event: make(map[string]string), sends: make(map[string]bool)}
	groups := max(2, events/150)
	for n := 0; len(s.event) < events; n++ {
		group := rng.IntN(groups)
		key := func() string { return fmt.Sprintf("g%d-%d", group, rng.IntN(mergeGroup)) }
		a, b := key(), key()
		switch draw := rng.IntN(24); {
		case draw < 2 && a != b:
			s.merge(rng, a, b, fmt.Sprint("m", n))
		case draw == 2 && a != b && rng.IntN(4) == 0:
			s.send(b, fmt.Sprintf("announce:%s:m%d", a, n)) // and nothing follows
		case draw < 8:
			s.event[fmt.Sprint("s", n)], s.sends[fmt.Sprint("s", n)] = a, true
			s.send(a, fmt.Sprintf("s%d %d", n, rng.IntN(3000)))
		default:
			s.event[fmt.Sprint("e", n)] = a
			s.send(a, fmt.Sprint("e", n))
		}
	}
	return s
}

func (s *mergeStory) merge(rng *rand.Rand, a, b, id string) {
	s.merges++
	into, announce := "into:"+b+":"+id, "announce:"+a+":"+id
	switch rng.IntN(4) {
	case 0:
		s.send(a, into)
	case 1:
		s.send(a, into)
		s.send(b, announce)
	default:
		s.send(b, announce)
		s.send(a, into)
	}
	if x, y := s.find(a), s.find(b); x != y {
		s.same[x] = y
	}
}

// verdict compares state with the people known in advance: each person's history in one place, nothing
// pending.
func (s *mergeStory) verdict(state map[oracle.Entry][]byte) oracle.Verdict {
	v := oracle.Verdict{Checked: len(s.event)}
	home := make(map[string]string) // person → key that has it
	times := make(map[string]int)   // event → how often it is there
	note := func(n *int, text string) { *n++; v.Examples = append(v.Examples, text) }
	for _, e := range slices.SortedFunc(maps.Keys(state), func(a, b oracle.Entry) int { return strings.Compare(a.Name+a.Key, b.Name+b.Key) }) {
		sent, known := s.event[e.Name]
		switch {
		case e.Kind == 'r':
		case e.Kind != 's' || !known:
			note(&v.Wrong, fmt.Sprintf("key %s still has %q", e.Key, e.Name))
		default:
			person := s.find(sent)
			if home[person] == "" {
				home[person] = e.Key
			}
			if home[person] != e.Key {
				note(&v.Wrong, fmt.Sprintf("%s of one person is at %s and others are at %s", e.Name, e.Key, home[person]))
			}
			if times[e.Name]++; times[e.Name] > 1 {
				note(&v.Doubled, e.Name+" is there twice")
			}
		}
	}
	for e := range s.event {
		if times[e] == 0 {
			note(&v.Lost, e+" is not there")
		}
	}
	v.Examples = v.Examples[:min(len(v.Examples), 20)]
	return v
}

// unkind loses requests and answers at the ends of transactions.
func unkind(rng *rand.Rand, injected func(string)) func(network.Request) network.Verdict {
	var mu sync.Mutex
	return func(req network.Request) network.Verdict {
		mu.Lock()
		defer mu.Unlock()
		odds := 400
		if req.Key == kmsg.EndTxn || req.Key == kmsg.TxnOffsetCommit {
			odds = 25
		}
		switch rng.IntN(odds) {
		case 0:
			injected("answers lost")
			return network.Verdict{Fate: network.LoseAnswer}
		case 1:
			injected("requests lost")
			return network.Verdict{Fate: network.LoseRequest}
		}
		return network.Verdict{}
	}
}

// mergeRun is one repetition.
type mergeRun struct {
	t      *testing.T
	rng    *rand.Rand
	broker rig.Broker
	story  *mergeStory
	stages []*inside

	mu  sync.Mutex // guards row
	row report.Row
}

// TestMergesUnderFaultsOnKafka merges keys in chains, crossings and cycles, with histories, late events and
// sends that wait, in several instances that are cut off, come back as zombies, are stopped, and lose their
// disks: at the end each person's history is in one place and every send went out once.
//
// What happens between any two steps of the engine is for the test of the same name in pkg/stream.
func TestMergesUnderFaultsOnKafka(t *testing.T) {
	rig.Each(t, 5, func(t *testing.T, broker rig.Broker, seed uint64) {
		events, over := 2500, 3*time.Second
		if rig.Full() {
			events, over = 200_000, time.Minute
		}
		rng := rand.New(rand.NewPCG(seed, 21))
		r := &mergeRun{t: t, rng: rng, broker: broker, story: tellMerges(rng, events)}
		r.row = report.Row{Scenario: "merges", What: "chains and cycles of merges under faults", Broker: broker.Kind, Seed: seed,
			Events: events, Injected: map[string]int{"merges": r.story.merges}, Measured: make(map[string]float64)}
		begun := time.Now()
		t.Cleanup(func() {
			r.row.Seconds, r.row.Failed = time.Since(begun).Seconds(), t.Failed()
			t.Logf("injected %v, measured %v", r.row.Injected, r.row.Measured)
			require.NoError(t, report.Write(r.row))
		})
		r.prepare()
		fed := make(chan error, 1)
		go func() { fed <- r.feed(over) }()
		r.harass(fed)
		r.settle()
		r.check()
	})
}

func (r *mergeRun) inject(kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row.Injected[kind]++
}

func (r *mergeRun) prepare() {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addrs...))
	require.NoError(r.t, err)
	defer client.Close()
	for _, topic := range []string{mergeTopic, mergeSent} {
		_, err := kadm.NewClient(client).CreateTopic(context.Background(), mergePartitions, -1, nil, topic)
		if !errors.Is(err, kerr.TopicAlreadyExists) {
			require.NoError(r.t, err)
		}
	}
	topology := stream.Topology{
		Name: "persons", Inputs: []string{mergeTopic}, Outputs: []string{mergeSent},
		New: func() stream.Processor { return persons{sent: mergeSent} }, Merges: personMerges, MergeWait: time.Second,
	}
	for range 3 {
		stage := newInside(r.t, topology, r.broker.Addrs)
		stage.network = network.New(unkind(rand.New(rand.NewPCG(r.rng.Uint64(), 1)), r.inject))
		stage.start()
		r.stages = append(r.stages, stage)
	}
}

func (r *mergeRun) feed(over time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.broker.Addrs...))
	if err != nil {
		return fmt.Errorf("making the client that feeds: %w", err)
	}
	defer client.Close()
	const slices = 100
	pause := time.NewTicker(over / slices)
	defer pause.Stop()
	step := len(r.story.records)/slices + 1
	for i := 0; i < len(r.story.records); i += step {
		if err := client.ProduceSync(context.Background(), r.story.records[i:min(i+step, len(r.story.records))]...).FirstErr(); err != nil {
			return fmt.Errorf("feeding: %w", err)
		}
		<-pause.C
	}
	return nil
}

// harass does something to an instance now and then until all is fed.
func (r *mergeRun) harass(fed <-chan error) {
	r.t.Helper()
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for {
		select {
		case err := <-fed:
			require.NoError(r.t, err)
			return
		case <-pause.C:
		}
		stage := r.stages[r.rng.IntN(len(r.stages))]
		switch r.rng.IntN(5) {
		case 0, 1:
			stage.network.Cut()
			r.inject("cut off")
		case 2:
			stage.network.Mend()
		case 3:
			stage.stop()
			stage.start()
			r.inject("restarts")
		case 4:
			stage.stop()
			require.NoError(r.t, os.RemoveAll(stage.dir))
			stage.start()
			r.inject("disks wiped")
		}
	}
}

// settle waits until the changelog says what it must.
func (r *mergeRun) settle() {
	r.t.Helper()
	for _, stage := range r.stages {
		stage.network.Mend()
	}
	begun, moved, left := time.Now(), time.Now(), -1
	looks := time.NewTicker(200 * time.Millisecond)
	defer looks.Stop()
	for range looks.C {
		state, err := r.state()
		v := r.story.verdict(state)
		if err == nil && v.Clean() {
			break
		}
		if now := v.Lost + v.Wrong; now != left {
			moved, left = time.Now(), now
		}
		require.Less(r.t, time.Since(moved), time.Minute, "the people are not who they should be: %s\n%v\n%s", v.String(), err, goroutines())
	}
	r.row.Measured["settled after s"] = time.Since(begun).Seconds()
	for _, stage := range r.stages {
		stage.stop()
	}
}

func (r *mergeRun) state() (map[oracle.Entry][]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), stuckAfter)
	defer cancel()
	log, err := oracle.ReadChangelog(ctx, r.broker.Addrs, "persons.changelog")
	if err != nil {
		return nil, err
	}
	return log.Replay()
}

// check looks at everything once more, with nobody running.
func (r *mergeRun) check() {
	r.t.Helper()
	state, err := r.state()
	require.NoError(r.t, err)
	v := r.story.verdict(state)
	sent := make(map[string]int)
	for _, rec := range readAll(r.t, r.broker.Addrs, mergeSent) {
		if sent[string(rec.Value)]++; sent[string(rec.Value)] > 1 {
			v.Doubled++
		}
	}
	v.Checked += len(r.story.sends)
	for id := range r.story.sends {
		if sent[id] == 0 {
			v.Lost++
		}
	}
	r.row.Checked, r.row.Lost, r.row.Doubled, r.row.Wrong = v.Checked, v.Lost, v.Doubled, v.Wrong
	require.True(r.t, v.Clean(), v.String())
	require.Len(r.t, sent, len(r.story.sends))
	require.Empty(r.t, readAll(r.t, r.broker.Addrs, "persons.dlq"))
}
