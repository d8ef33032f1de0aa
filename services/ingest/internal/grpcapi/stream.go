package grpcapi

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	ingestv1 "github.com/sillage-cdp/sillage/proto/gen/go/sillage/ingest/v1"
	"github.com/sillage-cdp/sillage/services/ingest/internal/intake"
)

const (
	// maxWaiting and maxWaitingBytes bound the requests of a stream that wait while others are written.
	maxWaiting      = 1000
	maxWaitingBytes = 1 << 20
	// maxTogether and maxTogetherBytes bound what is written together.
	maxTogether      = 1000
	maxTogetherBytes = 256 << 10
)

// TakeStream takes requests as they come and writes those that wait together.
func (s *Server) TakeStream(stream grpc.BidiStreamingServer[ingestv1.TakeStreamRequest, ingestv1.TakeStreamResponse]) error {
	t := &taker{
		server: s, ctx: stream.Context(), who: caller(stream.Context()), send: stream.Send,
		waiting: make(chan waiting, maxWaiting), room: semaphore.NewWeighted(maxWaitingBytes),
	}
	received := make(chan error, 1)
	// It ends once the client has no more, or, as all that it waits for does, when this method returns.
	go func() { received <- t.receive(stream.Recv) }()
	if err := t.run(); err != nil {
		return err
	}
	return <-received
}

// waiting is a request that waits, and what it holds of the stream's room.
type waiting struct {
	request *ingestv1.TakeRequest
	size    int64
}

// taker takes the requests of one stream.
type taker struct {
	server   *Server
	ctx      context.Context //nolint:containedctx // a taker is as long as its stream
	who      who
	send     func(*ingestv1.TakeStreamResponse) error
	waiting  chan waiting
	room     *semaphore.Weighted
	sequence int64
}

// receive puts requests into the queue until the client has no more, or the taker has failed.
func (t *taker) receive(next func() (*ingestv1.TakeStreamRequest, error)) error {
	defer close(t.waiting)
	for {
		req, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		size := min(int64(req.SizeVT()), maxWaitingBytes)
		if t.room.Acquire(t.ctx, size) != nil {
			return nil // the stream is over
		}
		select {
		case t.waiting <- waiting{req.GetRequest(), size}:
		case <-t.ctx.Done():
			return nil
		}
	}
}

// run answers requests until there are no more.
func (t *taker) run() error {
	var ahead *waiting
	for {
		first := ahead
		if first == nil {
			next, ok := <-t.waiting
			if !ok {
				return nil
			}
			first = &next
		}
		var together []waiting
		together, ahead = t.gather([]waiting{*first})
		if err := t.take(together); err != nil {
			return err
		}
	}
}

// gather adds the requests that wait already, as far as they fit; the first that does not is given back.
func (t *taker) gather(together []waiting) (fitting []waiting, ahead *waiting) {
	events, size := len(together[0].request.GetEvents()), together[0].size
	for {
		select {
		case next, ok := <-t.waiting:
			if !ok {
				return together, nil
			}
			events += len(next.request.GetEvents())
			size += next.size
			if events > maxTogether || size > maxTogetherBytes || next.request.GetHistorical() != together[0].request.GetHistorical() {
				return together, &next
			}
			together = append(together, next)
		default:
			return together, nil
		}
	}
}

// take takes requests as one call, or in halves if they are too large for one, and answers each of them.
// Only a denial, which concerns the stream as a whole, ends it.
func (t *taker) take(together []waiting) error {
	var events []sent
	for _, w := range together {
		events = appendSent(events, w.request)
	}
	got, divide := t.server.take(t.ctx, t.who, events, lane{historical: together[0].request.GetHistorical(), divisible: len(together) > 1})
	if divide {
		half := len(together) / 2
		if err := t.take(together[:half]); err != nil {
			return err
		}
		return t.take(together[half:])
	}
	if got.Kind == intake.Denied {
		return failure(got)
	}
	var acks []*ingestv1.Acknowledgement
	if got.Kind == intake.Taken {
		acks = acknowledge(events, got.Outcome)
	}
	for _, w := range together {
		t.sequence++
		answer := &ingestv1.TakeStreamResponse{Sequence: t.sequence}
		if got.Kind == intake.Taken {
			n := len(w.request.GetEvents())
			answer.Acknowledgements, acks = acks[:n], acks[n:]
		} else {
			answer.Reason, answer.RetryAfterMs = reason(got), got.Wait.Milliseconds()
		}
		t.room.Release(w.size)
		if err := t.send(answer); err != nil {
			return err
		}
	}
	return nil
}
