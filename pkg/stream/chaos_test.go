package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/clock"
	"github.com/sillage-cdp/sillage/pkg/kafkatest"
	"github.com/sillage-cdp/sillage/pkg/telemetry"
)

// chainer folds the values of a key into a chain of hashes: a lost, doubled or swapped record changes all
// that comes after it. "t<ms>:<id>" sets a timer of its own; "bad" cannot be handled.
type chainer struct{}

func (chainer) Process(ctx *Context, rec Record) error {
	if string(rec.Value) == "bad" {
		ctx.Put("chain", []byte("must be undone"))
		ctx.Emit("chain-out", ctx.Key(), []byte("must be undone"))
		return errors.New("told to")
	}
	chain, _ := ctx.Get("chain")
	next := link(chain, rec.Value)
	ctx.Put("chain", next)
	ctx.Emit("chain-out", ctx.Key(), fmt.Appendf(nil, "%s %x", rec.Value, next))
	if delay, id, ok := strings.Cut(string(rec.Value), ":"); ok && delay[0] == 't' {
		ms, err := strconv.Atoi(delay[1:])
		if err != nil {
			return err
		}
		ctx.SetTimer(id, ctx.Now().Add(time.Duration(ms)*time.Millisecond), []byte(id))
	}
	return nil
}

func (chainer) Timer(ctx *Context, timer Timer) error {
	ctx.Emit("chain-fired", ctx.Key(), timer.Payload)
	return nil
}

func (chainer) Merge(*Context, *Source) error { return errors.New("keys do not merge here") }

func link(chain, value []byte) []byte {
	h := fnv.New64a()
	_, _ = h.Write(chain)
	_, _ = h.Write(value)
	return binary.BigEndian.AppendUint64(nil, h.Sum64())
}

func chainTopology() Topology {
	return Topology{
		Name: "chain", Inputs: []string{"chain-in", "chain-in2"}, Outputs: []string{"chain-out", "chain-fired"},
		New: func() Processor { return chainer{} },
	}
}

// badNetwork is a dialer whose connections lose requests and answers. lose is asked before each request.
type badNetwork struct {
	// via is how connections are made; net.Dialer if nil.
	via  func(ctx context.Context, network, host string) (net.Conn, error)
	lose func(key int16) loss
	cut  atomic.Bool

	mu    sync.Mutex
	conns map[*badConn]bool
}

type loss int

const (
	loseNothing loss = iota
	loseRequest
	loseAnswer
)

// errCut is what a torn connection gives: an error of the operating system, which clients try again on.
var errCut error = &net.OpError{Op: "cut", Net: "tcp", Err: os.NewSyscallError("cut", syscall.ECONNRESET)}

func newBadNetwork(lose func(key int16) loss) *badNetwork {
	return &badNetwork{lose: lose, conns: make(map[*badConn]bool)}
}

func (n *badNetwork) dial(ctx context.Context, network, host string) (net.Conn, error) {
	if n.cut.Load() {
		return nil, errCut
	}
	via := n.via
	if via == nil {
		via = (&net.Dialer{}).DialContext
	}
	conn, err := via(ctx, network, host)
	if err != nil {
		return nil, err
	}
	c := &badConn{Conn: conn, net: n}
	n.mu.Lock()
	n.conns[c] = true
	n.mu.Unlock()
	return c, nil
}

// setCut takes the network away (connections freeze, as for a process that is stopped) or gives it back.
func (n *badNetwork) setCut(cut bool) {
	n.cut.Store(cut)
	if !cut {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.Close()
		delete(n.conns, c)
	}
}

type badConn struct {
	net.Conn
	net    *badNetwork
	silent atomic.Bool
}

func (c *badConn) Write(p []byte) (int, error) {
	if len(p) >= 6 && c.net.lose != nil {
		switch c.net.lose(int16(binary.BigEndian.Uint16(p[4:6]))) {
		case loseRequest:
			return 0, errors.Join(errCut, c.Close())
		case loseAnswer:
			c.silent.Store(true)
		case loseNothing:
		}
	}
	return c.Conn.Write(p)
}

func (c *badConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.silent.Load() && err == nil {
		return 0, errors.Join(errCut, c.Close())
	}
	return n, err
}

// workload makes records and knows what must come of them.
type workload struct {
	records []*kgo.Record
	chains  map[string][]string // what "chain-out" must hold for each key
	fired   map[string]bool     // what "chain-fired" must hold, once each
	bad     int
}

func newWorkload(rng *rand.Rand, records int) *workload {
	w := &workload{chains: make(map[string][]string), fired: make(map[string]bool)}
	state := make(map[string][]byte)
	for i := range records {
		key := fmt.Sprint("key-", rng.IntN(40))
		value := fmt.Sprint("v", i)
		switch rng.IntN(20) {
		case 0:
			value = "bad"
		case 1, 2:
			value = fmt.Sprintf("t%d:%d", rng.IntN(1500), i)
			w.fired[fmt.Sprint(key, " ", i)] = true
		}
		// One topic for each key: the order across topics is not defined.
		topic := "chain-in"
		if len(key)%2 == 0 {
			topic = "chain-in2"
		}
		w.records = append(w.records, record(topic, key, value))
		if value == "bad" {
			w.bad++
			continue
		}
		state[key] = link(state[key], []byte(value))
		w.chains[key] = append(w.chains[key], fmt.Sprintf("%s %x", value, state[key]))
	}
	return w
}

func (w *workload) outputs() int { return len(w.records) - w.bad + len(w.fired) + w.bad }

