package dispatch

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	deliveryv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/delivery/v1"
)

// laneLeast is how many sends of one lane a partition holds in memory at least, however full it is: what
// the lane's own attempts need.
const laneLeast = 2 * laneParallel

// partition is a partition that this instance owns: its deliveries live as long as it does.
//
// Sends that a lane cannot take yet do not hold up those of other lanes: beyond its share of the memory a
// lane's sends are put off, which keeps their offsets only, and read again from Kafka when the lane has
// room. Shares follow the dynamic thresholds of shared-memory switches (Choudhury and Hahne, 1998): a
// lane may hold as much as is free, so that there is always something free for another one.
type partition struct {
	number int32
	ctx    context.Context
	cancel context.CancelFunc
	jobs   sync.WaitGroup
	limit  int // sends in memory, all lanes together, beyond which a lane gets no more than laneLeast

	mu       sync.Mutex // guards what follows
	mark     watermark
	epoch    int32
	dirty    bool // the watermark moved since the last commit
	paused   bool
	held     int
	queues   map[string]*queue
	reported map[string]struct{} // sends reported before this instance got the partition
	// floor, horizon and reports are offsets: where the known reports begin, how far sends went, and
	// how far reports went when the partition was taken over; reports moves on with every report.
	floor, horizon, reports int64
}

// queue is what a partition has for one lane.
type queue struct {
	held     int // in memory, or being read for it
	putOff   []int64
	fetching bool
}

func newPartition(number int32, limit int) *partition {
	ctx, cancel := context.WithCancel(context.Background())
	return &partition{number: number, ctx: ctx, cancel: cancel, limit: limit, queues: map[string]*queue{}, reported: map[string]struct{}{}}
}

// parcel is a send with the lane that it takes.
type parcel struct {
	offset int64
	lane   string
	send   *deliveryv1.Send
	rec    *kgo.Record
}

// sendKey is unique among all sends of all tenants.
func sendKey(tenant, sendID string) string { return tenant + "/" + sendID }

func laneKey(send *deliveryv1.Send) string { return send.GetTenant() + "/" + send.GetChannel() }

// note takes a record's offset in. The caller holds mu.
func (p *partition) note(offset int64, epoch int32) {
	reports := p.reports
	if offset < p.horizon {
		reports = p.floor
	}
	p.mark.add(offset, reports)
	p.epoch = epoch
}

// done moves the watermark over a record. The caller holds mu.
func (p *partition) done(offset int64) {
	if _, moved := p.mark.finish(offset); moved {
		p.dirty = true
	}
}

// share is how many sends a lane may hold now. The caller holds mu.
func (p *partition) share() int { return max(laneLeast, p.limit-p.held) }

// admit says whether a send may start now; else its offset was put off. The caller holds mu.
func (p *partition) admit(lane string, offset int64) bool {
	q := p.queues[lane]
	if q == nil {
		q = &queue{}
		p.queues[lane] = q
	}
	if len(q.putOff) > 0 || q.held >= p.share() {
		q.putOff = append(q.putOff, offset)
		return false
	}
	q.held++
	p.held++
	return true
}

// leave takes a send out of its lane and returns the offsets to read again now that there is room, if it
// is time to. The caller holds mu.
func (p *partition) leave(lane string) []int64 {
	p.queues[lane].held--
	p.held--
	return p.more(lane)
}

// fetched ends a reading of what was put off, and returns what to read next like leave. The caller holds mu.
func (p *partition) fetched(lane string) []int64 {
	p.queues[lane].fetching = false
	return p.more(lane)
}

func (p *partition) more(lane string) []int64 {
	q := p.queues[lane]
	switch share := p.share(); {
	case q.fetching || p.ctx.Err() != nil:
		return nil
	case len(q.putOff) == 0:
		if q.held == 0 {
			delete(p.queues, lane)
		}
		return nil
	case q.held > share/2:
		return nil
	default:
		n := min(len(q.putOff), share-q.held)
		offsets := q.putOff[:n:n]
		q.putOff = q.putOff[n:]
		q.held += n
		p.held += n
		q.fetching = true
		return offsets
	}
}
