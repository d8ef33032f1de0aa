package kafka

import (
	"errors"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// spaceGuard refuses records while the disk is nearly full. The broker itself
// would take a batch's sequence for written when the write fails, and a retry
// for a duplicate: acknowledged and lost. What is kept free lets open
// transactions end and consumers commit.
type spaceGuard struct {
	broker  *Broker
	minFree uint64
	full    atomic.Bool
	armed   *kfake.Cluster // the broker that has the hook
}

// check looks at the disk and starts or ends the refusal.
func (g *spaceGuard) check() {
	b := g.broker
	free, err := b.dir.free()
	if err != nil {
		b.logMaintenance("cannot watch the disk space", err)
		return
	}
	full := free < g.minFree
	if was := g.full.Swap(full); full && !was {
		b.logMaintenance("refuses records", lowSpace(b.cfg.DataDir, free, g.minFree))
	}
	if full {
		g.arm()
	}
}

// arm registers the hook on the current broker, once; it leaves when there is
// space again, so that it costs nothing otherwise.
func (g *spaceGuard) arm() {
	cluster := g.broker.running()
	if g.armed == cluster {
		return
	}
	g.armed = cluster
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r, ok := req.(*kmsg.ProduceRequest)
		if !ok || !g.full.Load() {
			return nil, nil, false
		}
		if r.Acks == 0 {
			return nil, errors.New("the disk is nearly full, and this producer wants no answer"), true
		}
		return refuseProduce(r), nil, true
	})
}

func refuseProduce(r *kmsg.ProduceRequest) kmsg.Response {
	resp := &kmsg.ProduceResponse{Version: r.Version}
	for _, t := range r.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.KafkaStorageError.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
