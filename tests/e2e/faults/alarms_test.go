package faults

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sillage-cdp/sillage/pkg/stream"
)

// alarms does what its records ask for. "set <when> ...": one field for each timer of the key, milliseconds
// after the start, "off" to cancel it or "-" to leave it as it is. "event <n>": says that it has seen it,
// and sets a timer that is due already. "jump" and "probe" are for the watch. Each timer that fires is told.
type alarms struct {
	start time.Time
	out   string
	watch *watch
}

func (a alarms) Process(ctx *stream.Context, rec stream.Record) error {
	switch fields := strings.Fields(string(rec.Value)); fields[0] {
	case "jump":
		a.watch.jump()
		a.watch.probe(rec)
	case "probe":
		a.watch.probe(rec)
	case "event":
		ctx.Emit(a.out, ctx.Key(), []byte("seen"+fields[1]+" 0"))
		ctx.SetTimer("event"+fields[1], ctx.Now(), nil)
	default:
		return a.set(ctx, fields[1:])
	}
	return nil
}

func (a alarms) set(ctx *stream.Context, fields []string) error {
	for j, field := range fields {
		id := fmt.Sprintf("%s-%d", ctx.Key(), j)
		switch field {
		case "-":
		case "off":
			ctx.CancelTimer(id)
		default:
			ms, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return err
			}
			ctx.SetTimer(id, a.start.Add(time.Duration(ms)*time.Millisecond), []byte(field))
		}
	}
	return nil
}

func (a alarms) Timer(ctx *stream.Context, timer stream.Timer) error {
	if ctx.Now().Before(timer.Due) {
		return fmt.Errorf("timer %s of %s fired at %s", timer.ID, timer.Due, ctx.Now())
	}
	due := strconv.FormatInt(timer.Due.Sub(a.start).Milliseconds(), 10)
	if len(timer.Payload) > 0 && string(timer.Payload) != due {
		return fmt.Errorf("timer %s is due at %s and has the payload of %s", timer.ID, due, timer.Payload)
	}
	a.watch.fired(ctx.Key())
	ctx.Emit(a.out, ctx.Key(), []byte(timer.ID+" "+due))
	return nil
}

func (alarms) Merge(*stream.Context, *stream.Source) error {
	return errors.New("keys do not merge here")
}

// watch counts the timers that fire in partition 0 between two of its probes, and slows timers down. It is
// a hook of the stage's client: only between records of one fetch is it certain that the second was there
// for the stage to take.
type watch struct {
	jump        func()
	partitionOf func(key []byte) int32

	mu     sync.Mutex // guards what follows
	head   bool       // an answer to a fetch has been read
	heads  map[int64]bool
	probes int
	gap    int // timers since the last probe
	worst  int
	gaps   int // between records of one fetch, with timers in between
	brake  int // how many may fire before the others take their time; 0: all
	count  int
}

func newWatch(partitions int, jump func()) *watch {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("")
	return &watch{jump: jump, heads: make(map[int64]bool), partitionOf: func(key []byte) int32 {
		return int32(partitioner.Partition(&kgo.Record{Key: key}, partitions))
	}}
}

// OnBrokerRead begins a new fetch. The client asks for more of a partition only when it has given out what
// it had.
func (w *watch) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == int16(kmsg.Fetch) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.head = true
	}
}

// OnFetchRecordBuffered notes the first record of a fetch.
func (w *watch) OnFetchRecordBuffered(rec *kgo.Record) {
	if rec.Topic != alarmTopic || rec.Partition != 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head {
		w.heads[rec.Offset], w.head = true, false
	}
}

// slow lets so many timers fire, and those after them take their time, so that there is a middle to stop
// in; 0 ends it.
func (w *watch) slow(after int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.brake, w.count = after, 0
}

func (w *watch) fired(key []byte) {
	w.mu.Lock()
	w.count++
	slow := w.brake > 0 && w.count > w.brake
	if w.partitionOf(key) == 0 {
		w.gap++
	}
	w.mu.Unlock()
	if slow {
		<-time.After(10 * time.Millisecond)
	}
}

// probe ends a gap and begins the next.
func (w *watch) probe(rec stream.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.heads[rec.Offset] && w.gap > 0 {
		w.worst = max(w.worst, w.gap)
		w.gaps++
	}
	w.gap = 0
	w.probes++
}

func (w *watch) probed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probes
}

func (w *watch) worstGap() (worst, gaps int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.worst, w.gaps
}