// check compares everything that a read-committed reader sees with what must be there.
func (w *workload) check(t *testing.T, records []*kgo.Record) {
	t.Helper()
	chains := make(map[string][]string)
	fired := make(map[string]int)
	bad := 0
	for _, r := range records {
		switch r.Topic {
		case "chain-out":
			chains[string(r.Key)] = append(chains[string(r.Key)], string(r.Value))
		case "chain-fired":
			fired[fmt.Sprint(string(r.Key), " ", string(r.Value))]++
		case "chain.dlq":
			bad++
		}
	}
	require.Equal(t, w.chains, chains)
	for id := range w.fired {
		require.Equal(t, 1, fired[id], "timer %s", id)
	}
	require.Len(t, fired, len(w.fired))
	require.Equal(t, w.bad, bad)
}

// feed produces the records in small batches over about the given time.
func (w *workload) feed(t *testing.T, brokers []string, over time.Duration) {
	t.Helper()
	require.NoError(t, w.produce(brokers, over))
}

// feeding is feed beside what the test does; it says how it went.
func (w *workload) feeding(brokers []string, over time.Duration) <-chan error {
	fed := make(chan error, 1)
	go func() { fed <- w.produce(brokers, over) }()
	return fed
}

func (w *workload) produce(brokers []string, over time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	const batch = 50
	pause := time.NewTicker(max(over*batch/time.Duration(len(w.records)), time.Millisecond))
	defer pause.Stop()
	for i := 0; i < len(w.records); i += batch {
		if err := client.ProduceSync(context.Background(), w.records[i:min(i+batch, len(w.records))]...).FirstErr(); err != nil {
			return err
		}
		<-pause.C
	}
	return nil
}

// envSeed, if set, is the seed of every random test here.
const envSeed = "SILLAGE_TEST_SEED"

func newSeed(t *testing.T) *rand.Rand { return rand.New(rand.NewPCG(seedOf(t), 0)) }

func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(envSeed); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, envSeed)
	}
	t.Logf("seed %d (again: %s=%d)", seed, envSeed, seed)
	return seed
}

// quickConfig finds out soon that an instance is gone; Apache Kafka allows no less than six seconds.
func quickConfig(brokers []string, dir string) Config {
	session := 2 * time.Second
	if os.Getenv(kafkatest.EnvKafka) == "apache" {
		session = 6 * time.Second
	}
	return Config{
		Kafka: kafkaConfig(brokers), DataDir: dir, CommitInterval: 20 * time.Millisecond,
		SessionTimeout: session, TransactionTimeout: 2 * time.Second, MaxBatchRecords: 200,
	}
}

// TestLostRequestsAndAnswers loses requests and answers of every kind, at random places.
func TestLostRequestsAndAnswers(t *testing.T) {
	rng := newSeed(t)
	cluster := startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired")
	brokers := cluster.ListenAddrs()
	w := newWorkload(rng, 4000)
	var mu sync.Mutex
	lost := 0
	network := newBadNetwork(func(key int16) loss {
		mu.Lock()
		defer mu.Unlock()
		odds := 200
		switch kmsg.Key(key) {
		case kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn, kmsg.AddPartitionsToTxn:
			odds = 12
		default:
		}
		if lost >= 40 || rng.IntN(odds) != 0 {
			return loseNothing
		}
		lost++
		return loss(1 + rng.IntN(2))
	})
	deps := testDeps(t)
	deps.KafkaOptions = []kgo.Opt{kgo.Dialer(network.dial)}
	startRunner(t, chainTopology(), quickConfig(brokers, t.TempDir()), deps)
	out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")
	w.feed(t, brokers, 3*time.Second)
	out.waitFor(t, w.outputs())
	mu.Lock()
	t.Logf("%d requests or answers lost", lost)
	mu.Unlock()
	w.check(t, out.all())
}

// TestInstancesComeAndGo lets instances join, leave in order, and vanish behind a cut network (to come
// back as zombies), all the while records flow.
func TestInstancesComeAndGo(t *testing.T) {
	rng := newSeed(t)
	cluster := startKfake(t, "chain-in", "chain-in2", "chain-out", "chain-fired")
	brokers := cluster.ListenAddrs()
	w := newWorkload(rng, 6000)
	out := startTail(t, brokers, "chain-out", "chain-fired", "chain.dlq")

	fed := w.feeding(brokers, 6*time.Second)
	type instance struct {
		runner  *Runner
		network *badNetwork
	}
	var live []instance
	start := func() {
		network := newBadNetwork(nil)
		deps := Deps{Clock: clock.System{}, Logger: testLogger(t), Telemetry: telemetry.Nop(), KafkaOptions: []kgo.Opt{kgo.Dialer(network.dial)}}
		live = append(live, instance{startRunner(t, chainTopology(), quickConfig(brokers, t.TempDir()), deps), network})
	}
	start()
	pause := time.NewTicker(300 * time.Millisecond)
	defer pause.Stop()
	for running := true; running; {
		<-pause.C
		select {
		case err := <-fed:
			require.NoError(t, err)
			running = false
		default:
		}
		i := rng.IntN(len(live))
		switch rng.IntN(4) {
		case 0, 1:
			if len(live) < 4 {
				start()
			}
		case 2:
			if len(live) > 1 {
				live[i].network.setCut(false)
				stopRunner(t, live[i].runner)
				live = append(live[:i], live[i+1:]...)
			}
		case 3:
			live[i].network.setCut(!live[i].network.cut.Load())
		}
	}
	for _, in := range live {
		in.network.setCut(false)
	}
	out.waitFor(t, w.outputs())
	w.check(t, out.all())
}
